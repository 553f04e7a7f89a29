#pragma once
// What a data set looks like in numbers: sizes, spacings, intensities, volumes of the classes.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/json.h"

namespace segmamba::data {

// Of voxels, or of one number a case. Percentile p is the smallest value with at least p percent of
// all at or below it. All 0 where count is 0.
struct Distribution {
  std::int64_t count = 0;
  double mean = 0, deviation = 0;  // of the population
  double minimum = 0, percentile_0_5 = 0, median = 0, percentile_99_5 = 0, maximum = 0;

  Json to_json() const;
};

Distribution describe(std::vector<double> values);

// Equal bins from low to high.
struct Histogram {
  double low = 0, high = 0;
  std::vector<double> shares;  // of all that is counted
};

// Voxels of a channel without the voxels: what pools into the distribution over all cases in
// bounded memory. Count, mean, deviation and extremes are exact; percentiles are of 65,536 evenly
// spread voxels of a case (all, where it has fewer), and of 512 values of each case for all cases.
class IntensitySample {
 public:
  IntensitySample() = default;
  // In any order, which is lost.
  explicit IntensitySample(std::vector<float> voxels);

  const Distribution& distribution() const { return distribution_; }

  static Distribution pooled(const std::vector<const IntensitySample*>& samples);
  // Of values within `low` to `high`.
  static Histogram histogram(const std::vector<const IntensitySample*>& samples, double low,
                             double high, std::size_t bins);

 private:
  Distribution distribution_;
  std::vector<float> values_;  // sorted, evenly spread over the ranks; equal weight
};

// A case whose files could all be read, on one grid.
struct CaseNumbers {
  std::string name;
  std::array<std::int64_t, 3> size{};       // x, y, z of its axes turned to LPS
  std::array<double, 3> spacing{};          // mm, the same
  double crop_share = 0;                    // of the box of non-zero voxels in the whole grid
  std::vector<IntensitySample> nonzero;     // a channel each; voxels that are not 0
  std::vector<IntensitySample> foreground;  // voxels of any class but the background
  std::vector<std::int64_t> class_voxels;   // a class each

  double voxel_millilitres() const { return spacing[0] * spacing[1] * spacing[2] / 1000; }
};

struct ChannelNumbers {
  std::string name;
  Distribution nonzero, foreground;
  Histogram nonzero_histogram, foreground_histogram;  // 0.5th to 99.5th percentile of non-zero
};

struct ClassNumbers {
  std::string name;
  std::int64_t cases = 0, voxels = 0;
  Distribution millilitres;              // over the cases that have it
  std::vector<double> case_millilitres;  // of these cases
};

struct Fingerprint {
  std::vector<CaseNumbers> cases;
  std::array<Distribution, 3> size, spacing;  // x, y, z of LPS
  Distribution crop_share;
  std::vector<ChannelNumbers> channels;
  std::vector<ClassNumbers> classes;

  Json to_json() const;  // with a row a case
};

Fingerprint summarise(std::vector<CaseNumbers> cases, const std::vector<std::string>& channels,
                      const std::vector<std::string>& classes);

}  // namespace segmamba::data
