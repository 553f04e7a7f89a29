#pragma once
// Colours as DICOM files store them.

#include <array>
#include <cstdint>

#include "segmamba/io/png.h"

namespace segmamba::io {

// sRGB as L*a*b* of the ICC profile connection space (white point D50), scaled to 16 bits as PS3.3
// C.10.7.1.1 says: L* 0..100 and a*, b* -128..127 to 0..65535.
std::array<std::uint16_t, 3> to_dicom_cielab(const Colour& colour);

}  // namespace segmamba::io
