#pragma once
// The healthy anatomy of a phantom, as a function of position.

#include <array>
#include <vector>

#include "random_waves.h"

namespace segmamba::data {

enum Tissue {
  kCsf,
  kCortex,
  kWhiteMatter,
  kDeepGrey,
  kVessel,
  kChoroidPlexus,
  kHyperintensity,  // white-matter changes of age and small vessels: bright in FLAIR, no tumour
  kNecroticTissue,
  kOedematousTissue,
  kEnhancingTissue,
  kTissueCount
};

// Shares of the tissues in a voxel; they sum to 1.
struct Mixture {
  std::array<float, kTissueCount> share{};

  // Covers the share `coverage` of the voxel with `tissue`, displacing the others evenly.
  void lay(Tissue tissue, float coverage) {
    for (float& s : share) s *= 1 - coverage;
    share[tissue] += coverage;
  }
};

// A chain of spheres whose radius changes linearly from one to the next.
struct Tube {
  struct Node {
    Vec3 centre;
    float radius;
  };
  std::vector<Node> nodes;

  // Signed distance to the surface, positive inside.
  float depth(Vec3 p) const;
};

struct Ellipsoid {
  Vec3 centre, radii;

  // About the signed distance to the surface, positive inside.
  float depth(Vec3 p) const;
};

// Coordinates: x to the left, y to the front, z up, with |y| <= 1 at the poles of the brain, whose
// half axes are near (0.78, 1, 0.82): one unit is about 90 mm of an adult brain.
class Brain {
 public:
  explicit Brain(Random& random);

  // About the signed distance to the surface, positive inside.
  float depth(Vec3 p) const;
  // Depth in the cerebrum alone (without cerebellum and brain stem).
  float cerebrum_depth(Vec3 p) const;
  // `voxel` is the edge of a voxel: structures get partial volumes over that width. `compression`
  // in [0, 1] narrows the sulci (1: closed).
  Mixture at(Vec3 p, float voxel, float compression) const;

 private:
  Vec3 half_axes_;
  float sulcus_width_, cortex_width_, callosum_tilt_;
  RandomWaves surface_, folds_, folia_, warp_, patchiness_;
  std::vector<Tube> ventricles_, choroid_, vessels_;
  std::vector<Ellipsoid> nuclei_, lesions_;
  Ellipsoid third_ventricle_, cerebellum_;
  Tube stem_;
  float cap_width_;
};

}  // namespace segmamba::data
