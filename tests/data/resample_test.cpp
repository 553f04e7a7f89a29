#include "../../src/data/resample.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "segmamba/core/random.h"

namespace segmamba::data {
namespace {

constexpr std::array<Interpolation, 3> kNearest = {Interpolation::kNearest, Interpolation::kNearest,
                                                   Interpolation::kNearest};
constexpr std::array<Interpolation, 3> kLinear = {Interpolation::kLinear, Interpolation::kLinear,
                                                  Interpolation::kLinear};
constexpr std::array<Interpolation, 3> kCubic = {Interpolation::kCubic, Interpolation::kCubic,
                                                 Interpolation::kCubic};

std::vector<float> random_values(const Index3& size, std::uint64_t seed = 1) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(volume_of(size)));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

// Where new voxel i lies between the old ones.
double position(std::int64_t i, std::int64_t from, std::int64_t to) {
  const double place =
      (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
  return std::clamp(place, 0.0, static_cast<double>(from - 1));
}

double cubic_b_spline(double x) {
  x = std::abs(x);
  if (x < 1) return 2.0 / 3 - x * x + x * x * x / 2;
  return x < 2 ? (2 - x) * (2 - x) * (2 - x) / 6 : 0;
}

// The B-spline's coefficients by elimination: (c[i-1] + 4 c[i] + c[i+1]) / 6 = s[i], mirrored.
std::vector<double> coefficients(const std::vector<float>& samples) {
  const std::size_t n = samples.size();
  std::vector<std::vector<double>> rows(n, std::vector<double>(n + 1, 0.0));
  for (std::size_t i = 0; i < n; ++i) {
    rows[i][i] += 4.0 / 6;
    rows[i][i == 0 ? 1 : i - 1] += 1.0 / 6;
    rows[i][i + 1 == n ? n - 2 : i + 1] += 1.0 / 6;
    rows[i][n] = samples[i];
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t below = 0; below < n; ++below) {
      if (below == i) continue;
      const double factor = rows[below][i] / rows[i][i];
      for (std::size_t k = i; k <= n; ++k) rows[below][k] -= factor * rows[i][k];
    }
  }
  std::vector<double> solution(n);
  for (std::size_t i = 0; i < n; ++i) solution[i] = rows[i][n] / rows[i][i];
  return solution;
}

TEST(Resample, CubicIsTheInterpolatingSplineAlongEachAxis) {
  for (const std::int64_t from : {2, 3, 5, 9, 40}) {
    for (const std::int64_t to : {1, 4, 7, 61}) {
      const auto samples = random_values({1, 1, from}, static_cast<std::uint64_t>(from));
      const auto spline = coefficients(samples);
      for (std::size_t axis = 0; axis < 3; ++axis) {
        Index3 old_size = {1, 1, 1}, new_size = {1, 1, 1};
        old_size[axis] = from;
        new_size[axis] = to;
        const auto result = resample(samples, old_size, new_size, kCubic);
        ASSERT_EQ(result.size(), static_cast<std::size_t>(to));
        for (std::int64_t i = 0; i < to; ++i) {
          const double place = position(i, from, to);
          double expected = 0;
          for (std::int64_t k = -2; k < from + 2; ++k) {
            std::int64_t inside = std::abs(k) % (2 * (from - 1));
            inside = std::min(inside, 2 * (from - 1) - inside);
            expected += spline[static_cast<std::size_t>(inside)] *
                        cubic_b_spline(place - static_cast<double>(k));
          }
          EXPECT_NEAR(result[static_cast<std::size_t>(i)], expected, 2e-5)
              << from << " to " << to << " axis " << axis << " voxel " << i;
        }
      }
    }
  }
}

// The fourth tap of the last place lies two voxels outside: once it was the row before the block.
TEST(Resample, CubicOfTwoVoxelsTakesNothingFromOutside) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto result = resample({kInfinity, kInfinity, 1, 2}, {2, 2, 1}, {2, 4, 1}, kCubic);
  ASSERT_EQ(result.size(), 8U);
  for (std::size_t i = 4; i < result.size(); ++i) EXPECT_TRUE(std::isfinite(result[i])) << i;
  EXPECT_NEAR(result.back(), 2, 1e-6);
}

TEST(Resample, AxesAreIndependent) {
  const Index3 from = {5, 6, 19}, to = {7, 4, 35};
  const auto values = random_values(from);
  const std::array<Interpolation, 3> mixed = {Interpolation::kNearest, Interpolation::kLinear,
                                              Interpolation::kCubic};
  const auto result = resample(values, from, to, mixed);
  for (std::int64_t z = 0; z < to[0]; ++z) {
    const auto near = static_cast<std::int64_t>(std::ceil(position(z, from[0], to[0]) - 0.5));
    for (std::int64_t y = 0; y < to[1]; ++y) {
      const double place = position(y, from[1], to[1]);
      const auto low = static_cast<std::int64_t>(place);
      const auto t = static_cast<float>(place - static_cast<double>(low));
      std::vector<float> row;
      for (std::int64_t x = 0; x < from[2]; ++x) {
        const auto at = [&](std::int64_t v) {
          return values[static_cast<std::size_t>((near * from[1] + v) * from[2] + x)];
        };
        row.push_back((1 - t) * at(low) + t * at(std::min(low + 1, from[1] - 1)));
      }
      const auto expected = resample(row, {1, 1, from[2]}, {1, 1, to[2]}, kCubic);
      for (std::int64_t x = 0; x < to[2]; ++x) {
        EXPECT_NEAR(result[static_cast<std::size_t>((z * to[1] + y) * to[2] + x)],
                    expected[static_cast<std::size_t>(x)], 1e-5);
      }
    }
  }
}

TEST(Resample, ThriceAsManyVoxelsKeepTheOldOnes) {
  const Index3 from = {4, 5, 6}, to = {12, 15, 18};
  const auto values = random_values(from);
  for (const auto& along : {kNearest, kLinear, kCubic}) {
    const auto result = resample(values, from, to, along);
    for (std::int64_t z = 0; z < from[0]; ++z) {
      for (std::int64_t y = 0; y < from[1]; ++y) {
        for (std::int64_t x = 0; x < from[2]; ++x) {
          const auto fine = ((3 * z + 1) * to[1] + 3 * y + 1) * to[2] + 3 * x + 1;
          EXPECT_NEAR(result[static_cast<std::size_t>(fine)],
                      values[static_cast<std::size_t>((z * from[1] + y) * from[2] + x)], 1e-5);
        }
      }
    }
  }
}

TEST(ResampleLabels, TakeTheClassWithTheGreatestShare) {
  const Index3 from = {4, 3, 5}, to = {9, 7, 3};
  Random random(4);
  std::vector<std::uint8_t> labels(60);
  for (auto& label : labels) label = static_cast<std::uint8_t>(random.integer(4) * 5);
  const auto result = resample_labels(labels, from, to, kLinear);
  for (std::int64_t z = 0; z < to[0]; ++z) {
    for (std::int64_t y = 0; y < to[1]; ++y) {
      for (std::int64_t x = 0; x < to[2]; ++x) {
        const std::array<double, 3> place = {
            position(z, from[0], to[0]), position(y, from[1], to[1]), position(x, from[2], to[2])};
        std::array<double, 16> share{};
        for (int corner = 0; corner < 8; ++corner) {
          double weight = 1;
          std::int64_t index = 0;
          for (std::size_t axis = 0; axis < 3; ++axis) {
            const auto low = static_cast<std::int64_t>(place[axis]);
            const double t = place[axis] - static_cast<double>(low);
            const bool high = (corner >> axis & 1) != 0;
            weight *= high ? t : 1 - t;
            index = index * from[axis] + std::min(low + (high ? 1 : 0), from[axis] - 1);
          }
          share[labels[static_cast<std::size_t>(index)]] += weight;
        }
        const auto label = result[static_cast<std::size_t>((z * to[1] + y) * to[2] + x)];
        EXPECT_GE(share[label], *std::max_element(share.begin(), share.end()) - 1e-4);
      }
    }
  }
}

TEST(ResampleLabels, NeverInventALabel) {
  // A cubic or linear interpolation of 0 and 3 would pass through 1 and 2.
  const std::vector<std::uint8_t> labels = {0, 0, 3, 3, 0, 3};
  for (const auto& along : {kNearest, kLinear}) {
    for (const auto label : resample_labels(labels, {1, 1, 6}, {1, 1, 37}, along)) {
      EXPECT_TRUE(label == 0 || label == 3);
    }
  }
}

}  // namespace
}  // namespace segmamba::data
