#pragma once
// From a case's files to the voxels that training and inference see: turn, crop, normalise,
// resample.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/prepared_case.h"
#include "segmamba/io/volume.h"

namespace segmamba::data {

// Section `preprocess` of a config. `recipe` sets all other keys, which may then be given, too:
//
//   paper          crop to non-zero; z-score over the voxels of a channel that are not 0 (the paper
//                  does not say; this is MONAI's usual way for BraTS, with which it was written)
//   upstream-code  crop to non-zero; z-score over the whole crop (github.com/ge-xing/SegMamba at
//                  cff3597, light_training/preprocessing)
//   nnunet         crop to non-zero; z-score over the filled mask of non-zero voxels, 0 outside;
//                  images cubic, labels linear on one-hot, across thick slices nearest (nnU-Net v2)
struct PreprocessConfig {
  std::string recipe = "paper";
  // What the axes (x, y, z) are turned to run towards (io/orientation.h), so that a model sees
  // every patient the same way up: BraTS is LPS. Only permuted and flipped, never interpolated.
  // Empty: the files' own. Everything else here is in the turned grid.
  std::string orientation = "LPS";
  bool crop_to_nonzero = true;
  // Clipping, before normalisation: to percentiles of the voxels that are normalised over, then to
  // fixed bounds. Empty: none.
  std::vector<double> clip_percentiles;  // [low, high], 0 to 100
  std::vector<double> clip;              // [low, high]
  // nonzero: z-score over the voxels of the channel that are not 0, which stay 0.
  // mask: z-score over the voxels where any channel is not 0, holes filled; 0 outside.
  // crop: z-score over all voxels. window: `clip` to [0, 1]. statistics: (x - means) / deviations.
  std::string normalise = "nonzero";
  std::vector<double> means, deviations;       // of `statistics`, one a channel
  std::vector<double> spacing;                 // mm, [D, H, W]; empty: the files' own
  std::string image_interpolation = "cubic";   // cubic (B-spline), linear, nearest
  std::string label_interpolation = "linear";  // linear (on one-hot), nearest
  // An axis with a spacing above this many times the finest one's is resampled by nearest
  // neighbour, whichever is set above. 0: no axis.
  double thick_slices = 0;

  void visit(ConfigVisitor& visitor);
};

// Throws Error naming the keys that contradict each other.
void check(const PreprocessConfig& config, std::size_t channels);

// A case as its files have it, on one grid.
struct RawCase {
  std::string name;
  io::Geometry geometry;
  std::vector<std::vector<float>> channels;  // each [D, H, W]
  std::vector<std::uint8_t> labels;          // [D, H, W], classes; empty where the case has none
  std::int64_t classes = 0;
};

struct ReadOptions {
  // The name of a channel into whose grid the other channels (trilinear) and the labels (nearest)
  // are resampled by their places in the world, io/resample.h. Empty: all must share a grid.
  std::string resample_to;
};

// Reads a case of `dataset`: labels become classes by its map. Throws Error naming case and file
// where one is missing or damaged, channels or labels do not share a grid (or with resample_to
// nowhere overlap), or a label is not in the map.
RawCase read_case(const Dataset& dataset, const Case& item, const ReadOptions& options = {});

// data/restore.h goes the way back. A constant channel becomes 0; normalised voxels beyond 16-bit
// floats become the largest there are, 65504. Throws Error where every voxel is 0, one is NaN or
// infinite, or a size would exceed what memory can hold.
PreparedCase prepare_case(RawCase raw, const PreprocessConfig& config);

}  // namespace segmamba::data
