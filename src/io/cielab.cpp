#include "cielab.h"

#include <algorithm>
#include <cmath>

namespace segmamba::io {
namespace {

// IEC 61966-2-1.
double linear(std::uint8_t channel) {
  const double value = channel / 255.0;
  return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

// ISO/CIE 11664-4.
double companded(double ratio) {
  constexpr double kDelta = 6.0 / 29;
  return ratio > kDelta * kDelta * kDelta ? std::cbrt(ratio)
                                          : ratio / (3 * kDelta * kDelta) + 4.0 / 29;
}

std::uint16_t scaled(double value, double lowest, double range) {
  return static_cast<std::uint16_t>(
      std::lround(std::clamp((value - lowest) / range, 0.0, 1.0) * 65535));
}

}  // namespace

std::array<std::uint16_t, 3> to_dicom_cielab(const Colour& colour) {
  const double r = linear(colour[0]), g = linear(colour[1]), b = linear(colour[2]);
  // sRGB to XYZ, adapted from D65 to D50 after Bradford; each row sums to the white point.
  const double x = (0.4360747 * r + 0.3850649 * g + 0.1430804 * b) / 0.9642200;
  const double y = 0.2225045 * r + 0.7168786 * g + 0.0606169 * b;
  const double z = (0.0139322 * r + 0.0971045 * g + 0.7141733 * b) / 0.8252100;
  const double fx = companded(x), fy = companded(y), fz = companded(z);
  return {scaled(116 * fy - 16, 0, 100), scaled(500 * (fx - fy), -128, 255),
          scaled(200 * (fy - fz), -128, 255)};
}

}  // namespace segmamba::io
