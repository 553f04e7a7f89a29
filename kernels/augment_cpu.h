#pragma once
// The inner loops of augment_patch_cpu(), compiled once for each instruction set, as a table of
// functions; the schedule around them is plain C++ in augment_cpu.cpp.

#include "augment.h"

namespace segmamba::kernels {

struct PointTransform;
struct GammaInput;

// Of values seen so far.
struct ValueSums {
  float min = 3.402823466e+38F, max = -3.402823466e+38F;
  double sum = 0, squares = 0;
  std::int64_t count = 0;
};

// Positions of the voxels of one row of the patch, in 2^-16 voxel. The arrays go on for kRowSpare
// numbers beyond the row.
inline constexpr int kRowSpare = 16;
struct RowPositions {
  std::int32_t* at[3];  // z, y, x
};

// A displaced row: control points with the weights of z and y already summed up, and for each voxel
// the first of its four points and their weights.
struct RowDisplacement {
  const float* points;        // [3, points x]; nullptr where there is none
  std::int32_t count;         // points x
  const std::int32_t* cells;  // [W]
  const float* weights;       // [4, weight_stride]
  std::int64_t weight_stride;
};

struct AugmentLanes {
  const char* name;
  // `count` voxels from `from` on (a row of the case), backwards where reversed: to out[c].
  void (*copy_row)(const CaseView&, const std::uint16_t* from, bool reversed, std::int32_t count,
                   float* const* out);
  // start and step of each axis; adds the displacement.
  void (*positions)(const std::int32_t* start, const std::int32_t* step, const RowDisplacement&,
                    std::int32_t count, const RowPositions& to);
  void (*sample_row)(const CaseView&, const RowPositions&, bool cubic, std::int32_t count,
                     float* const* out);
  void (*label_row)(const CaseView&, const RowPositions&, bool linear, std::int32_t count,
                    std::uint8_t* out);
  // Adds to values of a channel, the first of which is voxel `first`.
  void (*add_noise)(float* values, std::int64_t first, std::int64_t count, float deviation,
                    std::uint64_t seed, std::int32_t channel);
  // out[i] = sum over k of weights[k] * rows[k][i]
  void (*combine)(const float* const* rows, const float* weights, std::int32_t taps,
                  std::int64_t count, float* out);
  // out[i] = sum over k of weights[k * stride + i] * from[indices[k * stride + i]]. Indices do not
  // fall along i, rise by at most 1 a step, and those of one i span at most 4; they may be read up
  // to kRowSpare beyond count, and `from` up to 2 * kRowSpare.
  void (*upsample)(const float* from, const std::int32_t* indices, const float* weights,
                   std::int64_t stride, std::int32_t taps, std::int64_t count, float* out);
  void (*point)(const PointTransform&, float* values, std::int64_t count);
  // The same from one array to another, past the caches where `to` lies on whole cache lines: for
  // memory that is read by others, much later. finish_stores() makes it visible to other threads.
  void (*point_to)(const PointTransform&, const float* from, float* to, std::int64_t count);
  void (*finish_stores)();
  void (*statistics)(const float* values, std::int64_t count, ValueSums&);
  // values = gamma_base(values)^power; sums of the base and of the power, without min and max.
  void (*gamma_sums)(const GammaInput&, float* values, std::int64_t count, ValueSums& before,
                     ValueSums& after);
  // The same, and `output` of it.
  void (*gamma)(const GammaInput&, const PointTransform& output, float* values, std::int64_t count);
};

// For instruction_set() of cpu_lanes.h.
const AugmentLanes& augment_lanes();

namespace baseline {
const AugmentLanes& augment_lanes();
}
namespace avx2 {
const AugmentLanes& augment_lanes();
}
namespace avx512 {
const AugmentLanes& augment_lanes();
}

}  // namespace segmamba::kernels
