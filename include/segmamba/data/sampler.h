#pragma once
// Which case and which place in it each sample of a run shows: a function of (seed, sample) alone,
// so that it is the same for any number of workers and ranks, and resumes by counting.

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/core/random.h"
#include "segmamba/data/prepared_case.h"

namespace segmamba::data {

// Section `sampling` of a config.
struct SamplingConfig {
  double foreground_fraction = 0.33;  // share of patches around a voxel of a foreground class
  // each: a class of those in the case, all alike, then a voxel of it. all: any foreground voxel,
  // so that large classes are seen more often.
  std::string foreground = "each";
  std::vector<std::string> classes;  // the foreground classes; empty: all but the first

  void visit(ConfigVisitor& visitor);
};

// The case of sample s: place s mod N of a shuffle of the N cases that is drawn anew for each pass
// s / N, so that all cases are seen equally often.
std::size_t case_of_sample(std::uint64_t seed, std::int64_t sample, std::size_t cases);

// Where a patch of `size` begins. Uniform over the places that lie within the case, or (with
// probability foreground_fraction, where the case has such a class) around a foreground voxel,
// moved into the case. A case smaller than the patch lies in the middle of it: the place is
// negative then. `is_foreground` [K] tells the foreground classes. Throws Error where the labels
// lack voxels that class_counts has.
Index3 draw_place(const PreparedCase& item, const Index3& size, const SamplingConfig& config,
                  const std::vector<bool>& is_foreground, Random& random);

// Which of `classes` config.classes names. Throws Error on a name that is not among them.
std::vector<bool> foreground_classes(const SamplingConfig& config,
                                     const std::vector<std::string>& classes);

}  // namespace segmamba::data
