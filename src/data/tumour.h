#pragma once
// The lesions of a phantom: drawn in the coordinates of Brain, then grown on its voxels.

#include <array>
#include <cstdint>
#include <vector>

#include "brain.h"
#include "segmamba/data/phantom.h"

namespace segmamba::data {

// A voxel of the brain.
struct BrainVoxel {
  std::int64_t index;  // in the grid, x fastest
  Vec3 position;
  Mixture mixture;
};

// Where a lesion lies: an ellipsoid in a random pose around a random place.
struct Focus {
  Vec3 centre;
  float radius;              // of the lesion with its oedema, before perturbation
  std::array<Vec3, 3> axes;  // orthogonal, of length 1 / (relative half axis)
  Vec3 core_shift;           // the core does not sit in the middle of its oedema

  // Distance from the centre, 1 at about the border of the lesion.
  float distance(Vec3 p) const {
    const Vec3 d = p - centre;
    const Vec3 q{dot(axes[0], d), dot(axes[1], d), dot(axes[2], d)};
    return length(q) / radius;
  }
  float core_distance(Vec3 p) const { return distance(p - core_shift); }
};

class Tumour {
 public:
  // `voxel_edge` in the units of Brain.
  Tumour(const Brain& brain, float voxel_edge, Random& random);

  // Distance to the nearest lesion in units of its radius.
  float distance(Vec3 p) const;
  // Where the tissue that is now at p was before the lesions pushed it away.
  Vec3 origin(Vec3 p) const;

  // Grows the lesions into the tissue mixtures and the labels of the grid of `size` [D, H, W]. Each
  // is in one piece (through the faces of voxels) and touches no other, not even by a corner.
  std::vector<Lesion> grow(std::vector<BrainVoxel>& voxels, std::array<std::int64_t, 3> size,
                           std::vector<std::uint8_t>& labels) const;

 private:
  struct Plan {
    LesionKind kind;
    Focus focus;
    double voxels;
    double core_share;      // of the lesion
    double necrosis_share;  // of the core
  };
  struct Fields;
  class Growth;

  float voxel_edge_;
  float mass_effect_;
  double main_share_;  // of the brain: the volume of the first lesion
  RandomWaves coarse_, fine_, rim_;
  std::vector<Plan> plans_;  // the first is the largest
};

}  // namespace segmamba::data
