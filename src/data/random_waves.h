#pragma once
// Smooth, isotropic random fields.

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "segmamba/core/random.h"

namespace segmamba::data {

struct Vec3 {
  float x = 0, y = 0, z = 0;
};

inline Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vec3 operator*(float s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
inline float dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline float length(Vec3 a) { return std::sqrt(dot(a, a)); }

inline float uniform(Random& random, double low, double high) {
  return static_cast<float>(random.uniform(low, high));
}

inline Vec3 random_direction(Random& random) {
  Vec3 v;
  v.x = static_cast<float>(random.normal());
  v.y = static_cast<float>(random.normal());
  v.z = static_cast<float>(random.normal());
  return (1.0f / std::max(length(v), 1e-6f)) * v;
}

// A sum of plane waves in random directions, f(p) = sqrt(2/N) sum_i cos(k_i . p + phase_i): close
// to a Gaussian field of mean 0 and variance 1, whose zero surfaces are winding sheets about pi /
// |k| apart when all |k| are alike. It has no lattice, hence no preferred axes.
class RandomWaves {
 public:
  // Wave numbers |k|, in radians per unit, are log-uniform in [low, high].
  RandomWaves(Random& random, double low, double high, int count = 20) {
    waves_.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
      const auto k = static_cast<float>(low * std::pow(high / low, random.uniform()));
      const Vec3 vector = k * random_direction(random);
      waves_.push_back({vector, static_cast<float>(random.uniform(0, 2 * std::numbers::pi))});
    }
    amplitude_ = std::sqrt(2.0f / static_cast<float>(count));
  }

  float operator()(Vec3 p) const {
    float sum = 0;
    for (const Wave& wave : waves_) sum += std::cos(dot(wave.k, p) + wave.phase);
    return amplitude_ * sum;
  }

  // First-order distance from p to the nearest zero of the field: |f| / |grad f|.
  float distance_to_zero(Vec3 p) const {
    float sum = 0;
    Vec3 gradient;
    for (const Wave& wave : waves_) {
      const float angle = dot(wave.k, p) + wave.phase;
      sum += std::cos(angle);
      gradient = gradient - std::sin(angle) * wave.k;
    }
    return std::abs(sum) / std::max(length(gradient), 1e-6f);
  }

 private:
  struct Wave {
    Vec3 k;
    float phase;
  };
  std::vector<Wave> waves_;
  float amplitude_ = 1;
};

}  // namespace segmamba::data
