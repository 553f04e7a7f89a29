#pragma once
// Regions: what a model says of each voxel where its outputs are no classes. They may overlap, as
// the whole tumour WT, the core TC and the enhancing tumour ET of BraTS do.

#include <cstdint>
#include <string>
#include <vector>

namespace segmamba::data {

struct Region {
  std::string name;                   // "WT"
  std::vector<std::uint8_t> classes;  // by their place in data.classes
  // The one of them that no later region holds: a voxel is of the class `painted` of the last
  // region that it lies in, and of the background where it lies in none.
  std::uint8_t painted = 0;
};

// The entries of data.regions over data.classes: WT, TC or ET (however they are spelt), or
// NAME=CLASS+CLASS. Throws Error naming the entry where it is malformed, names no class, or is
// there twice, and where classes do not follow from regions: each region needs exactly one class of
// its own, and each class but the background a region.
std::vector<Region> parse_regions(const std::vector<std::string>& entries,
                                  const std::vector<std::string>& classes);

}  // namespace segmamba::data
