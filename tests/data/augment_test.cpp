#include "segmamba/data/augment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "augment.h"
#include "augment_blocks.cuh"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

using testing::HasSubstr;

// value(z, y, x, channel) and label(z, y, x) of every voxel.
using Value = std::function<double(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>;
using Label = std::function<int(std::int64_t, std::int64_t, std::int64_t)>;

PreparedCase make_case(const Index3& size, std::int64_t channels, const Value& value,
                       const Label& label = {}) {
  struct Memory {
    std::vector<Half> image;
    std::vector<std::uint8_t> labels;
  };
  auto memory = std::make_shared<Memory>();
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) {
        for (std::int64_t c = 0; c < channels; ++c) {
          memory->image.push_back(to_half(static_cast<float>(value(z, y, x, c))));
        }
        if (label) memory->labels.push_back(static_cast<std::uint8_t>(label(z, y, x)));
      }
    }
  }
  PreparedCase item;
  item.name = "case";
  item.size = size;
  item.channels = channels;
  item.image = memory->image;
  item.labels = memory->labels;
  item.storage = memory;
  return item;
}

// Small whole numbers, which 16-bit floats hold exactly.
PreparedCase numbered_case(const Index3& size, std::int64_t channels) {
  return make_case(
      size, channels,
      [](auto z, auto y, auto x, auto c) { return (z * 37 + y * 11 + x * 5 + c * 101) % 1999; },
      [](auto z, auto y, auto x) { return static_cast<int>((z / 2 + y / 3 + x / 4) % 4); });
}

PreparedCase noisy_case(const Index3& size, std::int64_t channels) {
  Random random(11);
  return make_case(size, channels, [&](auto, auto, auto, auto c) {
    return random.normal() + 0.2 * static_cast<double>(c);
  });
}

struct Patch {
  Index3 size{};
  std::vector<float> image;
  std::vector<std::uint8_t> labels;

  float at(std::int64_t z, std::int64_t y, std::int64_t x, std::int64_t c = 0) const {
    return image[static_cast<std::size_t>(((c * size[0] + z) * size[1] + y) * size[2] + x)];
  }
  std::uint8_t label(std::int64_t z, std::int64_t y, std::int64_t x) const {
    return labels[static_cast<std::size_t>((z * size[1] + y) * size[2] + x)];
  }
  std::vector<float> channel(std::size_t c) const {
    return {image.begin() + static_cast<std::ptrdiff_t>(c * labels.size()),
            image.begin() + static_cast<std::ptrdiff_t>((c + 1) * labels.size())};
  }
};

Patch render(const PreparedCase& item, const Index3& begin, const AugmentPlan& plan) {
  Patch patch;
  patch.size = plan.size;
  const auto voxels = static_cast<std::size_t>(volume_of(plan.size));
  patch.image.assign(voxels * plan.channels.size(), -99);
  patch.labels.assign(voxels, 99);
  PatchScratch scratch;
  render_patch(item, begin, plan, patch.image.data(), patch.labels.data(), scratch);
  return patch;
}

float value_of(const PreparedCase& item, std::int64_t z, std::int64_t y, std::int64_t x,
               std::int64_t c) {
  const Index3 p = {z, y, x};
  for (std::size_t a = 0; a < 3; ++a) {
    if (p[a] < 0 || p[a] >= item.size[a]) return 0;
  }
  return to_float(item.image[static_cast<std::size_t>(
      ((z * item.size[1] + y) * item.size[2] + x) * item.channels + c)]);
}
int label_of(const PreparedCase& item, std::int64_t z, std::int64_t y, std::int64_t x) {
  const Index3 p = {z, y, x};
  for (std::size_t a = 0; a < 3; ++a) {
    if (p[a] < 0 || p[a] >= item.size[a]) return 0;
  }
  return item.labels[static_cast<std::size_t>((z * item.size[1] + y) * item.size[2] + x)];
}

template <class Check>
void for_each_voxel(const Index3& size, const Check& check) {
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) check(z, y, x);
    }
  }
}

struct Moments {
  double mean, deviation, min, max;
};
Moments moments(const std::vector<float>& values) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const float value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / count), *std::min_element(values.begin(), values.end()),
          *std::max_element(values.begin(), values.end())};
}

// ---- Space --------------------------------------------------------------------------------------

TEST(RenderPatch, CopiesTheBoxAndPadsWithZero) {
  const PreparedCase item = numbered_case({9, 10, 11}, 3);
  for (const Index3 begin :
       {Index3{2, 3, 4}, Index3{-2, 8, -3}, Index3{6, -4, 9}, Index3{20, 0, 0}}) {
    const Patch patch = render(item, begin, no_augmentation({5, 4, 6}, 3));
    for_each_voxel(patch.size, [&](auto z, auto y, auto x) {
      for (std::int64_t c = 0; c < 3; ++c) {
        ASSERT_EQ(patch.at(z, y, x, c),
                  value_of(item, z + begin[0], y + begin[1], x + begin[2], c));
      }
      ASSERT_EQ(patch.label(z, y, x), label_of(item, z + begin[0], y + begin[1], x + begin[2]));
    });
  }
}

TEST(RenderPatch, PadsWithTheValueOutside) {
  PreparedCase item = numbered_case({9, 10, 11}, 2);
  item.outside = {-0.8F, 0.3F};
  AugmentPlan plan = no_augmentation({5, 4, 6}, 2);
  const Index3 begin = {6, -2, 8};
  const Patch copy = render(item, begin, plan);
  for_each_voxel(copy.size, [&](auto z, auto y, auto x) {
    for (std::int64_t c = 0; c < 2; ++c) {
      const bool inside = z + 6 < 9 && y - 2 >= 0 && x + 8 < 11;
      ASSERT_EQ(copy.at(z, y, x, c), inside ? value_of(item, z + 6, y - 2, x + 8, c)
                                            : item.outside[static_cast<std::size_t>(c)]);
    }
  });
  plan.degrees = {30, 20, 10};
  const Patch away = render(item, {40, 0, 0}, plan);
  EXPECT_THAT(away.channel(0), testing::Each(-0.8F));
  EXPECT_THAT(away.channel(1), testing::Each(0.3F));
  item.outside.pop_back();
  EXPECT_THROW(render(item, begin, plan), Error);
}

TEST(RenderPatch, HasNoLabelsWhereTheCaseHasNone) {
  const PreparedCase item = noisy_case({6, 6, 6}, 1);
  AugmentPlan plan = no_augmentation({5, 4, 6}, 1);
  EXPECT_THAT(render(item, {0, 0, 0}, plan).labels, testing::Each(0));
  plan.degrees = {5, 5, 5};
  EXPECT_THAT(render(item, {0, 0, 0}, plan).labels, testing::Each(0));
}

TEST(RenderPatch, MirrorsEachAxis) {
  const PreparedCase item = numbered_case({9, 10, 41}, 4);
  AugmentPlan plan = no_augmentation({5, 6, 38}, 4);
  for (int axes = 0; axes < 8; ++axes) {
    plan.mirror = {(axes & 1) != 0, (axes & 2) != 0, (axes & 4) != 0};
    const Patch patch = render(item, {1, -2, 2}, plan);
    for_each_voxel(patch.size, [&](auto z, auto y, auto x) {
      const auto mz = plan.mirror[0] ? 4 - z : z, my = plan.mirror[1] ? 5 - y : y,
                 mx = plan.mirror[2] ? 37 - x : x;
      for (std::int64_t c = 0; c < 4; ++c) {
        ASSERT_EQ(patch.at(z, y, x, c), value_of(item, mz + 1, my - 2, mx + 2, c));
      }
      ASSERT_EQ(patch.label(z, y, x), label_of(item, mz + 1, my - 2, mx + 2));
    });
  }
}

// A quarter turn moves every voxel onto a voxel.
TEST(RenderPatch, TurnsByRightAnglesExactly) {
  const PreparedCase item = numbered_case({9, 9, 9}, 2);
  for (const bool cubic : {false, true}) {
    for (const bool linear : {false, true}) {
      AugmentPlan plan = no_augmentation({7, 7, 7}, 2);
      plan.cubic_image = cubic;
      plan.linear_labels = linear;
      const Index3 begin = {1, 1, 0};
      const std::int64_t last = 6;
      const auto expect = [&](const Patch& patch, const auto& source) {
        for_each_voxel(patch.size, [&](auto z, auto y, auto x) {
          const Index3 p = source(z, y, x);
          for (std::int64_t c = 0; c < 2; ++c) {
            ASSERT_EQ(patch.at(z, y, x, c),
                      value_of(item, p[0] + begin[0], p[1] + begin[1], p[2] + begin[2], c));
          }
          ASSERT_EQ(patch.label(z, y, x),
                    label_of(item, p[0] + begin[0], p[1] + begin[1], p[2] + begin[2]));
        });
      };
      plan.degrees = {90, 0, 0};  // y from -x
      expect(render(item, begin, plan), [&](auto z, auto y, auto x) {
        return Index3{z, last - x, y};
      });
      plan.degrees = {0, 90, 0};
      expect(render(item, begin, plan), [&](auto z, auto y, auto x) {
        return Index3{last - x, y, z};
      });
      plan.degrees = {0, 0, 90};
      expect(render(item, begin, plan), [&](auto z, auto y, auto x) {
        return Index3{last - y, z, x};
      });
      plan.degrees = {180, 0, 0};
      expect(render(item, begin, plan), [&](auto z, auto y, auto x) {
        return Index3{z, last - y, last - x};
      });
      // Mirroring comes after.
      plan.mirror = {true, false, false};
      expect(render(item, begin, plan), [&](auto z, auto y, auto x) {
        return Index3{last - z, last - y, last - x};
      });
    }
  }
}

// Both interpolations reproduce a ramp, on which the position of every voxel can be read.
TEST(RenderPatch, ScalesAndTurnsAboutTheMiddle) {
  const Index3 size = {40, 44, 48}, begin = {12, 14, 16};
  const PreparedCase item = make_case(size, 3, [](auto z, auto y, auto x, auto c) {
    return c == 0 ? z : c == 1 ? y : x;
  });
  AugmentPlan plan = no_augmentation({15, 16, 17}, 3);
  plan.degrees = {20, -10, 25};
  plan.scale = {1.2, 0.8, 0.9};
  // Rotations about z, y and x in this order, after the scaling.
  double matrix[3][3] = {{1.2, 0, 0}, {0, 0.8, 0}, {0, 0, 0.9}};
  const int others[3][2] = {{1, 2}, {0, 2}, {0, 1}};
  for (int axis = 0; axis < 3; ++axis) {
    const double angle = plan.degrees[static_cast<std::size_t>(axis)] * 3.14159265358979 / 180;
    for (auto b = 0; b < 3; ++b) {
      double &u = matrix[others[axis][0]][b], &v = matrix[others[axis][1]][b];
      const double turned = std::cos(angle) * u - std::sin(angle) * v;
      v = std::sin(angle) * u + std::cos(angle) * v;
      u = turned;
    }
  }
  for (const bool cubic : {false, true}) {
    plan.cubic_image = cubic;
    const Patch patch = render(item, begin, plan);
    for_each_voxel(patch.size, [&](auto z, auto y, auto x) {
      const double offset[3] = {z - 7.0, y - 7.5, x - 8.0};
      const double middle[3] = {19, 21.5, 24};
      for (std::int64_t a = 0; a < 3; ++a) {
        double expected = middle[a];
        for (int b = 0; b < 3; ++b) expected += matrix[a][b] * offset[b];
        ASSERT_NEAR(patch.at(z, y, x, a), expected, 4e-4);  // positions are rounded to 2^-16
      }
    });
  }
}

TEST(RenderPatch, AScaleAboveOneShowsMoreOfTheCase) {
  const PreparedCase item = make_case({32, 32, 32}, 1, [](auto, auto, auto x, auto) { return x; });
  AugmentPlan plan = no_augmentation({8, 8, 8}, 1);
  plan.scale = {1.4, 1.4, 1.4};
  const Patch patch = render(item, {12, 12, 12}, plan);
  EXPECT_NEAR(patch.at(4, 4, 7) - patch.at(4, 4, 0), 7 * 1.4, 1e-3);
}

// Turning a patch within a case shows the case, not padding.
TEST(RenderPatch, ReadsTheWholeCase) {
  const PreparedCase item = make_case({40, 40, 40}, 1, [](auto, auto, auto, auto) { return 3; });
  AugmentPlan plan = no_augmentation({16, 16, 16}, 1);
  plan.degrees = {30, 30, 30};
  plan.scale = {1.3, 1.3, 1.3};
  EXPECT_THAT(render(item, {12, 12, 12}, plan).image, testing::Each(testing::FloatNear(3, 1e-5F)));
}

void fill_displacements(AugmentPlan& plan, double spacing, const std::function<double()>& draw) {
  plan.spacing = spacing;
  plan.displacement = 1;
  for (std::size_t b = 0; b < 3; ++b) {
    plan.points[b] = static_cast<std::int64_t>(static_cast<double>(plan.size[b] - 1) / spacing) + 4;
  }
  plan.displacements.clear();
  for (std::int64_t i = 0; i < 3 * volume_of(plan.points); ++i) {
    plan.displacements.push_back(static_cast<float>(draw()));
  }
}

TEST(RenderPatch, DeformsByNothingWhereNothingIsDisplaced) {
  const PreparedCase item = numbered_case({20, 21, 40}, 4);
  AugmentPlan plan = no_augmentation({15, 16, 33}, 4);
  const Patch expected = render(item, {-1, 3, 4}, plan);
  fill_displacements(plan, 6, [] { return 0.0; });
  const Patch patch = render(item, {-1, 3, 4}, plan);
  EXPECT_EQ(patch.image, expected.image);
  EXPECT_EQ(patch.labels, expected.labels);
}

// B-splines add up to 1: equal displacements are a shift, and the turned patch shifts along its own
// axes.
TEST(RenderPatch, MovesByEqualDisplacements) {
  const PreparedCase item = numbered_case({20, 21, 40}, 2);
  AugmentPlan plan = no_augmentation({9, 10, 11}, 2);
  int i = 0;
  fill_displacements(plan, 5, [&] {
    return std::array{2.0, -1.0, 3.0}[static_cast<std::size_t>(i++ % 3)];
  });
  const Patch expected = render(item, {7, 4, 13}, no_augmentation({9, 10, 11}, 2));
  const Patch patch = render(item, {5, 5, 10}, plan);
  for (std::size_t v = 0; v < patch.image.size(); ++v) {
    ASSERT_NEAR(patch.image[v], expected.image[v], 0.2);  // 2^-16 voxel of steps of up to 2000
  }
  EXPECT_EQ(patch.labels, expected.labels);
}

TEST(RenderPatch, DoesNotFoldAtTheLargestDisplacement) {
  AugmentPlan plan = no_augmentation({64, 64, 64}, 1);
  Random random(4);
  const double spacing = 24;
  for (int trial = 0; trial < 20; ++trial) {
    fill_displacements(plan, spacing,
                       [&] { return random.chance(0.5) ? 0.4 * spacing : -0.4 * spacing; });
    const kernels::PatchTransform transform = lower(plan, {0, 0, 0});
    for (int i = 0; i < 2000; ++i) {
      const auto z = static_cast<std::int32_t>(random.integer(63)),
                 y = static_cast<std::int32_t>(random.integer(63)),
                 x = static_cast<std::int32_t>(random.integer(63));
      double j[3][3];
      for (int b = 0; b < 3; ++b) {
        const auto from =
            kernels::map_voxel(transform.map, transform.displacements.data(), z, y, x);
        const auto to = kernels::map_voxel(transform.map, transform.displacements.data(),
                                           z + (b == 0), y + (b == 1), x + (b == 2));
        for (int a = 0; a < 3; ++a) {
          j[a][b] = static_cast<double>(to.at[a] - from.at[a]) / kernels::kPositionOne;
        }
      }
      const double determinant = j[0][0] * (j[1][1] * j[2][2] - j[1][2] * j[2][1]) -
                                 j[0][1] * (j[1][0] * j[2][2] - j[1][2] * j[2][0]) +
                                 j[0][2] * (j[1][0] * j[2][1] - j[1][1] * j[2][0]);
      ASSERT_GT(determinant, 0);
    }
  }
}

TEST(RenderPatch, TakesTheLabelWithTheLargestWeight) {
  Random random(8);
  const PreparedCase item = make_case(
      {12, 12, 12}, 1, [](auto, auto, auto, auto) { return 0; },
      [&](auto, auto, auto) {
        return std::array{1, 3, 7, 200}[static_cast<std::size_t>(random.integer(4))];
      });
  AugmentPlan plan = no_augmentation({9, 9, 9}, 1);
  plan.degrees = {17, 23, -31};
  plan.scale = {1.1, 1.1, 1.1};
  const Patch patch = render(item, {2, 2, 2}, plan);
  const kernels::PatchTransform transform = lower(plan, {2, 2, 2});
  for_each_voxel(patch.size, [&](auto z, auto y, auto x) {
    const auto p = kernels::map_voxel(transform.map, nullptr, static_cast<std::int32_t>(z),
                                      static_cast<std::int32_t>(y), static_cast<std::int32_t>(x));
    std::map<int, double> weights;
    for (int corner = 0; corner < 8; ++corner) {
      double weight = 1;
      std::int64_t at[3];
      for (int a = 0; a < 3; ++a) {
        const double position = static_cast<double>(p.at[a]) / kernels::kPositionOne;
        const int high = corner >> a & 1;
        at[a] = static_cast<std::int64_t>(std::floor(position)) + high;
        const double fraction = position - std::floor(position);
        weight *= high == 1 ? fraction : 1 - fraction;
      }
      weights[label_of(item, at[0], at[1], at[2])] += weight;
    }
    int best = weights.begin()->first;
    for (const auto& [label, weight] : weights) {
      if (weight > weights[best]) best = label;
    }
    ASSERT_EQ(patch.label(z, y, x), best);
  });
}

TEST(RenderPatch, TakesTheLowerOfTwoLabelsOfEqualWeight) {
  const PreparedCase item = make_case(
      {3, 3, 8}, 1, [](auto, auto, auto, auto) { return 0; },
      [](auto, auto, auto x) { return x < 4 ? 5 : 2; });
  AugmentPlan plan = no_augmentation({1, 1, 2}, 1);
  plan.scale = {1, 1, 2};  // x at 2.5 and 4.5 around 3.5
  EXPECT_EQ(render(item, {1, 1, 3}, plan).labels, (std::vector<std::uint8_t>{5, 2}));
  plan.size = {1, 1, 3};
  plan.scale = {1, 1, 0.5};  // x at 3.5, 4, 4.5
  EXPECT_EQ(render(item, {1, 1, 3}, plan).labels, (std::vector<std::uint8_t>{2, 2, 2}));
}

TEST(NeededBox, HoldsEveryVoxelThatIsRead) {
  // All but the box is made unreadable, as infinity: nothing of it may reach the patch.
  AugmentConfig config;
  config.rotation.probability = config.scaling.probability = config.elastic.probability = 0.7;
  config.elastic.spacing = {8, 12};
  config.elastic.displacement = {0, 3};
  Random random(6);
  for (int trial = 0; trial < 30; ++trial) {
    config.interpolation = trial % 2 == 0 ? "cubic" : "linear";
    AugmentConfig spatial = config;
    for (double* probability :
         {&spatial.noise.probability, &spatial.blur.probability, &spatial.contrast.probability,
          &spatial.brightness_multiplicative.probability, &spatial.low_resolution.probability,
          &spatial.gamma.probability, &spatial.gamma_inverted.probability}) {
      *probability = 0;
    }
    const AugmentPlan plan = draw_augmentation(spatial, {10, 12, 14}, 1, random);
    const Index3 begin = {15, 14, 13};
    const Box box = needed_box(plan, begin);
    const PreparedCase item = make_case({40, 40, 40}, 1, [&](auto z, auto y, auto x, auto) {
      const bool inside = z >= box.begin[0] && z < box.begin[0] + box.size[0] &&
                          y >= box.begin[1] && y < box.begin[1] + box.size[1] &&
                          x >= box.begin[2] && x < box.begin[2] + box.size[2];
      return inside ? 1 : INFINITY;
    });
    for (const float value : render(item, begin, plan).image) ASSERT_NEAR(value, 1, 1e-5);
  }
  EXPECT_EQ(needed_box(no_augmentation({5, 6, 7}, 1), {-1, 2, 3}), (Box{{-1, 2, 3}, {5, 6, 7}}));
}

// A plan of every kind: by bits a turn, a deformation, a mirrored axis, cubic, linear labels.
AugmentPlan plan_of_kind(int kind, std::int64_t channels, Random& random) {
  AugmentPlan plan = no_augmentation({12, 13, 18}, channels);
  if ((kind & 1) != 0) {
    plan.degrees = {random.uniform(-40, 40), random.uniform(-40, 40), random.uniform(-40, 40)};
    plan.scale = {random.uniform(0.6, 1.5), random.uniform(0.6, 1.5), random.uniform(0.6, 1.5)};
  }
  if ((kind & 2) != 0) fill_displacements(plan, 5, [&] { return random.uniform(-2, 2); });
  plan.mirror[2] = (kind & 4) != 0;
  plan.cubic_image = (kind & 8) != 0;
  plan.linear_labels = (kind & 16) != 0;
  plan.noise_seed = random.next_u64();
  for (ChannelPlan& channel : plan.channels) {
    channel.noise = 0.1;
    channel.blur = 0.7;
    channel.contrast = 1.2;
    channel.zoom = 0.6;
    channel.gamma = 0.8;
  }
  return plan;
}

// The code of the CUDA kernels, emulated.
Patch render_blocks(const PreparedCase& item, const Index3& begin, const AugmentPlan& plan) {
  const kernels::PatchTransform transform = lower(plan, begin);
  const kernels::AugmentLayout layout(transform);
  std::vector<std::uint64_t> workspace(layout.bytes / sizeof(std::uint64_t), ~std::uint64_t{0});
  void* const memory = workspace.data();
  std::copy(transform.displacements.begin(), transform.displacements.end(),
            reinterpret_cast<float*>(static_cast<unsigned char*>(memory) + layout.displacements));
  Patch patch;
  patch.size = plan.size;
  const auto voxels = static_cast<std::size_t>(volume_of(plan.size));
  patch.image.assign(voxels * plan.channels.size(), -99);
  patch.labels.assign(voxels, 99);
  kernels::AugmentPasses<kernels::EmulatedLauncher>(view_of(item), transform, patch.image.data(),
                                                    patch.labels.data(), memory,
                                                    kernels::EmulatedLauncher())
      .run();
  return patch;
}

TEST(NeededBox, GivesThePatchOfTheWholeCase) {
  const Index3 size = {30, 28, 34};
  PreparedCase item = noisy_case(size, 4);
  item.outside = {-0.8F, 0.3F, 0, 1};
  std::vector<std::uint8_t> labels;
  for_each_voxel(size, [&](auto z, auto y, auto x) {
    labels.push_back(static_cast<std::uint8_t>((z / 2 + y / 3 + x / 4) % 4));
  });
  item.labels = labels;
  Random random(8);
  std::int64_t smaller = 0;
  for (int trial = 0; trial < 160; ++trial) {
    SCOPED_TRACE(trial);
    const AugmentPlan plan = plan_of_kind(trial % 32, 4, random);
    Index3 begin{};
    for (std::size_t a = 0; a < 3; ++a) {
      begin[a] = static_cast<std::int64_t>(random.integer(44)) - 18;
    }
    if (trial % 20 == 19) begin[1] = 300;  // nothing of the case
    const Box part = part_inside(item, needed_box(plan, begin));
    const PreparedCase small = cut(item, part);
    ASSERT_EQ(small.size, part.size);
    smaller += volume_of(part.size) < volume_of(size) / 2 ? 1 : 0;
    const Index3 from_part = {begin[0] - part.begin[0], begin[1] - part.begin[1],
                              begin[2] - part.begin[2]};
    const Patch expected = render(item, begin, plan), patch = render(small, from_part, plan);
    ASSERT_EQ(patch.image, expected.image);
    ASSERT_EQ(patch.labels, expected.labels);
    const Patch blocks = render_blocks(item, begin, plan),
                small_blocks = render_blocks(small, from_part, plan);
    ASSERT_EQ(small_blocks.image, blocks.image);
    ASSERT_EQ(small_blocks.labels, blocks.labels);
    // Voxels of the case beyond the part do not matter.
    PreparedCase spoilt = make_case(
        size, 4,
        [&](auto z, auto y, auto x, auto c) {
          const Index3 p = {z, y, x};
          for (std::size_t a = 0; a < 3; ++a) {
            if (p[a] < part.begin[a] || p[a] >= part.begin[a] + part.size[a]) return NAN;
          }
          return value_of(item, z, y, x, c);
        },
        [&](auto z, auto y, auto x) {
          const Index3 p = {z, y, x};
          for (std::size_t a = 0; a < 3; ++a) {
            if (p[a] < part.begin[a] || p[a] >= part.begin[a] + part.size[a]) return 77;
          }
          return label_of(item, z, y, x);
        });
    spoilt.outside = item.outside;
    const Patch same = render_blocks(spoilt, begin, plan);
    ASSERT_EQ(same.image, blocks.image);
    ASSERT_EQ(same.labels, blocks.labels);
  }
  EXPECT_GT(smaller, 40);
}

// Positions that end in half a unit round the same way on either side of the case's first voxel.
TEST(Lower, MovesWithThePatch) {
  Random random(6);
  for (int trial = 0; trial < 2000; ++trial) {
    AugmentPlan plan = no_augmentation({2, 4, 6}, 1);
    plan.scale = {random.uniform(0.7, 1.4), random.uniform(0.7, 1.4), random.uniform(0.7, 1.4)};
    const auto here = lower(plan, {-3, -4, -5}).map, there = lower(plan, {97, 96, 95}).map;
    for (std::size_t a = 0; a < 3; ++a) {
      ASSERT_EQ(here.origin[a] + 100 * kernels::kPositionOne, there.origin[a]);
    }
  }
}

TEST(CopyBox, RefusesABoxThatSticksOut) {
  const PreparedCase item = noisy_case({4, 5, 6}, 2);
  EXPECT_EQ(part_inside(item, {{-1, 2, 3}, {3, 2, 9}}), (Box{{0, 2, 3}, {2, 2, 3}}));
  EXPECT_EQ(part_inside(item, {{-9, 2, 30}, {3, 2, 9}}), (Box{{0, 2, 5}, {1, 2, 1}}));
  try {
    cut(item, {{0, 2, 3}, {2, 2, 4}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("2x2x4 voxels at voxel (0, 2, 3) does not lie in"));
  }
}

// ---- Intensities --------------------------------------------------------------------------------

TEST(RenderPatch, AddsNormalNoise) {
  const PreparedCase item = make_case({1, 1, 1}, 2, [](auto, auto, auto, auto) { return 0; });
  AugmentPlan plan = no_augmentation({64, 64, 65}, 2);
  plan.noise_seed = 17;
  plan.channels[0].noise = plan.channels[1].noise = 0.5;
  const Patch patch = render(item, {5, 5, 5}, plan);
  const auto count = static_cast<double>(patch.labels.size());
  std::vector<double> correlations;
  for (std::size_t c = 0; c < 2; ++c) {
    const std::vector<float> values = patch.channel(c);
    double sums[5] = {};
    std::vector<double> within = {0, 0, 0};
    for (const float value : values) {
      const double v = value / 0.5;
      for (int k = 1; k < 5; ++k) sums[k] += std::pow(v, k);
      for (std::size_t k = 0; k < 3; ++k)
        within[k] += std::abs(v) < static_cast<double>(k + 1) ? 1 : 0;
    }
    // Five standard errors of each estimate.
    EXPECT_NEAR(sums[1] / count, 0, 5 / std::sqrt(count));
    EXPECT_NEAR(sums[2] / count, 1, 5 * std::sqrt(2 / count));
    EXPECT_NEAR(sums[3] / count, 0, 5 * std::sqrt(15 / count));
    EXPECT_NEAR(sums[4] / count, 3, 5 * std::sqrt(96 / count));
    EXPECT_NEAR(within[0] / count, 0.682689, 5 * std::sqrt(0.22 / count));
    EXPECT_NEAR(within[1] / count, 0.954500, 5 * std::sqrt(0.05 / count));
    EXPECT_NEAR(within[2] / count, 0.997300, 5 * std::sqrt(0.003 / count));
    // Neighbours, the voxels of a block of Philox and of a pair of Box and Muller.
    for (const std::size_t lag : {1U, 15U, 16U, 32U, 48U, 64U, 65U}) {
      double sum = 0;
      for (std::size_t i = 0; i + lag < values.size(); ++i) sum += values[i] * values[i + lag] * 4;
      EXPECT_NEAR(sum / count, 0, 5 / std::sqrt(count)) << lag;
    }
  }
  double between = 0;
  for (std::size_t i = 0; i < patch.labels.size(); ++i) {
    between += 4 * patch.image[i] * patch.image[i + patch.labels.size()];
  }
  EXPECT_NEAR(between / count, 0, 5 / std::sqrt(count));
}

// The noise of a voxel depends on seed, channel and index alone.
TEST(RenderPatch, AddsTheSameNoiseWhateverElseHappens) {
  const PreparedCase item = make_case({4, 4, 4}, 2, [](auto, auto, auto, auto) { return 1; });
  AugmentPlan plan = no_augmentation({8, 9, 10}, 2);
  plan.noise_seed = 17;
  plan.channels[0].noise = plan.channels[1].noise = 0.5;
  const Patch all = render(item, {20, 20, 20}, plan);
  plan.channels[0].noise = 0;
  EXPECT_EQ(render(item, {20, 20, 20}, plan).channel(1), all.channel(1));
  plan.size = {3, 9, 10};
  const std::vector<float> part = render(item, {20, 20, 20}, plan).channel(1);
  const std::vector<float> whole = all.channel(1);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin()));
  plan.noise_seed = 18;
  EXPECT_NE(render(item, {20, 20, 20}, plan).channel(1), part);
}

TEST(RenderPatch, BlursAnImpulseIntoTheKernel) {
  const PreparedCase item = make_case({21, 21, 21}, 1, [](auto z, auto y, auto x, auto) {
    return z == 10 && y == 10 && x == 10 ? 1000 : 0;
  });
  AugmentPlan plan = no_augmentation({21, 21, 21}, 1);
  const double sigma = 0.9;
  plan.channels[0].blur = sigma;
  const Patch patch = render(item, {0, 0, 0}, plan);
  double sum = 0;
  for (int i = -4; i <= 4; ++i) sum += std::exp(-i * i / (2 * sigma * sigma));
  const auto weight = [&](std::int64_t i) {  // cut at 4 sigma, rounded
    return std::abs(i) > 4 ? 0.0
                           : std::exp(-static_cast<double>(i * i) / (2 * sigma * sigma)) / sum;
  };
  for_each_voxel(patch.size, [&](auto z, auto y, auto x) {
    ASSERT_NEAR(patch.at(z, y, x), 1000 * weight(z - 10) * weight(y - 10) * weight(x - 10), 1e-4);
  });
}

TEST(RenderPatch, KeepsAConstantUnderBlurAndLowResolution) {
  const PreparedCase item = make_case({20, 20, 20}, 2, [](auto, auto, auto, auto) { return 2.5; });
  for (const bool cubic : {false, true}) {
    AugmentPlan plan = no_augmentation({9, 10, 19}, 2);
    plan.cubic_upsampling = cubic;
    plan.channels[0].blur = 1.3;
    plan.channels[1].zoom = 0.55;
    EXPECT_THAT(render(item, {1, 1, 1}, plan).image,
                testing::Each(testing::FloatNear(2.5F, 2e-6F)));
  }
}

// A border voxel goes on mirrored, which keeps the sum of all.
TEST(RenderPatch, KeepsTheSumUnderBlur) {
  const PreparedCase item = noisy_case({12, 12, 12}, 1);
  AugmentPlan plan = no_augmentation({12, 12, 12}, 1);
  const double before = moments(render(item, {0, 0, 0}, plan).image).mean;
  plan.channels[0].blur = 1;
  EXPECT_NEAR(moments(render(item, {0, 0, 0}, plan).image).mean, before, 1e-6);
}

TEST(RenderPatch, ChangesBrightnessExactly) {
  const PreparedCase item = noisy_case({9, 9, 9}, 3);
  AugmentPlan plan = no_augmentation({9, 9, 9}, 3);
  const Patch before = render(item, {0, 0, 0}, plan);
  plan.channels[1].factor = 1.25;
  plan.channels[2].shift = -0.5;
  const Patch after = render(item, {0, 0, 0}, plan);
  EXPECT_EQ(after.channel(0), before.channel(0));
  for (std::size_t i = 0; i < before.labels.size(); ++i) {
    ASSERT_EQ(after.channel(1)[i], before.channel(1)[i] * 1.25F);
    ASSERT_EQ(after.channel(2)[i], before.channel(2)[i] - 0.5F);
  }
}

TEST(RenderPatch, ChangesContrastAboutTheMean) {
  const PreparedCase item = noisy_case({9, 9, 9}, 2);
  AugmentPlan plan = no_augmentation({9, 9, 9}, 2);
  const Patch before = render(item, {0, 0, 0}, plan);
  plan.channels[0].contrast = 0.75;
  plan.channels[1].contrast = 1.25;
  for (const bool preserve : {false, true}) {
    plan.contrast_preserves_range = preserve;
    const Patch after = render(item, {0, 0, 0}, plan);
    for (std::size_t c = 0; c < 2; ++c) {
      const std::vector<float> values = before.channel(c), changed = after.channel(c);
      const Moments all = moments(values);
      for (std::size_t i = 0; i < values.size(); ++i) {
        double expected = (values[i] - all.mean) * plan.channels[c].contrast + all.mean;
        if (preserve) expected = std::clamp(expected, all.min, all.max);
        ASSERT_NEAR(changed[i], expected, 2e-6);
      }
    }
  }
}

TEST(RenderPatch, LowersResolutionToItsOwnSizeExactly) {
  const PreparedCase item = noisy_case({9, 9, 9}, 1);
  AugmentPlan plan = no_augmentation({9, 9, 9}, 1);
  const Patch before = render(item, {0, 0, 0}, plan);
  plan.channels[0].zoom = 0.99;  // rounds to 9 voxels
  EXPECT_EQ(render(item, {0, 0, 0}, plan).image, before.image);
}

// At half the size the nearest voxels are the odd ones, and linear upsampling goes a quarter of the
// way to the next.
TEST(RenderPatch, HalvesTheResolution) {
  const PreparedCase item = make_case({8, 8, 8}, 1, [](auto, auto, auto x, auto) { return x * x; });
  AugmentPlan plan = no_augmentation({8, 8, 8}, 1);
  plan.channels[0].zoom = 0.5;
  plan.cubic_upsampling = false;
  const Patch patch = render(item, {0, 0, 0}, plan);
  const float low[4] = {1, 9, 25, 49};
  const float expected[8] = {low[0],
                             0.75F * low[0] + 0.25F * low[1],
                             0.25F * low[0] + 0.75F * low[1],
                             0.75F * low[1] + 0.25F * low[2],
                             0.25F * low[1] + 0.75F * low[2],
                             0.75F * low[2] + 0.25F * low[3],
                             0.25F * low[2] + 0.75F * low[3],
                             low[3]};
  for_each_voxel(patch.size, [&](auto z, auto y, auto x) {
    ASSERT_NEAR(patch.at(z, y, x), expected[x], 1e-4);
  });
}

TEST(RenderPatch, RaisesToGamma) {
  const PreparedCase item = noisy_case({10, 11, 12}, 2);
  AugmentPlan plan = no_augmentation({10, 11, 12}, 2);
  const Patch before = render(item, {0, 0, 0}, plan);
  plan.gamma_retains = plan.gamma_inverted_retains = false;
  plan.channels[0].gamma = 0.7;
  plan.channels[1].gamma_inverted = 1.5;
  const Patch after = render(item, {0, 0, 0}, plan);
  for (std::size_t c = 0; c < 2; ++c) {
    const double sign = c == 0 ? 1 : -1, power = c == 0 ? 0.7 : 1.5;
    const std::vector<float> values = before.channel(c), changed = after.channel(c);
    const Moments all = moments(values);
    const double min = c == 0 ? all.min : -all.max, range = all.max - all.min + 1e-7;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double expected =
          sign * (std::pow((sign * values[i] - min) / range, power) * range + min);
      ASSERT_NEAR(changed[i], expected, 5e-6);
    }
  }
}

TEST(RenderPatch, RaisesToGammaOfAboutOneWithoutAChange) {
  const PreparedCase item = noisy_case({10, 11, 12}, 2);
  AugmentPlan plan = no_augmentation({10, 11, 12}, 2);
  const Patch before = render(item, {0, 0, 0}, plan);
  plan.channels[0].gamma = 1.0000002;  // 1 itself is skipped
  plan.channels[1].gamma_inverted = 1.0000002;
  const Patch after = render(item, {0, 0, 0}, plan);
  for (std::size_t i = 0; i < before.image.size(); ++i) {
    ASSERT_NEAR(after.image[i], before.image[i], 1e-5);
  }
}

TEST(RenderPatch, RetainsStatistics) {
  const PreparedCase item = noisy_case({20, 21, 22}, 3);
  AugmentPlan plan = no_augmentation({20, 21, 22}, 3);
  const Patch before = render(item, {0, 0, 0}, plan);
  plan.channels[0].gamma = 0.7;
  plan.channels[1].gamma_inverted = 1.5;
  plan.channels[2].gamma = 1.4;
  plan.channels[2].gamma_inverted = 0.8;
  const Patch after = render(item, {0, 0, 0}, plan);
  for (std::size_t c = 0; c < 3; ++c) {
    const Moments a = moments(before.channel(c)), b = moments(after.channel(c));
    EXPECT_NEAR(a.mean, b.mean, 2e-6);
    EXPECT_NEAR(a.deviation, b.deviation, 2e-6);
    EXPECT_GT(std::abs(a.min - b.min), 0.01);
  }
}

TEST(RenderPatch, KeepsAConstantUnderGammaAndContrast) {
  const PreparedCase item = make_case({9, 9, 9}, 2, [](auto, auto, auto, auto c) { return 3 - c; });
  AugmentPlan plan = no_augmentation({9, 9, 9}, 2);
  for (ChannelPlan& channel : plan.channels) {
    channel.contrast = 1.2;
    channel.gamma = 0.7;
    channel.gamma_inverted = 1.4;
  }
  const Patch patch = render(item, {0, 0, 0}, plan);
  EXPECT_THAT(patch.channel(0), testing::Each(testing::FloatNear(3, 1e-5F)));
  EXPECT_THAT(patch.channel(1), testing::Each(testing::FloatNear(2, 1e-5F)));
}

// ---- Drawing ------------------------------------------------------------------------------------

TEST(DrawAugmentation, FollowsTheRecipe) {
  const AugmentConfig config;
  constexpr int kDraws = 20000;
  std::map<std::string, double> count;
  std::map<std::string, std::array<double, 2>> range;
  const auto see = [&](const std::string& name, double value) {
    auto [at, first] = range.try_emplace(name, std::array{value, value});
    at->second = {std::min(at->second[0], value), std::max(at->second[1], value)};
  };
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    Random random(1, i);
    const AugmentPlan plan = draw_augmentation(config, {8, 8, 8}, 2, random);
    if (plan.degrees[0] != 0) {
      count["rotation"] += 1;
      for (const double angle : plan.degrees) see("degrees", angle);
      EXPECT_NE(plan.degrees[0], plan.degrees[1]);
    }
    if (plan.scale[0] != 1) {
      count["scaling"] += 1;
      count["scaling below 1"] += plan.scale[0] < 1 ? 1 : 0;
      see("scale", plan.scale[0]);
      EXPECT_TRUE(plan.scale[0] == plan.scale[1] && plan.scale[0] == plan.scale[2]);
    }
    EXPECT_EQ(plan.spacing, 0);
    for (std::size_t a = 0; a < 3; ++a) count["mirror"] += plan.mirror[a] ? 1.0 / 3 : 0;
    const ChannelPlan& first = plan.channels[0];
    const ChannelPlan& second = plan.channels[1];
    if (first.noise != 0) count["noise"] += 1, see("noise", first.noise);
    EXPECT_EQ(first.noise, second.noise);
    if (first.blur != 0) count["blur"] += 1, see("blur", first.blur);
    if (first.blur != 0 && second.blur != 0) count["both blur"] += 1;
    if (first.factor != 1) {
      count["factor"] += 1;
      see("factor", first.factor);
      EXPECT_NE(first.factor, second.factor);
    }
    EXPECT_EQ(first.shift, 0);
    if (first.contrast != 1) {
      count["contrast"] += 1;
      see("contrast", first.contrast);
      count["contrast below 1"] += first.contrast < 1 ? 1 : 0;
    }
    if (first.zoom != 1) count["zoom"] += 1, see("zoom", first.zoom);
    if (first.gamma != 1) {
      count["gamma"] += 1;
      see("gamma", first.gamma);
      count["gamma below 1"] += first.gamma < 1 ? 1 : 0;
    }
    if (first.gamma_inverted != 1) count["gamma inverted"] += 1, see("gamma", first.gamma_inverted);
  }
  const std::map<std::string, double> expected = {
      {"rotation", 0.2},        {"scaling", 0.2},
      {"scaling below 1", 0.1}, {"mirror", 0.5},
      {"noise", 0.1},           {"blur", 0.1},
      {"both blur", 0.05},      {"factor", 0.15},
      {"contrast", 0.15},       {"contrast below 1", 0.075},
      {"zoom", 0.125},          {"gamma", 0.3},
      {"gamma below 1", 0.15},  {"gamma inverted", 0.1}};
  for (const auto& [name, share] : expected) {
    EXPECT_NEAR(count[name] / kDraws, share, 5 * std::sqrt(share * (1 - share) / kDraws)) << name;
  }
  const std::map<std::string, std::array<double, 2>> limits = {
      {"degrees", {-30, 30}}, {"scale", {0.7, 1.4}},    {"noise", {0, 0.1}},
      {"blur", {0.5, 1}},     {"factor", {0.75, 1.25}}, {"contrast", {0.75, 1.25}},
      {"zoom", {0.5, 1}},     {"gamma", {0.7, 1.5}}};
  for (const auto& [name, limit] : limits) {
    const double margin = 0.01 * (limit[1] - limit[0]);
    EXPECT_GE(range[name][0], limit[0]) << name;
    EXPECT_LE(range[name][0], limit[0] + margin) << name;
    EXPECT_LE(range[name][1], limit[1]) << name;
    EXPECT_GE(range[name][1], limit[1] - margin) << name;
  }
}

TEST(DrawAugmentation, DeformsWithinItsLimits) {
  AugmentConfig config;
  config.elastic.probability = 1;
  config.elastic.displacement = {50, 50};
  for (std::uint64_t i = 0; i < 20; ++i) {
    Random random(2, i);
    const AugmentPlan plan = draw_augmentation(config, {100, 80, 60}, 1, random);
    EXPECT_GE(plan.spacing, 24);
    EXPECT_LE(plan.spacing, 48);
    const auto [low, high] =
        std::minmax_element(plan.displacements.begin(), plan.displacements.end());
    EXPECT_FLOAT_EQ(*low, static_cast<float>(-0.4 * plan.spacing));
    EXPECT_FLOAT_EQ(*high, static_cast<float>(0.4 * plan.spacing));
  }
}

bool same(const ChannelPlan& a, const ChannelPlan& b) {
  return a.noise == b.noise && a.blur == b.blur && a.factor == b.factor && a.shift == b.shift &&
         a.contrast == b.contrast && a.zoom == b.zoom && a.gamma_inverted == b.gamma_inverted &&
         a.gamma == b.gamma;
}

// Each section switched off, or on, in turn: all that another section drew is as before.
TEST(DrawAugmentation, LeavesTheOtherSectionsAsTheyWere) {
  const std::vector<std::function<double&(AugmentConfig&)>> sections = {
      [](AugmentConfig& c) -> double& { return c.rotation.probability; },
      [](AugmentConfig& c) -> double& { return c.scaling.probability; },
      [](AugmentConfig& c) -> double& { return c.elastic.probability; },
      [](AugmentConfig& c) -> double& { return c.mirror.probability; },
      [](AugmentConfig& c) -> double& { return c.noise.probability; },
      [](AugmentConfig& c) -> double& { return c.blur.probability; },
      [](AugmentConfig& c) -> double& { return c.brightness_multiplicative.probability; },
      [](AugmentConfig& c) -> double& { return c.brightness_additive.probability; },
      [](AugmentConfig& c) -> double& { return c.contrast.probability; },
      [](AugmentConfig& c) -> double& { return c.low_resolution.probability; },
      [](AugmentConfig& c) -> double& { return c.gamma_inverted.probability; },
      [](AugmentConfig& c) -> double& { return c.gamma.probability; }};
  AugmentConfig all;
  for (const auto& section : sections) section(all) = 1;
  for (std::size_t i = 0; i < sections.size(); ++i) {
    AugmentConfig config = all;
    sections[i](config) = 0;
    Random with(3), without(3);
    const AugmentPlan a = draw_augmentation(all, {40, 40, 40}, 3, with);
    AugmentPlan b = draw_augmentation(config, {40, 40, 40}, 3, without);
    EXPECT_EQ(with.next_u64(), without.next_u64());
    // Put back what was switched off; then both are the same.
    if (i == 0) b.degrees = a.degrees;
    if (i == 1) b.scale = a.scale;
    if (i == 2) b.spacing = a.spacing, b.displacements = a.displacements;
    if (i == 3) b.mirror = a.mirror;
    for (std::size_t c = 0; c < 3; ++c) {
      ChannelPlan& to = b.channels[c];
      const ChannelPlan& from = a.channels[c];
      if (i == 4) to.noise = from.noise;
      if (i == 5) to.blur = from.blur;
      if (i == 6) to.factor = from.factor;
      if (i == 7) to.shift = from.shift;
      if (i == 8) to.contrast = from.contrast;
      if (i == 9) to.zoom = from.zoom;
      if (i == 10) to.gamma_inverted = from.gamma_inverted;
      if (i == 11) to.gamma = from.gamma;
      EXPECT_TRUE(same(to, from)) << i;
    }
    EXPECT_EQ(a.degrees, b.degrees);
    EXPECT_EQ(a.scale, b.scale);
    EXPECT_EQ(a.displacements, b.displacements);
    EXPECT_EQ(a.spacing, b.spacing);
    EXPECT_EQ(a.mirror, b.mirror);
    EXPECT_EQ(a.noise_seed, b.noise_seed);
  }
}

TEST(DrawAugmentation, KeepsLabelsThoseOfTheCase) {
  const PreparedCase item = make_case(
      {30, 30, 30}, 1, [](auto, auto, auto, auto) { return 0; },
      [](auto z, auto y, auto x) { return (z / 5 + y / 6 + x / 7) % 2 == 0 ? 2 : 9; });
  AugmentConfig config;
  config.rotation.probability = config.scaling.probability = 1;
  Random random(9);
  for (int i = 0; i < 10; ++i) {
    config.label_interpolation = i % 2 == 0 ? "nearest" : "linear";
    const Patch patch =
        render(item, {10, -3, 9}, draw_augmentation(config, {14, 14, 14}, 1, random));
    for (const std::uint8_t label : patch.labels) {
      ASSERT_TRUE(label == 0 || label == 2 || label == 9);
    }
  }
}

TEST(DrawAugmentation, GivesTheSamePatchAgain) {
  const PreparedCase item = numbered_case({30, 31, 32}, 4);
  AugmentConfig config;
  config.elastic.probability = 0.5;
  for (std::uint64_t i = 0; i < 5; ++i) {
    Random first(1, i), second(1, i);
    const Index3 size = {16, 17, 18};
    const Patch a = render(item, {5, 5, 5}, draw_augmentation(config, size, 4, first));
    const Patch b = render(item, {5, 5, 5}, draw_augmentation(config, size, 4, second));
    EXPECT_EQ(a.image, b.image);
    EXPECT_EQ(a.labels, b.labels);
  }
}

// ---- The rest -----------------------------------------------------------------------------------

TEST(Describe, NamesWhatHappens) {
  AugmentPlan plan = no_augmentation({8, 8, 8}, 3);
  EXPECT_TRUE(describe(plan).empty());
  plan.degrees = {12.34, -4, 7.1};
  plan.scale = {0.8, 0.8, 0.8};
  plan.mirror = {true, false, true};
  plan.channels[2].gamma = 1.23;
  using Line = std::pair<std::string, std::string>;
  EXPECT_THAT(describe(plan),
              testing::ElementsAre(Line{"rotation", "z 12.3, y -4.0, x 7.1 degrees"},
                                   Line{"scaling", "view times 0.80"}, Line{"mirror", "z, x"},
                                   Line{"gamma", "channel 2: 1.23"}));
}

TEST(AugmentConfig, ReadsWhatItWrites) {
  AugmentConfig config;
  config.elastic = {0.3, {20, 30}, {1, 2}};
  config.scaling.per_axis = true;
  config.mirror.axes = {1, 2};
  config.interpolation = "linear";
  const std::string text = config_to_yaml(config, true);
  AugmentConfig again;
  ConfigDocument::from_text(text, "text").read(again);
  EXPECT_EQ(config_to_yaml(again, true), text);
  EXPECT_THAT(text, HasSubstr("probability: 0.3"));
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(AugmentConfig, RefusesWhatMakesNoSense) {
  check(AugmentConfig{});
  AugmentConfig config;
  config.scaling.range = {1.4, 0.7};
  EXPECT_EQ(message_of([&] { check(config); }),
            "augment.scaling.range: 1.4 is above 0.7; the lower end comes first");
  config = {};
  config.gamma_inverted.range = {2, 1};
  EXPECT_THAT(message_of([&] { check(config); }), HasSubstr("augment.gamma_inverted.range"));
  config = {};
  config.blur.probability = 1.5;
  EXPECT_EQ(message_of([&] { check(config); }),
            "augment.blur.probability must be from 0 to 1, got 1.5");
  config = {};
  config.interpolation = "sinc";
  EXPECT_EQ(message_of([&] { check(config); }),
            "augment.interpolation must be one of linear, cubic, got 'sinc'");
  EXPECT_THAT(message_of([] {
                AugmentConfig read;
                ConfigDocument::from_text("noise: {varience: [0, 1]}", "a.yaml").read(read);
              }),
              HasSubstr("did you mean variance?"));
}

TEST(RenderPatch, RefusesWhatDoesNotFit) {
  const PreparedCase item = noisy_case({4, 4, 4}, 2);
  EXPECT_EQ(message_of([&] {
              render(item, {0, 0, 0}, no_augmentation({2, 2, 2}, 3));
            }),
            "case: has 2 channels, but the patch is planned for 3");
  EXPECT_THAT(message_of([] { no_augmentation({0, 2, 2}, 1); }), HasSubstr("positive size"));
  EXPECT_THAT(message_of([] {
                lower(no_augmentation({2, 2, 2}, 1), {0, 20000, 0});
              }),
              HasSubstr("beyond 16384 voxels"));
}

}  // namespace
}  // namespace segmamba::data
