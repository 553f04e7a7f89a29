#include "nifti_voxels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

template <class T>
void swap_bytes(std::vector<T>& values) {
  for (T& value : values) {
    auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
    std::reverse(raw.begin(), raw.end());
    value = std::bit_cast<T>(raw);
  }
}

template <class T>
void refuse_not_finite(const NiftiFile& file, const std::vector<T>& voxels) {
  const auto bad =
      std::count_if(voxels.begin(), voxels.end(), [](T value) { return !std::isfinite(value); });
  if (bad == 0) return;
  throw NotFiniteError(concat(file.header_path.string(), ": ", bad, " of ", voxels.size(),
                              " voxels are NaN or infinite"));
}

template <class Scaled, class T>
std::vector<Scaled> scaled(const std::vector<T>& stored, double slope, double intercept) {
  std::vector<Scaled> voxels(stored.size());
  std::transform(stored.begin(), stored.end(), voxels.begin(), [&](T value) {
    return static_cast<Scaled>(static_cast<double>(value) * slope + intercept);
  });
  return voxels;
}

template <class T>
Voxels read_as(const NiftiFile& file, std::int64_t first_volume, std::int64_t volumes) {
  std::vector<T> voxels;
  // A damaged header may promise anything: room is made ahead only for what the file can hold. No
  // gzip file unpacks to more than this times its size.
  constexpr std::uintmax_t kLargestRatio = 1032;
  std::error_code error;
  const auto on_disk = std::filesystem::file_size(file.data_path, error);
  const std::int64_t begin = first_volume * file.header.volume_bytes();
  const std::int64_t end = begin + volumes * file.header.volume_bytes();
  const auto promised = static_cast<std::uintmax_t>(end - begin);
  const std::uintmax_t ratio = file.data_path.extension() == ".gz" ? kLargestRatio : 1;
  if (!error && promised / ratio <= on_disk) {
    voxels.reserve(static_cast<std::size_t>(promised / sizeof(T)));
  }
  std::int64_t position = 0;
  read_content(file, [&](std::span<const char> piece) {
    // The part of the piece that lies in the volumes asked for.
    const std::int64_t from = std::clamp<std::int64_t>(begin - position, 0, std::ssize(piece));
    const std::int64_t to = std::clamp<std::int64_t>(end - position, from, std::ssize(piece));
    position += std::ssize(piece);
    const std::size_t count = static_cast<std::size_t>(to - from) / sizeof(T);
    const std::size_t first = voxels.size();
    voxels.resize(first + count);
    std::memcpy(voxels.data() + first, piece.data() + from, count * sizeof(T));
  });
  if (file.header.swapped && sizeof(T) > 1) swap_bytes(voxels);
  if constexpr (std::is_floating_point_v<T>) refuse_not_finite(file, voxels);
  const double slope = file.header.slope, intercept = file.header.intercept;
  const bool is_unscaled = slope == 0 || std::isnan(slope) || (slope == 1 && intercept == 0);
  if (is_unscaled) return voxels;
  using Scaled = std::conditional_t<std::is_same_v<T, double>, double, float>;
  return scaled<Scaled>(voxels, slope, intercept);
}

}  // namespace

Voxels read_voxels(const NiftiFile& file, std::int64_t first, std::int64_t count) {
  switch (static_cast<NiftiType>(file.header.datatype)) {
    case NiftiType::kUint8:
      return read_as<std::uint8_t>(file, first, count);
    case NiftiType::kInt8:
      return read_as<std::int8_t>(file, first, count);
    case NiftiType::kUint16:
      return read_as<std::uint16_t>(file, first, count);
    case NiftiType::kInt16:
      return read_as<std::int16_t>(file, first, count);
    case NiftiType::kUint32:
      return read_as<std::uint32_t>(file, first, count);
    case NiftiType::kInt32:
      return read_as<std::int32_t>(file, first, count);
    case NiftiType::kUint64:
      return read_as<std::uint64_t>(file, first, count);
    case NiftiType::kInt64:
      return read_as<std::int64_t>(file, first, count);
    case NiftiType::kFloat32:
      return read_as<float>(file, first, count);
    case NiftiType::kFloat64:
      return read_as<double>(file, first, count);
  }
  // open_nifti lets no other type pass.
  throw Error(concat(file.header_path.string(), ": unknown data type ", file.header.datatype));
}

}  // namespace segmamba::io
