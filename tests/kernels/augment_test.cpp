// The vectorised CPU path against plain loops over the functions of augment_math.cuh, which is what
// a CUDA kernel does, on every instruction set of this processor.
#include "augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "augment_math.cuh"
#include "cpu_lanes.h"
#include "kernels/augment_case.h"
#include "segmamba/core/half.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"

namespace segmamba::kernels {
namespace {

using Case = segmamba::testing::AugmentCase;
using segmamba::testing::copied;
using segmamba::testing::deform;
using segmamba::testing::turned;

struct Patch {
  std::vector<float> image;
  std::vector<std::uint8_t> labels;
};

ValueStatistics statistics_of(const float* values, std::int64_t count) {
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += values[i];
  const double mean = sum / static_cast<double>(count);
  for (std::int64_t i = 0; i < count; ++i) squares += (values[i] - mean) * (values[i] - mean);
  return {*std::min_element(values, values + count), *std::max_element(values, values + count),
          mean, std::sqrt(squares / static_cast<double>(count))};
}

void blur_along(std::vector<float>& values, const std::int32_t* size, int axis, float sigma) {
  const std::vector<float> weights = gaussian_weights(sigma);
  const int radius = gaussian_radius(sigma);
  const std::vector<float> from = values;
  const std::int64_t stride[3] = {std::int64_t{size[1]} * size[2], size[2], 1};
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(values.size()); ++i) {
    const auto at = static_cast<std::int32_t>(i / stride[axis] % size[axis]);
    float sum = 0;
    for (int k = -radius; k <= radius; ++k) {
      const std::int32_t other = mirrored_index(at + k, size[axis]);
      sum += weights[static_cast<std::size_t>(k + radius)] *
             from[static_cast<std::size_t>(i + (other - at) * stride[axis])];
    }
    values[static_cast<std::size_t>(i)] = sum;
  }
}

void lower_resolution(std::vector<float>& values, const std::int32_t* size, const std::int32_t* low,
                      bool cubic) {
  const std::vector<float> from = values;
  const int taps = cubic ? 4 : 2;
  std::size_t out = 0;
  for (std::int32_t z = 0; z < size[0]; ++z) {
    for (std::int32_t y = 0; y < size[1]; ++y) {
      for (std::int32_t x = 0; x < size[2]; ++x, ++out) {
        const std::int32_t voxel[3] = {z, y, x};
        std::int32_t index[3][4];
        float weight[3][4];
        for (int a = 0; a < 3; ++a) {
          upsampling_taps(voxel[a], size[a], low[a], cubic, index[a], weight[a]);
        }
        float sum = 0;
        for (int i = 0; i < taps * taps * taps; ++i) {
          const int k[3] = {i / taps / taps, i / taps % taps, i % taps};
          std::int64_t at = 0;
          for (int a = 0; a < 3; ++a) {
            at = at * size[a] + low_source(index[a][k[a]], size[a], low[a]);
          }
          sum += weight[0][k[0]] * weight[1][k[1]] * weight[2][k[2]] *
                 from[static_cast<std::size_t>(at)];
        }
        values[out] = sum;
      }
    }
  }
}

void gamma(std::vector<float>& values, bool inverted, float power, bool retain) {
  const auto count = static_cast<std::int64_t>(values.size());
  const ValueStatistics all = statistics_of(values.data(), count);
  const GammaInput input = gamma_input({}, all.min, all.max, inverted, power);
  std::vector<float> base;
  for (const float value : values) base.push_back(gamma_base(input, value));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = power_of(base[i], power);
  const PointTransform output = gamma_output(input, retain, statistics_of(base.data(), count),
                                             statistics_of(values.data(), count));
  for (float& value : values) value = apply(output, value);
}

Patch plain_loops(const CaseView& from, const PatchTransform& transform) {
  const SpatialMap& map = transform.map;
  const std::int64_t volume = std::int64_t{map.size[0]} * map.size[1] * map.size[2];
  Patch patch;
  for (std::int32_t c = 0; c < from.channels; ++c) {
    const ChannelTransform& channel = transform.channels[static_cast<std::size_t>(c)];
    std::vector<float> values;
    for (std::int64_t i = 0; i < volume; ++i) {
      const Position p = map_voxel(map, transform.displacements.data(),
                                   static_cast<std::int32_t>(i / map.size[2] / map.size[1]),
                                   static_cast<std::int32_t>(i / map.size[2] % map.size[1]),
                                   static_cast<std::int32_t>(i % map.size[2]));
      float value = map.is_copy ? image_value(from, whole_part(p.at[0]), whole_part(p.at[1]),
                                              whole_part(p.at[2]), c)
                    : transform.cubic_image ? sample_cubic(from, p, c)
                                            : sample_linear(from, p, c);
      if (channel.noise != 0) value += channel.noise * normal_noise(transform.noise_seed, c, i);
      values.push_back(value);
      if (c == 0) {
        patch.labels.push_back(from.labels == nullptr ? std::uint8_t{0}
                               : map.is_copy || !transform.linear_labels
                                   ? sample_nearest_label(from, p)
                                   : sample_linear_label(from, p));
      }
    }
    for (int a = 2; a >= 0 && channel.blur > 0; --a) {
      blur_along(values, map.size, a, channel.blur);
    }
    for (float& value : values) value = value * channel.factor + channel.shift;
    if (channel.contrast != 1) {
      const PointTransform point =
          then_contrast({}, statistics_of(values.data(), volume), channel.contrast,
                        transform.contrast_preserves_range);
      for (float& value : values) value = apply(point, value);
    }
    if (channel.low[0] > 0) {
      lower_resolution(values, map.size, channel.low, transform.cubic_upsampling);
    }
    if (channel.gamma_inverted != 1) {
      gamma(values, true, channel.gamma_inverted, transform.gamma_inverted_retains);
    }
    if (channel.gamma != 1) gamma(values, false, channel.gamma, transform.gamma_retains);
    patch.image.insert(patch.image.end(), values.begin(), values.end());
  }
  return patch;
}

std::vector<std::pair<std::string, InstructionSet>> sets() {
  const InstructionSet before = instruction_set();
  std::vector<std::pair<std::string, InstructionSet>> available;
  for (const auto& [name, set] : {std::pair{"baseline", InstructionSet::kBaseline},
                                  {"avx2", InstructionSet::kAvx2},
                                  {"avx512", InstructionSet::kAvx512}}) {
    if (set_instruction_set(set)) available.emplace_back(name, set);
  }
  set_instruction_set(before);
  return available;
}

// On every set; `tolerance` absolute, of values around 1. A displaced position may round to the
// neighbouring 2^-16 voxel, and so move a label in a voxel or two.
void expect_plain_loops(const Case& item, const PatchTransform& transform, double tolerance,
                        int other_labels = 0) {
  const Patch expected = plain_loops(item.view, transform);
  const InstructionSet before = instruction_set();
  for (const auto& [name, set] : sets()) {
    SCOPED_TRACE(concat(name, ", ", item.view.channels, " channels"));
    ASSERT_TRUE(set_instruction_set(set));
    // A guard behind each array; on a cache line, and below between two.
    AlignedVector<float> image(expected.image.size() + 8, -77.0F);
    std::vector<std::uint8_t> labels(expected.labels.size() + 8, 99);
    AugmentScratch scratch;
    augment_patch_cpu(item.view, transform, image.data(), labels.data(), scratch);
    double worst = 0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < expected.image.size(); ++i) {
      const double error = std::abs(image[i] - expected.image[i]);
      if (!(error <= worst)) worst = error, where = i;
    }
    EXPECT_LE(worst, tolerance) << "voxel " << where << " of " << expected.labels.size();
    int different = 0;
    for (std::size_t i = 0; i < expected.labels.size(); ++i) {
      different += labels[i] != expected.labels[i] ? 1 : 0;
    }
    EXPECT_LE(different, other_labels);
    for (int i = 0; i < 8; ++i) {
      EXPECT_EQ(image[expected.image.size() + static_cast<std::size_t>(i)], -77.0F);
      EXPECT_EQ(labels[expected.labels.size() + static_cast<std::size_t>(i)], 99);
    }
    // The same bits again, in memory that has been used.
    AlignedVector<float> again(expected.image.size() + 3);
    augment_patch_cpu(item.view, transform, again.data() + 3, labels.data(), scratch);
    EXPECT_TRUE(std::equal(again.begin() + 3, again.end(), image.begin()));
  }
  set_instruction_set(before);
}

const std::int32_t kChannelCounts[] = {1, 2, 3, 4, 5, 8};

TEST(AugmentCpu, CopiesExactly) {
  for (const std::int32_t channels : kChannelCounts) {
    const Case item(13, 17, 37, channels);
    for (int mirrored = 0; mirrored < 8; ++mirrored) {
      expect_plain_loops(item, copied(item, 9, 11, 35, mirrored), 0);
      expect_plain_loops(item, copied(item, 3, 2, 64, mirrored), 0);
    }
    PatchTransform away = copied(item, 3, 4, 5, 0);
    away.map.origin[2] = 100 * kPositionOne;
    expect_plain_loops(item, away, 0);
  }
}

TEST(AugmentCpu, SamplesAsPlainLoopsDo) {
  for (const std::int32_t channels : kChannelCounts) {
    const Case item(19, 23, 29, channels);
    for (const bool cubic : {false, true}) {
      for (const bool linear_labels : {false, true}) {
        PatchTransform transform = turned(item, 15, 17, 27);
        transform.cubic_image = cubic;
        transform.linear_labels = linear_labels;
        expect_plain_loops(item, transform, 2e-6);
        deform(transform);
        expect_plain_loops(item, transform, 3e-4, 8);
      }
    }
  }
}

// Cases smaller than a cell or a vector, and without labels.
TEST(AugmentCpu, SamplesTinyCases) {
  for (const std::int32_t channels : {1, 4}) {
    for (const std::int32_t width : {1, 2, 3, 5}) {
      Case item(2, 3, width, channels);
      item.view.labels = nullptr;
      for (const bool cubic : {false, true}) {
        PatchTransform transform = turned(item, 5, 6, 7);
        transform.cubic_image = cubic;
        expect_plain_loops(item, transform, 2e-6);
      }
    }
  }
}

// The case within a margin of its value outside, which is a whole number here.
Case padded_case(const Case& item, std::int32_t margin, const std::vector<float>& outside) {
  const CaseView& from = item.view;
  Case padded(from.size[0] + 2 * margin, from.size[1] + 2 * margin, from.size[2] + 2 * margin,
              from.channels);
  std::size_t i = 0;
  for (std::int32_t z = -margin; z < from.size[0] + margin; ++z) {
    for (std::int32_t y = -margin; y < from.size[1] + margin; ++y) {
      for (std::int32_t x = -margin; x < from.size[2] + margin; ++x, ++i) {
        const bool inside = is_inside(from, z, y, x);
        padded.labels[i] = inside ? label_value(from, z, y, x) : std::uint8_t{0};
        for (std::int32_t c = 0; c < from.channels; ++c) {
          const auto at = static_cast<std::size_t>(c);
          padded.image[i * static_cast<std::size_t>(from.channels) + at] =
              inside ? from.image[voxel_index(from, z, y, x) * from.channels + c]
                     : to_half(outside[at]).bits;
        }
      }
    }
  }
  return padded;
}

TEST(AugmentCpu, ShowsTheValueOutsideBeyondTheCase) {
  for (const std::int32_t channels : kChannelCounts) {
    std::vector<float> outside;
    for (std::int32_t c = 0; c < channels; ++c) outside.push_back(static_cast<float>(c) - 3);
    Case item(9, 8, 11, channels);
    const Case padded = padded_case(item, 30, outside);
    item.view.outside = outside.data();
    const auto expect_padded = [&](const PatchTransform& transform, double tolerance) {
      expect_plain_loops(item, transform, tolerance);
      PatchTransform within = transform;
      for (std::int32_t& origin : within.map.origin) origin += 30 * kPositionOne;
      const Patch patch = plain_loops(item.view, transform),
                  expected = plain_loops(padded.view, within);
      EXPECT_EQ(patch.image, expected.image);
      EXPECT_EQ(patch.labels, expected.labels);
      // Not only voxels of the case.
      EXPECT_GT(std::count(expected.image.begin(), expected.image.end(), outside[0]), 100);
    };
    for (int mirrored = 0; mirrored < 8; ++mirrored) {
      expect_padded(copied(item, 12, 9, 20, mirrored), 0);
    }
    for (const bool cubic : {false, true}) {
      PatchTransform transform = turned(item, 15, 17, 27);
      transform.cubic_image = cubic;
      expect_padded(transform, 4e-6);
    }
  }
}

TEST(AugmentCpu, AddsTheNoiseOfPlainLoops) {
  for (const std::int32_t channels : {1, 4, 5}) {
    const Case item(13, 17, 37, channels);
    PatchTransform transform = copied(item, 7, 9, 21, 0);
    transform.noise_seed = 0x123456789abcdefU;
    for (auto& channel : transform.channels) channel.noise = 0.7F;
    expect_plain_loops(item, transform, 4e-6);
  }
}

TEST(AugmentCpu, BlursAsPlainLoopsDo) {
  const Case item(13, 17, 37, 2);
  for (const float sigma : {0.05F, 0.5F, 1.0F, 2.6F}) {
    // 3 slices are fewer than the kernel has.
    for (const std::int32_t depth : {11, 3, 1}) {
      PatchTransform transform = copied(item, depth, 9, 21, 2);
      transform.channels[0].blur = sigma;
      expect_plain_loops(item, transform, 2e-6);
    }
  }
}

TEST(AugmentCpu, LowersResolutionAsPlainLoopsDo) {
  const Case item(13, 17, 37, 2);
  for (const bool cubic : {false, true}) {
    for (const double zoom : {0.01, 0.5, 0.77, 0.95, 1.0}) {
      PatchTransform transform = copied(item, 11, 9, 35, 0);
      transform.cubic_upsampling = cubic;
      for (int a = 0; a < 3; ++a) {
        transform.channels[1].low[a] =
            std::max(1, static_cast<std::int32_t>(std::lround(zoom * transform.map.size[a])));
      }
      expect_plain_loops(item, transform, 3e-6);
    }
  }
}

TEST(AugmentCpu, ChangesIntensitiesAsPlainLoopsDo) {
  const Case item(13, 17, 37, 4);
  for (const bool preserve : {false, true}) {
    for (const bool retain : {false, true}) {
      PatchTransform transform = copied(item, 11, 9, 35, 4);
      transform.contrast_preserves_range = preserve;
      transform.gamma_retains = transform.gamma_inverted_retains = retain;
      transform.channels[0].contrast = 1.25F;
      transform.channels[1].gamma = 0.7F;
      transform.channels[2].gamma_inverted = 1.5F;
      transform.channels[3] = {0, 0, 1.2F, -0.1F, 1.2F, {}, 0.8F, 1.4F};
      expect_plain_loops(item, transform, 2e-5);
    }
  }
}

TEST(AugmentCpu, DoesEverythingAtOnce) {
  for (const std::int32_t channels : {1, 2, 4, 5}) {
    const Case item(19, 23, 29, channels);
    PatchTransform transform = turned(item, 15, 17, 27);
    transform.cubic_image = true;
    transform.noise_seed = 99;
    for (std::size_t c = 0; c < transform.channels.size(); ++c) {
      transform.channels[c] = {0.1F, c % 2 == 0 ? 0.8F : 0.0F, 0.9F, 0.2F, 0.8F, {}, 1.3F, 0.75F};
      if (c < 2) {
        for (int a = 0; a < 3; ++a) transform.channels[c].low[a] = transform.map.size[a] * 2 / 3;
      }
    }
    expect_plain_loops(item, transform, 4e-5);
  }
}

TEST(AugmentMath, PhiloxIsThatOfRandom) {
  const std::array<std::uint32_t, 4> counter = {5, 6, 7, 8};
  const auto expected = philox4x32(counter, {0x89abcdefU, 0x01234567U});
  const PhiloxBlock block = philox({{5, 6, 7, 8}}, 0x0123456789abcdefU, 10);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(block.word[i], expected[i]);
}

TEST(AugmentMath, PowersAndLogarithmsAreThoseOfTheLibrary) {
  Random random(3);
  for (int i = 0; i < 20000; ++i) {
    const auto t = static_cast<float>(random.uniform());
    const auto power = static_cast<float>(random.uniform(0.3, 3));
    EXPECT_NEAR(power_of(t, power), std::pow(t, power), 4e-7) << t << " " << power;
    EXPECT_NEAR(log2_of(t), std::log2(t), 2.5e-7 * (0.5 - std::log2(t))) << t;
  }
  EXPECT_NEAR(power_of(1.17549435e-38F, 0.2F), 0, 3e-8);
  EXPECT_EQ(power_of(1.17549435e-38F, 2.0F), 1.17549435e-38F);
  EXPECT_EQ(power_of(1.0F, 1.5F), 1);
}

TEST(AugmentMath, HalvesAreThoseOfHalf) {
  for (std::uint32_t bits = 0; bits < 0x7c01U; ++bits) {
    for (const std::uint32_t sign : {0U, 0x8000U}) {
      const auto all = static_cast<std::uint16_t>(bits | sign);
      EXPECT_EQ(as_int(half_value(all)), as_int(to_float(Half{all})));
    }
  }
}

TEST(AugmentMath, UpsamplingWeightsAddUpToOneAndReproduceARamp) {
  for (const std::int32_t low : {5, 9, 16}) {
    for (std::int32_t i = 3; i < 13; ++i) {
      std::int32_t index[4];
      float weight[4];
      upsampling_taps(i, 16, low, true, index, weight);
      double sum = 0, ramp = 0;
      for (int k = 0; k < 4; ++k) sum += weight[k], ramp += weight[k] * index[k];
      EXPECT_NEAR(sum, 1, 1e-6);
      if (index[0] != index[1] && index[2] != index[3]) {
        EXPECT_NEAR(ramp, (i + 0.5) * low / 16 - 0.5, 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace segmamba::kernels
