// The code of the CUDA kernels, its blocks emulated, against the CPU path.
#include "augment_blocks.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "aligned_vector.h"
#include "kernels/augment_case.h"

namespace segmamba::kernels {
namespace {

using Case = segmamba::testing::AugmentCase;
using segmamba::testing::copied;
using segmamba::testing::deform;
using segmamba::testing::turned;

struct Patch {
  std::vector<float> image;
  std::vector<std::uint8_t> labels;

  Patch(const CaseView& from, const PatchTransform& transform) {
    const SpatialMap& map = transform.map;
    const auto voxels = static_cast<std::size_t>(map.size[0]) *
                        static_cast<std::size_t>(map.size[1]) *
                        static_cast<std::size_t>(map.size[2]);
    image.assign(voxels * static_cast<std::size_t>(from.channels), NAN);
    labels.assign(voxels, 99);
  }
};

Patch cpu(const CaseView& from, const PatchTransform& transform) {
  Patch patch(from, transform);
  AugmentScratch scratch;
  augment_patch_cpu(from, transform, patch.image.data(), patch.labels.data(), scratch);
  return patch;
}

Patch emulated(const CaseView& from, const PatchTransform& transform) {
  Patch patch(from, transform);
  const AugmentLayout layout(transform);
  // What was in the workspace must not matter: NaN as numbers, far out as indices. A guard behind.
  constexpr std::size_t kGuard = 256;
  AlignedVector<std::uint8_t> workspace(layout.bytes + kGuard, 0xff);
  if (!transform.displacements.empty()) {
    std::memcpy(workspace.data() + layout.displacements, transform.displacements.data(),
                transform.displacements.size() * sizeof(float));
  }
  AugmentPasses<EmulatedLauncher>(from, transform, patch.image.data(), patch.labels.data(),
                                  workspace.data(), EmulatedLauncher())
      .run();
  EXPECT_TRUE(std::all_of(workspace.end() - kGuard, workspace.end(),
                          [](std::uint8_t byte) { return byte == 0xff; }));
  return patch;
}

// `tolerance` absolute, of values around 1. A displaced position may round to the neighbouring
// 2^-16 voxel, and so move a label in a voxel or two.
void expect_cpu(const Case& item, const PatchTransform& transform, double tolerance,
                int other_labels = 0) {
  SCOPED_TRACE(::testing::Message() << item.view.channels << " channels");
  const Patch expected = cpu(item.view, transform), patch = emulated(item.view, transform);
  double worst = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < expected.image.size(); ++i) {
    const double error = std::abs(patch.image[i] - expected.image[i]);
    if (!(error <= worst)) worst = error, where = i;
  }
  EXPECT_LE(worst, tolerance) << "value " << where;
  int different = 0;
  for (std::size_t i = 0; i < expected.labels.size(); ++i) {
    different += patch.labels[i] != expected.labels[i] ? 1 : 0;
  }
  EXPECT_LE(different, other_labels);
}

const std::int32_t kChannelCounts[] = {1, 3, 4, 6};

TEST(AugmentCudaBlocks, CopyAsTheCpuDoes) {
  for (const std::int32_t channels : kChannelCounts) {
    Case item(13, 17, 37, channels);
    const std::vector<float> outside = {-0.8F, 0.3F, 1.2F, -2.0F, 0.0F, 5.0F};
    for (int mirrored = 0; mirrored < 8; ++mirrored) {
      item.view.outside = mirrored % 2 == 0 ? outside.data() : nullptr;
      expect_cpu(item, copied(item, 12, 16, 41, mirrored), 0);
    }
    item.view.labels = nullptr;
    expect_cpu(item, copied(item, 3, 4, 5, 1), 0);
  }
}

TEST(AugmentCudaBlocks, SampleAsTheCpuDoes) {
  for (const std::int32_t channels : kChannelCounts) {
    Case item(19, 23, 29, channels);
    const std::vector<float> outside = {-0.8F, 0.3F, 1.2F, -2.0F, 0.0F, 5.0F};
    item.view.outside = outside.data();
    for (const bool cubic : {false, true}) {
      for (const bool linear_labels : {false, true}) {
        PatchTransform transform = turned(item, 15, 17, 40);
        transform.cubic_image = cubic;
        transform.linear_labels = linear_labels;
        expect_cpu(item, transform, 4e-6);
        deform(transform);
        expect_cpu(item, transform, 6e-4, 8);
      }
    }
  }
}

TEST(AugmentCudaBlocks, AddTheNoiseOfTheCpu) {
  const Case item(13, 17, 37, 5);
  PatchTransform transform = copied(item, 7, 9, 21, 0);
  transform.noise_seed = 0x123456789abcdefU;
  for (auto& channel : transform.channels) channel.noise = 0.7F;
  expect_cpu(item, transform, 4e-6);
}

TEST(AugmentCudaBlocks, BlurAsTheCpuDoes) {
  const Case item(13, 17, 37, 3);
  for (const float sigma : {0.05F, 0.5F, 1.0F, 2.6F, 16.0F}) {
    // 3 slices are fewer than the kernel has.
    for (const std::int32_t depth : {11, 3, 1}) {
      PatchTransform transform = copied(item, depth, 9, 21, 2);
      transform.channels[0].blur = sigma;
      transform.channels[2] = {0.1F, sigma, 1.5F, 0.25F};
      expect_cpu(item, transform, 3e-6);
    }
  }
}

TEST(AugmentCudaBlocks, LowerResolutionAsTheCpuDoes) {
  const Case item(13, 17, 37, 2);
  for (const bool cubic : {false, true}) {
    for (const double zoom : {0.01, 0.5, 0.77, 0.95, 1.0}) {
      PatchTransform transform = copied(item, 11, 9, 35, 0);
      transform.cubic_upsampling = cubic;
      for (int a = 0; a < 3; ++a) {
        transform.channels[1].low[a] =
            std::max(1, static_cast<std::int32_t>(std::lround(zoom * transform.map.size[a])));
      }
      expect_cpu(item, transform, 3e-6);
      transform.channels[1].contrast = 1.2F;  // which waits for the resampling, and clips
      expect_cpu(item, transform, 6e-6);
    }
  }
}

// Every way through contrast, lower resolution and the two gammas.
TEST(AugmentCudaBlocks, ChangeIntensitiesAsTheCpuDoes) {
  const Case item(13, 17, 37, 1);
  for (int ways = 0; ways < 128; ++ways) {
    SCOPED_TRACE(ways);
    PatchTransform transform = copied(item, 11, 9, 35, 4);
    ChannelTransform& channel = transform.channels[0];
    if ((ways & 1) != 0) channel.contrast = 1.25F;
    if ((ways & 2) != 0) channel.gamma_inverted = 1.5F;
    if ((ways & 4) != 0) channel.gamma = 0.7F;
    if ((ways & 8) != 0) channel.low[0] = 7, channel.low[1] = 8, channel.low[2] = 20;
    transform.contrast_preserves_range = (ways & 16) != 0;
    transform.gamma_inverted_retains = (ways & 32) != 0;
    transform.gamma_retains = (ways & 64) != 0;
    channel.factor = 1.2F;
    channel.shift = -0.1F;
    expect_cpu(item, transform, 3e-5);
  }
}

TEST(AugmentCudaBlocks, DoEverythingAtOnce) {
  for (const std::int32_t channels : kChannelCounts) {
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
    expect_cpu(item, transform, 5e-5);
  }
}

// Sums over many blocks and a last one that is not full; a constant has no deviation.
TEST(AugmentCudaBlocks, AddUpLargePatches) {
  const Case item(20, 40, 50, 1);
  PatchTransform transform = copied(item, 41, 67, 83, 0);
  transform.channels[0].gamma = 1.4F;
  transform.channels[0].contrast = 0.8F;
  const AugmentLayout layout(transform);
  EXPECT_GT(layout.blocks, 50);
  EXPECT_NE(layout.count % layout.of_block, 0);
  EXPECT_LT((layout.blocks - 1) * layout.of_block, layout.count);
  // The CPU path adds up squares in floats, which shows in its standard deviations.
  expect_cpu(item, transform, 1e-4);
  transform.map.origin[0] = 1000 * kPositionOne;
  expect_cpu(item, transform, 3e-5);
}

TEST(AugmentCudaBlocks, NeedNoWorkspaceForWhatIsNotDone) {
  const Case item(4, 4, 4, 2);
  PatchTransform transform = copied(item, 64, 64, 64, 0);
  const std::size_t volume = 4 * 64 * 64 * 64;
  EXPECT_LT(AugmentLayout(transform).bytes, 64U * 1024);
  transform.channels[1].low[0] = transform.channels[1].low[1] = transform.channels[1].low[2] = 40;
  EXPECT_LT(AugmentLayout(transform).bytes, volume + 64U * 1024);
  transform.channels[0].blur = 1;
  EXPECT_LT(AugmentLayout(transform).bytes, 2 * volume + 64U * 1024);
}

}  // namespace
}  // namespace segmamba::kernels
