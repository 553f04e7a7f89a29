#include "segmamba/data/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "segmamba/core/error.h"

namespace segmamba::data {
namespace {

using Index = std::array<std::int64_t, 3>;

// A case whose every voxel has a value of its own, and a box of tumour.
CaseData make_case(Index size, std::int64_t channels = 2) {
  CaseData item;
  item.name = "case";
  item.channels = channels;
  item.size = size;
  const std::int64_t voxels = size[0] * size[1] * size[2];
  for (std::int64_t i = 0; i < channels * voxels; ++i) {
    item.image.push_back(static_cast<float>(i + 1));
  }
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) {
        const bool tumour = z >= size[0] - 4 && z < size[0] - 2 && y == 3 && x >= 2 && x < 5;
        item.labels.push_back(tumour ? static_cast<std::uint8_t>(1 + x % 3) : 0);
      }
    }
  }
  return item;
}

float source(const CaseData& item, std::int64_t channel, Index p) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (p[axis] < 0 || p[axis] >= item.size[axis]) return 0;
  }
  return item.image[static_cast<std::size_t>(
      ((channel * item.size[0] + p[0]) * item.size[1] + p[1]) * item.size[2] + p[2])];
}

std::uint8_t source_label(const CaseData& item, Index p) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (p[axis] < 0 || p[axis] >= item.size[axis]) return 0;
  }
  return item.labels[static_cast<std::size_t>((p[0] * item.size[1] + p[1]) * item.size[2] + p[2])];
}

// Calls check(position in the patch, index of it in a channel) for every voxel.
template <class Check>
void for_each_voxel(Index size, const Check& check) {
  std::size_t i = 0;
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) check(Index{z, y, x}, i++);
    }
  }
}

std::size_t voxel_count(const Patch& patch) { return patch.labels.size(); }

AugmentConfig no_augmentation() {
  AugmentConfig config;
  config.mirror = false;
  config.rotation_probability = config.scale_probability = config.brightness_probability = 0;
  return config;
}

TEST(CropPatch, CopiesTheBoxAndPadsWithZero) {
  const CaseData item = make_case({9, 10, 11});
  for (const Index start : {Index{2, 3, 4}, Index{-2, 8, -3}, Index{6, -4, 9}, Index{20, 0, 0}}) {
    const Index size = {5, 4, 6};
    const Patch patch = crop_patch(item, start, size);
    ASSERT_EQ(patch.image.size(), 2U * 5 * 4 * 6);
    for_each_voxel(size, [&](Index p, std::size_t i) {
      const Index at = {p[0] + start[0], p[1] + start[1], p[2] + start[2]};
      EXPECT_EQ(patch.image[i], source(item, 0, at));
      EXPECT_EQ(patch.image[voxel_count(patch) + i], source(item, 1, at));
      EXPECT_EQ(patch.labels[i], source_label(item, at));
    });
  }
}

TEST(SamplePatch, WithoutAugmentationIsAnExactCopyOfSomePlace) {
  const CaseData item = make_case({12, 14, 13});
  const Index size = {6, 5, 7};
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const Patch patch = sample_patch(item, size, no_augmentation(), random);
    // Values name their place, so the first voxel tells where the patch begins.
    const auto first = static_cast<std::int64_t>(patch.image[0]) - 1;
    const Index start = {first / (14 * 13), first / 13 % 14, first % 13};
    const Patch expected = crop_patch(item, start, size);
    EXPECT_EQ(patch.image, expected.image);
    EXPECT_EQ(patch.labels, expected.labels);
  }
}

TEST(SamplePatch, LargerThanTheCaseHoldsAllOfItInTheMiddle) {
  const CaseData item = make_case({5, 6, 7});
  Random random(1);
  const Patch patch = sample_patch(item, {9, 6, 10}, no_augmentation(), random);
  const Patch expected = crop_patch(item, {-2, 0, -1}, {9, 6, 10});
  EXPECT_EQ(patch.image, expected.image);
  EXPECT_EQ(patch.labels, expected.labels);
  EXPECT_EQ(std::count_if(patch.image.begin(), patch.image.end(), [](float v) { return v != 0; }),
            2 * 5 * 6 * 7);
}

TEST(SamplePatch, SameRandomGivesSameBitsAndAnotherGivesOthers) {
  const CaseData item = make_case({20, 21, 22});
  AugmentConfig config;
  config.rotation_probability = config.scale_probability = config.brightness_probability = 1;
  Random first(7, 3);
  Random second(7, 3);
  Random third(8, 3);
  const Patch a = sample_patch(item, {12, 13, 14}, config, first);
  const Patch b = sample_patch(item, {12, 13, 14}, config, second);
  const Patch c = sample_patch(item, {12, 13, 14}, config, third);
  EXPECT_EQ(a.image, b.image);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(first.next_u64(), second.next_u64());
  EXPECT_NE(a.image, c.image);
}

TEST(SamplePatch, ForegroundFractionIsTheShareOfPatchesOnTumour) {
  // The tumour is far from most random crops: 4x4x4 patches of a 40^3 case.
  CaseData item = make_case({40, 40, 40}, 1);
  AugmentConfig config = no_augmentation();
  const auto share = [&](double fraction) {
    config.foreground_fraction = fraction;
    Random random(11);
    int hits = 0;
    for (int i = 0; i < 2000; ++i) {
      const Patch patch = sample_patch(item, {4, 4, 4}, config, random);
      // The middle voxel is tumour exactly where the patch was centred on one.
      hits += patch.labels[(2 * 4 + 2) * 4 + 2] != 0;
    }
    return hits / 2000.0;
  };
  EXPECT_LT(share(0), 0.005);
  EXPECT_NEAR(share(0.33), 0.33, 0.04);  // 4 standard deviations
  EXPECT_EQ(share(1), 1.0);
}

TEST(SamplePatch, RandomCropsReachEveryPlaceEvenly) {
  const CaseData item = make_case({8, 4, 4}, 1);
  AugmentConfig config = no_augmentation();
  config.foreground_fraction = 0;
  std::array<int, 5> counts{};
  Random random(5);
  for (int i = 0; i < 5000; ++i) {
    const Patch patch = sample_patch(item, {4, 4, 4}, config, random);
    ++counts.at(static_cast<std::size_t>((patch.image[0] - 1) / 16));
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 120);
}

TEST(SamplePatch, BrightnessShiftsEachChannelByAConstant) {
  CaseData item = make_case({6, 6, 6}, 3);
  for (float& value : item.image) value = 0.25f;
  AugmentConfig config = no_augmentation();
  config.brightness_probability = 1;
  config.brightness_sigma = 0.5;
  Random random(2);
  double squares = 0;
  for (int repeat = 0; repeat < 400; ++repeat) {
    const Patch patch = sample_patch(item, {6, 6, 6}, config, random);
    for (std::size_t c = 0; c < 3; ++c) {
      const float value = patch.image[c * 216];
      for (std::size_t i = 0; i < 216; ++i) ASSERT_EQ(patch.image[c * 216 + i], value);
      squares += std::pow(value - 0.25, 2);
    }
  }
  EXPECT_NEAR(std::sqrt(squares / 1200), 0.5, 0.05);
}

TEST(SamplePatch, RefusesAnEmptyPatchAndAnEmptyScaleRange) {
  const CaseData item = make_case({6, 6, 6});
  Random random(0);
  EXPECT_THROW(sample_patch(item, {0, 4, 4}, {}, random), Error);
  AugmentConfig config;
  config.scale_min = 2;
  EXPECT_THROW(sample_patch(item, {4, 4, 4}, config, random), Error);
}

TEST(MirrorPatch, TwiceIsTheIdentityAndOnceReversesTheAxis) {
  const CaseData item = make_case({5, 6, 7});
  const Patch original = crop_patch(item, {0, 0, 0}, item.size);
  for (int bits = 0; bits < 8; ++bits) {
    const std::array<bool, 3> axes = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
    Patch patch = original;
    mirror_patch(patch, axes);
    for_each_voxel(item.size, [&](Index p, std::size_t i) {
      Index from = p;
      for (std::size_t axis = 0; axis < 3; ++axis) {
        if (axes[axis]) from[axis] = item.size[axis] - 1 - p[axis];
      }
      EXPECT_EQ(patch.image[i], source(item, 0, from));
      EXPECT_EQ(patch.image[voxel_count(patch) + i], source(item, 1, from));
      EXPECT_EQ(patch.labels[i], source_label(item, from));
    });
    mirror_patch(patch, axes);
    EXPECT_EQ(patch.image, original.image);
    EXPECT_EQ(patch.labels, original.labels);
  }
}

TEST(ResamplePatch, IdentityMatrixIsAnExactCrop) {
  const CaseData item = make_case({9, 10, 11});
  for (const Index start : {Index{1, 2, 3}, Index{-3, 5, 7}}) {
    const Index size = {6, 7, 5};
    const Patch patch = resample_patch(item, start, size, make_spatial_matrix({0, 0, 0}, 1));
    const Patch expected = crop_patch(item, start, size);
    EXPECT_EQ(patch.image, expected.image);
    EXPECT_EQ(patch.labels, expected.labels);
  }
}

// A quarter turn about each axis permutes the voxels of a cube.
TEST(ResamplePatch, QuarterTurnsPermuteIndices) {
  const CaseData item = make_case({10, 10, 10});
  const Index size = {8, 8, 8};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    std::array<double, 3> angles{};
    angles[axis] = std::numbers::pi / 2;
    const Patch patch = resample_patch(item, {1, 1, 1}, size, make_spatial_matrix(angles, 1));
    const std::size_t u = axis == 0 ? 1 : 0;
    const std::size_t v = axis == 2 ? 1 : 2;
    for_each_voxel(size, [&](Index p, std::size_t i) {
      // Offsets turn as (u, v) -> (-v, u) about the centre, which lies between voxels 3 and 4.
      Index from = p;
      from[u] = 7 - p[v];
      from[v] = p[u];
      for (auto& index : from) ++index;
      EXPECT_NEAR(patch.image[i], source(item, 0, from), 1e-3);
      EXPECT_NEAR(patch.image[voxel_count(patch) + i], source(item, 1, from), 1e-3);
      EXPECT_EQ(patch.labels[i], source_label(item, from));
    });
  }
}

// Trilinear interpolation reproduces functions that are linear in each coordinate.
TEST(ResamplePatch, ReproducesALinearFunctionUnderAnyRotationAndScale) {
  CaseData item;
  item.channels = 1;
  item.size = {24, 22, 26};
  for_each_voxel(item.size, [&](Index p, std::size_t) {
    item.image.push_back(static_cast<float>(2 * p[0] - 3 * p[1] + 5 * p[2]));
    item.labels.push_back(0);
  });
  const SpatialMatrix matrix = make_spatial_matrix({0.4, -0.3, 0.5}, 1.2);
  const Index start = {8, 7, 9};
  const Index size = {8, 8, 8};
  const Patch patch = resample_patch(item, start, size, matrix);
  for_each_voxel(size, [&](Index p, std::size_t i) {
    double expected = 0;
    const std::array<double, 3> slope = {2, -3, 5};
    for (std::size_t row = 0; row < 3; ++row) {
      double at = static_cast<double>(start[row]) + 3.5;
      for (std::size_t column = 0; column < 3; ++column) {
        at += matrix[3 * row + column] * (static_cast<double>(p[column]) - 3.5);
      }
      expected += slope[row] * at;
    }
    EXPECT_NEAR(patch.image[i], expected, 1e-3);
  });
}

TEST(ResamplePatch, ScaleChangesTheTumoursVolumeByItsCube) {
  CaseData item;
  item.channels = 1;
  item.size = {40, 40, 40};
  for_each_voxel(item.size, [&](Index p, std::size_t) {
    double squares = 0;
    for (const std::int64_t i : p) squares += std::pow(static_cast<double>(i) - 19.5, 2);
    item.labels.push_back(squares < 100 ? 2 : 0);
    item.image.push_back(squares < 100 ? 1.0f : 0.0f);
  });
  const double whole = 4.0 / 3 * std::numbers::pi * 1000;
  for (const double scale : {0.7, 1.0, 1.4}) {
    const Patch patch =
        resample_patch(item, {0, 0, 0}, item.size, make_spatial_matrix({0.3, 0.2, -0.1}, scale));
    const auto voxels =
        static_cast<double>(std::count(patch.labels.begin(), patch.labels.end(), std::uint8_t{2}));
    EXPECT_NEAR(voxels * std::pow(scale, 3) / whole, 1, 0.03) << scale;
    double sum = 0;
    for (const float value : patch.image) sum += value;
    EXPECT_NEAR(sum * std::pow(scale, 3) / whole, 1, 0.03) << scale;
  }
}

TEST(SpatialMatrix, IsARotationTimesTheScale) {
  const SpatialMatrix m = make_spatial_matrix({0.7, -0.2, 1.1}, 1.3);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      double product = 0;
      for (std::size_t k = 0; k < 3; ++k) product += m[3 * i + k] * m[3 * j + k];
      EXPECT_NEAR(product, i == j ? 1.69 : 0, 1e-12);
    }
  }
}

}  // namespace
}  // namespace segmamba::data
