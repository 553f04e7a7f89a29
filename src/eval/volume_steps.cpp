#include "volume_steps.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <set>

namespace segmamba::eval {
namespace {

constexpr std::size_t kQuantiles = 12, kWidest = 12;
constexpr double kSame = 1 + 1e-8;  // what rounding makes of one volume

// Short, and a good way from both.
double between(double low, double high) {
  constexpr int kMostDigits = 17;
  const double middle = std::sqrt(low * high);
  for (int digits = 1; digits < kMostDigits; ++digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*g", digits, middle);
    const double value = std::strtod(text, nullptr);
    if (value > std::sqrt(low * middle) && value < std::sqrt(middle * high)) return value;
  }
  return middle;
}

}  // namespace

std::vector<double> volume_steps(std::vector<double> volumes) {
  if (volumes.empty()) return {};
  std::sort(volumes.begin(), volumes.end());
  std::vector<double> distinct;
  std::vector<std::size_t> place;  // of each volume among the distinct ones
  for (const double volume : volumes) {
    if (distinct.empty() || volume > distinct.back() * kSame) distinct.push_back(volume);
    place.push_back(distinct.size() - 1);
  }
  const std::size_t gap_count = distinct.size() - 1;
  std::set<std::size_t> gaps;  // that above distinct[i] is i
  for (std::size_t i = 0; i < kQuantiles; ++i) {
    const std::size_t gap = place[i * volumes.size() / kQuantiles];
    if (gap < gap_count) gaps.insert(gap);
  }
  std::vector<std::size_t> by_width(gap_count);
  std::iota(by_width.begin(), by_width.end(), std::size_t{0});
  std::stable_sort(by_width.begin(), by_width.end(), [&](std::size_t a, std::size_t b) {
    return distinct[a + 1] / distinct[a] > distinct[b + 1] / distinct[b];
  });
  by_width.resize(std::min(by_width.size(), kWidest));
  gaps.insert(by_width.begin(), by_width.end());

  std::vector<double> steps;
  for (const std::size_t gap : gaps) steps.push_back(between(distinct[gap], distinct[gap + 1]));
  return steps;
}

}  // namespace segmamba::eval
