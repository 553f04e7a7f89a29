#include "segmamba/io/orientation.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

// By world axis of LPS: the side it runs towards, and the other one.
constexpr std::string_view kTowards = "LPS", kAgainst = "RAI";
// Of direction cosines, which files hold as floats.
constexpr double kTie = 1e-5;

// The world axis that a letter means; 3 where it means none.
std::size_t world_axis(char letter) {
  const auto place = std::min(kTowards.find(letter), kAgainst.find(letter));
  return std::min<std::size_t>(place, 3);
}

// Lexicographically, with equal ones told apart by more than rounding.
bool is_greater(const std::array<double, 9>& a, const std::array<double, 9>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::abs(a[i] - b[i]) > kTie) return a[i] > b[i];
  }
  return false;
}

// To LPS: axis[w] is the index axis that runs along world axis w.
AxisMap axes_to_world(const Geometry& geometry) {
  AxisMap best;
  double best_trace = -1;
  std::array<double, 9> best_direction{};
  std::array<std::size_t, 3> order = {0, 1, 2};
  do {
    AxisMap map{order, {}};
    for (std::size_t w = 0; w < 3; ++w) {
      map.reversed[w] = geometry.direction[3 * w + order[w]] < 0;
    }
    const auto direction = reoriented(geometry, map).direction;
    // The greater the trace, the smaller the rotation that is left.
    const double trace = direction[0] + direction[4] + direction[8];
    const bool is_tie = std::abs(trace - best_trace) <= kTie;
    if (is_tie ? is_greater(direction, best_direction) : trace > best_trace) {
      best = map;
      best_trace = trace;
      best_direction = direction;
    }
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

}  // namespace

void check_orientation(const std::string& orientation) {
  std::array<bool, 3> used{};
  for (const char letter : orientation) {
    const std::size_t world = world_axis(letter);
    if (world < 3) used[world] = true;
  }
  if (orientation.size() == 3 && used[0] && used[1] && used[2]) return;
  throw Error(concat("there is no orientation '", orientation,
                     "': it has a letter of L and R, one of P and A, and one of S and I, such as "
                     "LPS or RAS"));
}

AxisMap axes_towards(const Geometry& geometry, const std::string& orientation) {
  check_orientation(orientation);
  const AxisMap to_world = axes_to_world(geometry);
  AxisMap map;
  for (std::size_t j = 0; j < 3; ++j) {
    const std::size_t world = world_axis(orientation[j]);
    map.axis[j] = to_world.axis[world];
    map.reversed[j] = to_world.reversed[world] != (orientation[j] == kAgainst[world]);
  }
  return map;
}

std::string orientation_of(const Geometry& geometry) {
  const AxisMap to_world = axes_to_world(geometry);
  std::string letters = "???";
  for (std::size_t w = 0; w < 3; ++w) {
    letters[to_world.axis[w]] = to_world.reversed[w] ? kAgainst[w] : kTowards[w];
  }
  return letters;
}

Geometry reoriented(const Geometry& geometry, const AxisMap& axes) {
  Geometry result = geometry;
  result.header.reset();
  for (std::size_t j = 0; j < 3; ++j) {
    const std::size_t source = axes.axis[j];
    result.size[j] = geometry.size[source];
    result.spacing[j] = geometry.spacing[source];
    const double length = static_cast<double>(geometry.size[source] - 1) * geometry.spacing[source];
    for (std::size_t w = 0; w < 3; ++w) {
      const double cosine = geometry.direction[3 * w + source];
      result.direction[3 * w + j] = axes.reversed[j] ? -cosine : cosine;
      if (axes.reversed[j]) result.origin[w] += cosine * length;
    }
  }
  return result;
}

}  // namespace segmamba::io
