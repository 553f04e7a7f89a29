#include "brain.h"

#include <algorithm>
#include <limits>

namespace segmamba::data {
namespace {

// Share of a voxel of edge `voxel` that lies beyond a surface at signed distance `depth`.
float coverage(float depth, float voxel) { return std::clamp(0.5f + depth / voxel, 0.0f, 1.0f); }

Vec3 mirrored(Vec3 p) { return {-p.x, p.y, p.z}; }

template <class Shapes>
float deepest(const Shapes& shapes, Vec3 p) {
  float depth = -std::numeric_limits<float>::infinity();
  for (const auto& shape : shapes) depth = std::max(depth, shape.depth(p));
  return depth;
}

// Adds a structure and its twin in the other hemisphere, each jittered a little on its own.
void add_pair(std::vector<Tube>& tubes, const Tube& tube, float scale, Random& random) {
  for (const bool mirror : {false, true}) {
    Tube copy = tube;
    const float side_scale = scale * uniform(random, 0.88, 1.12);
    for (auto& node : copy.nodes) {
      if (mirror) node.centre = mirrored(node.centre);
      node.centre = node.centre + uniform(random, 0, 0.02) * random_direction(random);
      node.radius *= side_scale;
    }
    tubes.push_back(std::move(copy));
  }
}

void add_pair(std::vector<Ellipsoid>& shapes, Vec3 centre, Vec3 radii, Random& random) {
  const float scale = uniform(random, 0.9, 1.1);
  shapes.push_back({centre, scale * radii});
  shapes.push_back({mirrored(centre), scale * radii});
}

}  // namespace

float Tube::depth(Vec3 p) const {
  float best = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i + 1 < nodes.size(); ++i) {
    const Vec3 axis = nodes[i + 1].centre - nodes[i].centre;
    const Vec3 offset = p - nodes[i].centre;
    const float t = std::clamp(dot(offset, axis) / std::max(dot(axis, axis), 1e-9f), 0.0f, 1.0f);
    const float radius = nodes[i].radius + t * (nodes[i + 1].radius - nodes[i].radius);
    best = std::max(best, radius - length(offset - t * axis));
  }
  return best;
}

float Ellipsoid::depth(Vec3 p) const {
  const Vec3 d = p - centre;
  const Vec3 q{d.x / radii.x, d.y / radii.y, d.z / radii.z};
  return (1 - length(q)) * std::min({radii.x, radii.y, radii.z});
}

Brain::Brain(Random& random)
    : half_axes_{0.77f * uniform(random, 0.95, 1.04), 0.98f * uniform(random, 0.96, 1.0),
                 0.70f * uniform(random, 0.95, 1.05)},
      sulcus_width_(uniform(random, 0.010, 0.026)),
      cortex_width_(uniform(random, 0.036, 0.044)),
      callosum_tilt_(uniform(random, -0.1, 0.1)),
      surface_(random, 2, 8),
      folds_(random, 16, 22, 28),
      folia_(random, 34, 40, 16),
      warp_(random, 3, 6),
      patchiness_(random, 6, 20),
      cerebellum_{{0, -0.52f, -0.54f}, {0.52f, 0.38f, 0.29f}},
      stem_{
          {{{0, -0.14f, -0.25f}, 0.15f}, {{0, -0.16f, -0.5f}, 0.17f}, {{0, -0.26f, -0.85f}, 0.1f}}},
      cap_width_(uniform(random, 0.02, 0.09)) {
  // The lateral ventricles widen with age, as the sulci do.
  const float age = (sulcus_width_ - 0.010f) / 0.016f;
  const float width = (1.0f + 0.7f * age) * uniform(random, 0.85, 1.2);
  const Tube lateral{{{{0.10f, 0.42f, 0.10f}, 0.050f},
                      {{0.09f, 0.10f, 0.20f}, 0.055f},
                      {{0.14f, -0.25f, 0.20f}, 0.060f},
                      {{0.27f, -0.46f, 0.06f}, 0.085f},
                      {{0.38f, -0.20f, -0.16f}, 0.035f},
                      {{0.36f, 0.02f, -0.24f}, 0.025f}}};
  add_pair(ventricles_, lateral, width, random);
  third_ventricle_ = {{0, -0.03f, -0.03f}, {0.022f * width + 0.008f, 0.17f, 0.11f}};
  const Tube choroid{{{{0.12f, -0.15f, 0.18f}, 0.020f},
                      {{0.15f, -0.27f, 0.17f}, 0.022f},
                      {{0.27f, -0.45f, 0.04f}, 0.045f}}};
  add_pair(choroid_, choroid, uniform(random, 0.7, 1.3), random);

  add_pair(nuclei_, {0.13f, -0.12f, 0.02f}, {0.10f, 0.17f, 0.10f}, random);  // thalamus
  add_pair(nuclei_, {0.17f, 0.30f, 0.10f}, {0.06f, 0.13f, 0.10f}, random);   // caudate head
  add_pair(nuclei_, {0.31f, 0.12f, -0.02f}, {0.10f, 0.20f, 0.12f}, random);  // lentiform nucleus

  const float calibre = uniform(random, 0.8, 1.3);
  const Tube middle_cerebral{{{{0.10f, 0.22f, -0.30f}, 0.024f},
                              {{0.42f, 0.22f, -0.26f}, 0.022f},
                              {{0.58f, 0.02f, -0.08f}, 0.018f},
                              {{0.62f, -0.30f, 0.12f}, 0.014f}}};
  const Tube transverse_sinus{{{{0.02f, -0.93f, -0.12f}, 0.035f},
                               {{0.40f, -0.78f, -0.28f}, 0.035f},
                               {{0.62f, -0.45f, -0.36f}, 0.032f}}};
  add_pair(vessels_, middle_cerebral, calibre, random);
  add_pair(vessels_, transverse_sinus, calibre, random);
  Tube sagittal_sinus;
  for (int i = 0; i <= 10; ++i) {
    const float angle = -0.35f + 0.28f * static_cast<float>(i);
    sagittal_sinus.nodes.push_back(
        {{uniform(random, -0.01, 0.01), -0.95f * half_axes_.y * std::cos(angle),
          0.08f + 0.95f * half_axes_.z * std::sin(angle)},
         calibre * 0.038f});
  }
  vessels_.push_back(std::move(sagittal_sinus));
  // Veins of the convexity, which run up to the sagittal sinus.
  const auto veins = 6 + random.integer(7);
  for (std::int64_t i = 0; i < veins; ++i) {
    const float side = random.chance(0.5) ? 1.0f : -1.0f;
    const float along = uniform(random, -0.7, 0.7);
    const float radius = uniform(random, 0.014, 0.026);
    Tube vein;
    for (int step = 0; step <= 4; ++step) {
      const float angle = 1.45f - 0.22f * static_cast<float>(step);
      const float ring = std::sqrt(1 - along * along);
      vein.nodes.push_back({{side * 0.95f * half_axes_.x * ring * std::cos(angle),
                             along * half_axes_.y + uniform(random, -0.05, 0.05),
                             0.1f + 0.95f * half_axes_.z * ring * std::sin(angle)},
                            radius});
    }
    vessels_.push_back(std::move(vein));
  }
  // Punctate white-matter lesions, more of them with age.
  const auto lesions = static_cast<std::int64_t>(14 * age * random.uniform());
  for (std::int64_t i = 0; i < lesions; ++i) {
    const float side = random.chance(0.5) ? 1.0f : -1.0f;
    const float radius = uniform(random, 0.02, 0.055);
    lesions_.push_back({{side * uniform(random, 0.15, 0.45), uniform(random, -0.6, 0.6),
                         uniform(random, 0.05, 0.45)},
                        {radius, radius * uniform(random, 0.8, 1.6), radius}});
  }
}

float Brain::cerebrum_depth(Vec3 p) const {
  const float z = (p.z - 0.1f) / half_axes_.z;
  // A superellipsoid, a little boxier than an ellipsoid and narrower in front.
  constexpr float kPower = 2.25f;
  const float x = p.x / (half_axes_.x * (1 - 0.12f * p.y));
  const float r =
      std::pow(std::pow(std::abs(x), kPower) + std::pow(std::abs(p.y / half_axes_.y), kPower) +
                   std::pow(std::abs(z), kPower),
               1 / kPower);
  // The base is flat, a little higher in front.
  const float base = p.z + 0.45f - 0.18f * std::max(0.0f, p.y);
  const float dome = (1 - r) * 0.75f;
  // Their smooth minimum, so that the lower edge is round.
  constexpr float kRounding = 0.12f;
  const float h = std::max(kRounding - std::abs(dome - base), 0.0f) / kRounding;
  return std::min(dome, base) - 0.25f * kRounding * h * h;
}

float Brain::depth(Vec3 p) const {
  const float outer = std::max({cerebrum_depth(p), cerebellum_.depth(p), stem_.depth(p)});
  return outer < -0.15f ? outer : outer + 0.012f * surface_(p);
}

Mixture Brain::at(Vec3 p, float voxel, float compression) const {
  const float cerebrum = cerebrum_depth(p);
  const float cerebellum = cerebellum_.depth(p) - 0.01f;
  const float stem = stem_.depth(p);
  const float warp = warp_(p);

  // Distance to the nearest surface of grey matter: the outside, a sulcus, or the midline fissure.
  float surface = std::max({cerebrum, cerebellum, stem});
  float sulcus = std::numeric_limits<float>::infinity();
  float cortex = cortex_width_ + 0.006f * warp;
  if (cerebrum >= cerebellum && cerebrum >= stem) {
    const float reach = 0.21f + 0.04f * warp;
    sulcus = std::max(folds_.distance_to_zero(p), cerebrum - reach);
    const float callosum_y = (p.y - 0.02f) / 0.55f;
    const float callosum_z = (p.z - 0.05f - callosum_tilt_ * p.y) / 0.30f;
    const float callosum = 1 - std::sqrt(callosum_y * callosum_y + callosum_z * callosum_z);
    const float fissure = std::max(std::abs(p.x + 0.008f * warp), 0.3f * callosum);
    sulcus = std::min(sulcus, p.z > -0.3f ? fissure : sulcus);
  } else if (cerebellum >= stem) {
    sulcus = std::max(folia_.distance_to_zero(p), cerebellum - 0.13f);
    cortex *= 0.7f;
  } else {
    cortex = 0;
  }
  const float gap = sulcus_width_ * (1 - compression);

  Mixture mixture;
  mixture.share[kWhiteMatter] = 1;
  mixture.lay(kCortex, coverage(gap + cortex - std::min(surface, sulcus), voxel));
  mixture.lay(kCsf, coverage(gap - std::min(surface + 0.004f, sulcus), voxel) *
                        std::min(1.0f, 2 * gap / voxel + 0.35f));

  const float ventricle = std::max(deepest(ventricles_, p), third_ventricle_.depth(p));
  const float lesion = std::max(deepest(lesions_, p) + 0.008f * warp,
                                ventricle + cap_width_ * (0.6f + 0.5f * patchiness_(p)));
  mixture.lay(kHyperintensity, coverage(lesion, voxel) * 0.85f * mixture.share[kWhiteMatter]);
  mixture.lay(kDeepGrey, coverage(deepest(nuclei_, p) + 0.008f * warp, voxel));
  if (ventricle > -voxel) {
    mixture.lay(kCsf, coverage(ventricle, voxel));
    mixture.lay(kChoroidPlexus, coverage(deepest(choroid_, p) + 0.01f * patchiness_(p), voxel) *
                                    coverage(ventricle, voxel));
  }
  mixture.lay(kVessel, coverage(deepest(vessels_, p), voxel));
  return mixture;
}

}  // namespace segmamba::data
