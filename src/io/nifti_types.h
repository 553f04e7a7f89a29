#pragma once
// The data types of NIfTI files as those of C++.

#include <cstdint>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/io/nifti_style.h"

namespace segmamba::io {

// Calls visitor.operator()<T>() with the type that voxels are stored as.
template <class Visitor>
auto visit_type(NiftiType type, const Visitor& visitor) {
  switch (type) {
    case NiftiType::kUint8:
      return visitor.template operator()<std::uint8_t>();
    case NiftiType::kInt8:
      return visitor.template operator()<std::int8_t>();
    case NiftiType::kUint16:
      return visitor.template operator()<std::uint16_t>();
    case NiftiType::kInt16:
      return visitor.template operator()<std::int16_t>();
    case NiftiType::kUint32:
      return visitor.template operator()<std::uint32_t>();
    case NiftiType::kInt32:
      return visitor.template operator()<std::int32_t>();
    case NiftiType::kUint64:
      return visitor.template operator()<std::uint64_t>();
    case NiftiType::kInt64:
      return visitor.template operator()<std::int64_t>();
    case NiftiType::kFloat32:
      return visitor.template operator()<float>();
    case NiftiType::kFloat64:
      return visitor.template operator()<double>();
  }
  throw Error(concat("unknown NIfTI data type ", static_cast<int>(type)));
}

}  // namespace segmamba::io
