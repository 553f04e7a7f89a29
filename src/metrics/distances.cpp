#include "distances.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace segmamba::metrics {
namespace {

// The values at rank `low` and at the next rank, in the order of size.
template <class T>
std::pair<T, T> neighbours_in_rank(std::vector<T>& values, std::size_t low) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(low);
  std::nth_element(values.begin(), at, values.end());
  const auto after = std::min_element(at + 1, values.end());
  return {*at, after == values.end() ? *at : *after};
}

// Either end as the base, so that the result is exact at both (numpy and torch agree in this).
template <class T>
T interpolate(T low, T high, T weight) {
  const T step = high - low;
  return weight < T{0.5} ? low + step * weight : high - step * (T{1} - weight);
}

template <class T>
T linear_percentile(std::vector<T> values, T share) {
  const T rank = share * static_cast<T>(values.size() - 1);
  // In float32 the rank of more than 2^24 distances may be rounded beyond the last.
  const auto low = std::min(static_cast<std::size_t>(rank), values.size() - 1);
  const auto [a, b] = neighbours_in_rank(values, low);
  return interpolate(a, b, rank - static_cast<T>(low));
}

double area_percentile(const std::vector<double>& distances, const std::vector<double>& areas,
                       double share) {
  std::vector<std::pair<double, double>> points(distances.size());
  for (std::size_t i = 0; i < points.size(); ++i) points[i] = {distances[i], areas[i]};
  std::sort(points.begin(), points.end());
  double total = 0;
  for (const auto& point : points) total += point.second;
  double running = 0;
  for (const auto& [distance, area] : points) {
    running += area;
    if (running / total >= share) return distance;
  }
  return points.back().first;
}

double weight_within(const DirectedDistances& directed, double tolerance) {
  double total = 0;
  for (std::size_t i = 0; i < directed.distances.size(); ++i) {
    if (directed.distances[i] > tolerance) continue;
    total += directed.areas.empty() ? 1 : directed.areas[i];
  }
  return total;
}

double weight(const DirectedDistances& directed) {
  return directed.areas.empty() ? static_cast<double>(directed.distances.size())
                                : surface_area(directed);
}

double weighted_sum(const DirectedDistances& directed) {
  return directed.areas.empty()
             ? std::accumulate(directed.distances.begin(), directed.distances.end(), 0.0)
             : std::inner_product(directed.distances.begin(), directed.distances.end(),
                                  directed.areas.begin(), 0.0);
}

}  // namespace

double percentile(std::vector<double> distances, double share, Percentile kind,
                  const std::vector<double>& areas) {
  switch (kind) {
    case Percentile::kLinear:
      return linear_percentile(std::move(distances), share);
    case Percentile::kLinearFloat32:
      return linear_percentile(std::vector<float>(distances.begin(), distances.end()),
                               static_cast<float>(share));
    case Percentile::kAreaStep:
      break;
  }
  return area_percentile(distances, areas, share);
}

double hausdorff(const SurfaceDistances& distances, double share, Percentile kind,
                 Directions directions) {
  const DirectedDistances &p = distances.prediction_to_reference,
                          &g = distances.reference_to_prediction;
  if (directions == Directions::kLarger) {
    return std::max(percentile(p.distances, share, kind, p.areas),
                    percentile(g.distances, share, kind, g.areas));
  }
  std::vector<double> pooled = p.distances, areas = p.areas;
  pooled.insert(pooled.end(), g.distances.begin(), g.distances.end());
  areas.insert(areas.end(), g.areas.begin(), g.areas.end());
  return percentile(std::move(pooled), share, kind, areas);
}

double mean_distance(const DirectedDistances& directed) {
  return weighted_sum(directed) / weight(directed);
}

double pooled_mean_distance(const SurfaceDistances& distances) {
  const DirectedDistances &p = distances.prediction_to_reference,
                          &g = distances.reference_to_prediction;
  return (weighted_sum(p) + weighted_sum(g)) / (weight(p) + weight(g));
}

double surface_dice(const SurfaceDistances& distances, double tolerance) {
  const DirectedDistances &p = distances.prediction_to_reference,
                          &g = distances.reference_to_prediction;
  return (weight_within(p, tolerance) + weight_within(g, tolerance)) / (weight(p) + weight(g));
}

double surface_dice_of_directions(const SurfaceDistances& distances, double tolerance) {
  const DirectedDistances &p = distances.prediction_to_reference,
                          &g = distances.reference_to_prediction;
  constexpr double kGuard = 1e-8;  // of the BraTS 2024 script: a perfect match is 1 - 5e-9
  return (weight_within(p, tolerance) / weight(p) + weight_within(g, tolerance) / weight(g)) /
         (2 + kGuard);
}

double surface_area(const DirectedDistances& directed) {
  return std::accumulate(directed.areas.begin(), directed.areas.end(), 0.0);
}

}  // namespace segmamba::metrics
