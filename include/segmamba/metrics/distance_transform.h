#pragma once
// Exact Euclidean distances to the nearest voxel of a mask, in linear time: one pass an axis, each
// the lower envelope of parabolas (Felzenszwalb & Huttenlocher, "Distance transforms of sampled
// functions", Theory of Computing 8, 2012), with a spacing per axis.

#include <vector>

#include "segmamba/metrics/mask.h"

namespace segmamba::metrics {

// For every voxel of `queries` that is 1, in memory order: the distance in mm between its centre
// and that of the nearest voxel of `seeds` that is 1 (infinity where there is none). Both masks
// have one size. Work is spent only on rows that hold seeds and on columns that hold queries.
std::vector<double> distances_to(const Mask& seeds, const Mask& queries, const Spacing& spacing);

}  // namespace segmamba::metrics
