#pragma once
// Summaries of surface distances.

#include <vector>

#include "segmamba/metrics/convention.h"
#include "segmamba/metrics/surface.h"

namespace segmamba::metrics {

// Of distances in any order; at least one. `share` in [0, 1].
double percentile(std::vector<double> distances, double share, Percentile kind,
                  const std::vector<double>& areas);

// Both surfaces must have points.
double hausdorff(const SurfaceDistances& distances, double share, Percentile kind,
                 Directions directions);
double mean_distance(const DirectedDistances& directed);
double pooled_mean_distance(const SurfaceDistances& distances);
double surface_dice(const SurfaceDistances& distances, double tolerance);
double surface_dice_of_directions(const SurfaceDistances& distances, double tolerance);
double surface_area(const DirectedDistances& directed);

}  // namespace segmamba::metrics
