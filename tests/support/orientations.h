#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "segmamba/io/volume.h"

namespace segmamba::test {

// The 48 ways that three axes can run: "LPS", "RAS", "SLP", ...
inline std::vector<std::string> orientations() {
  std::vector<std::string> all;
  std::string axes = "LPS";
  std::sort(axes.begin(), axes.end());
  do {
    for (int flips = 0; flips < 8; ++flips) {
      std::string letters = axes;
      for (std::size_t j = 0; j < 3; ++j) {
        if ((flips >> j & 1) == 0) continue;
        letters[j] = letters[j] == 'L' ? 'R' : letters[j] == 'P' ? 'A' : 'I';
      }
      all.push_back(letters);
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
  return all;
}

// Row-major 3x3, about world axis 0, 1 or 2.
inline std::array<double, 9> rotation(double degrees, std::size_t about) {
  const double angle = degrees / 180 * std::acos(-1.0);
  const std::size_t a = (about + 1) % 3, b = (about + 2) % 3;
  std::array<double, 9> matrix{};
  matrix[4 * about] = 1;
  matrix[4 * a] = matrix[4 * b] = std::cos(angle);
  matrix[3 * a + b] = -std::sin(angle);
  matrix[3 * b + a] = std::sin(angle);
  return matrix;
}

inline std::array<double, 9> product(const std::array<double, 9>& a,
                                     const std::array<double, 9>& b) {
  std::array<double, 9> result{};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      for (std::size_t k = 0; k < 3; ++k) result[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    }
  }
  return result;
}

// A grid of three spacings whose axes run towards LPS, but for some turns about all of them.
inline io::Geometry oblique_grid() {
  io::Geometry geometry;
  geometry.size = {4, 5, 6};
  geometry.spacing = {0.5, 1, 3};
  geometry.origin = {-17, 250, 3.5};
  geometry.direction = product(rotation(20, 2), product(rotation(-31, 0), rotation(12, 1)));
  return geometry;
}

// Of a voxel, in mm.
inline std::array<double, 3> world(const io::Geometry& geometry,
                                   const std::array<double, 3>& index) {
  auto place = geometry.origin;
  for (std::size_t w = 0; w < 3; ++w) {
    for (std::size_t j = 0; j < 3; ++j) {
      place[w] += geometry.direction[3 * w + j] * geometry.spacing[j] * index[j];
    }
  }
  return place;
}

}  // namespace segmamba::test
