#include "segmamba/io/volume.h"

#include <algorithm>
#include <cmath>

#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

// Six digits: enough to see any difference above the tolerance, short enough to read.
template <class Range>
std::string describe(const Range& values) {
  return concat("(", join(values, ", "), ")");
}

template <class Range>
bool differ(const Range& a, const Range& b, double tolerance) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    // Written so that NaN counts as a difference.
    if (!(std::abs(a[i] - b[i]) <= tolerance)) return true;
  }
  return false;
}

}  // namespace

std::string geometry_difference(const Geometry& a, const Geometry& b, double tolerance) {
  const auto report = [](const char* what, const auto& left, const auto& right) {
    return concat(what, " ", describe(left), " and ", describe(right));
  };
  const double length = tolerance * *std::min_element(a.spacing.begin(), a.spacing.end());
  if (a.size != b.size) return report("size", a.size, b.size);
  if (differ(a.spacing, b.spacing, length)) return report("spacing", a.spacing, b.spacing);
  if (differ(a.direction, b.direction, tolerance)) {
    return report("direction", a.direction, b.direction);
  }
  if (differ(a.origin, b.origin, length)) return report("origin", a.origin, b.origin);
  return "";
}

}  // namespace segmamba::io
