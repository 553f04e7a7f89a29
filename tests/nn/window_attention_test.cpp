#include "segmamba/nn/window_attention.h"

#include <gmock/gmock.h>

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/nn/model.h"
#include "segmamba/nn/swin_unetr.h"
#include "segmamba/nn/weights.h"

namespace segmamba::nn {
namespace {

using ::testing::ElementsAre;

std::vector<std::int64_t> flat(const torch::Tensor& tensor) {
  const auto values = tensor.to(torch::kLong).contiguous();
  return {values.data_ptr<std::int64_t>(), values.data_ptr<std::int64_t>() + values.numel()};
}

std::int64_t distinct(const torch::Tensor& tensor) {
  return std::get<0>(at::_unique(tensor)).numel();
}

// [1, D, H, W, C] of the numbers from 1 on.
torch::Tensor counted(const std::vector<std::int64_t>& sizes) {
  auto shape = sizes;
  shape.insert(shape.begin(), 1);
  return torch::arange(1, c10::multiply_integers(sizes) + 1).view(shape);
}

TEST(GatherNeighbours, OrdersOfMonai) {
  // A voxel's number is 4 d + 2 h + w.
  const auto cell = counted({2, 2, 2, 1}) - 1;
  const auto order = [&](const char* merging) { return flat(gather_neighbours(cell, merging)); };
  EXPECT_THAT(order("merging"), ElementsAre(0, 4, 2, 1, 6, 5, 3, 7));
  EXPECT_THAT(order("legacy"), ElementsAre(0, 4, 2, 1, 5, 2, 1, 7));
  EXPECT_THAT(order("mergingv2"), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(GatherNeighbours, OfEachCellWithAllChannels) {
  const auto volume = counted({4, 2, 6, 3});
  for (const auto* merging : {"merging", "legacy", "mergingv2"}) {
    const auto gathered = gather_neighbours(volume, merging);
    ASSERT_EQ(gathered.sizes(), torch::IntArrayRef({1, 2, 1, 3, 24})) << merging;
    for (std::int64_t d = 0; d < 2; ++d) {
      for (std::int64_t w = 0; w < 3; ++w) {
        const auto cell = volume.narrow(1, 2 * d, 2).narrow(3, 2 * w, 2);
        EXPECT_TRUE(torch::equal(gathered[0][d][0][w], gather_neighbours(cell, merging).flatten()))
            << merging << " " << d << " " << w;
        // The first voxel of a cell comes first, channels fastest.
        EXPECT_TRUE(torch::equal(gathered[0][d][0][w].narrow(0, 0, 3), volume[0][2 * d][0][2 * w]));
      }
    }
  }
}

// Of padding 0, rolled by -1, cut into twos; and back.
TEST(Windows, AreCutOutOfTheRolledVolume) {
  const WindowGrid grid{.window = {1, 1, 2}, .shift = {0, 0, 1}};
  const auto volume = counted({1, 1, 5, 1});
  const auto windows = cut_windows(volume, grid);
  ASSERT_EQ(windows.sizes(), torch::IntArrayRef({1, 1, 1, 3, 2, 1}));
  EXPECT_THAT(flat(windows), ElementsAre(2, 3, 4, 5, 0, 1));
  EXPECT_TRUE(torch::equal(join_windows(windows, grid, {1, 1, 5}), volume));
}

TEST(Windows, JoinToWhatTheyWereCutFrom) {
  const WindowGrid grid{.window = {2, 3, 4}, .shift = {1, 0, 2}};
  const auto volume = counted({5, 6, 7, 2});
  const auto windows = cut_windows(volume, grid);
  ASSERT_EQ(windows.sizes(), torch::IntArrayRef({1, 3, 2, 2, 24, 2}));
  // The first window holds [1, 3) x [0, 3) x [2, 6), the last axis fastest.
  EXPECT_TRUE(
      torch::equal(windows[0][0][0][0],
                   volume[0].narrow(0, 1, 2).narrow(1, 0, 3).narrow(2, 2, 4).reshape({24, 2})));
  EXPECT_TRUE(torch::equal(join_windows(windows, grid, {5, 6, 7}), volume));
}

torch::Tensor index_of(const ModelConfig& config, const std::string& block) {
  return state_dict(*make_model(config)).at(block + ".attn.relative_position_index");
}

// Numbers of the original's index.
TEST(RelativePositionIndex, IsSwinsOfAWindowOf7) {
  ModelConfig config;
  config.name = "swin_unetr";
  config.swin_unetr.feature_size = 12;
  const auto index = index_of(config, "swinViT.layers1.0.blocks.0");
  ASSERT_EQ(index.sizes(), torch::IntArrayRef({343, 343}));
  EXPECT_THAT(flat(index[0].narrow(0, 0, 9)),
              ElementsAre(1098, 1097, 1096, 1095, 1094, 1093, 1092, 1085, 1084));
  EXPECT_EQ(index[0][342].item<std::int64_t>(), 0);
  EXPECT_EQ(index[342][0].item<std::int64_t>(), 2196);
  EXPECT_EQ(index[10][200].item<std::int64_t>(), 434);
  EXPECT_EQ(index.sum().item<std::int64_t>(), 129178602);
  EXPECT_EQ(distinct(index), 13 * 13 * 13);
}

// Different offsets share an entry.
TEST(RelativePositionIndex, IsNnFormersOfWindowsOf4And8) {
  ModelConfig config;
  config.name = "nnformer";
  config.nnformer.crop_size = {128, 128, 128};
  config.nnformer.embedding_dim = 24;
  for (const auto* block : {"model_down.layers.0.blocks.0", "decoder.layers.0.blocks.0"}) {
    SCOPED_TRACE(block);
    const auto index = index_of(config, block);
    ASSERT_EQ(index.sizes(), torch::IntArrayRef({64, 64}));
    EXPECT_THAT(flat(index[0].narrow(0, 0, 6)), ElementsAre(57, 56, 55, 54, 50, 49));
    EXPECT_EQ(index[63][0].item<std::int64_t>(), 114);
    EXPECT_EQ(index[5][20].item<std::int64_t>(), 47);
    EXPECT_EQ(index.sum().item<std::int64_t>(), 233472);
    EXPECT_EQ(distinct(index), 115);
  }
  for (const auto* block : {"model_down.layers.2.blocks.0", "decoder.layers.2.blocks.0"}) {
    SCOPED_TRACE(block);
    const auto index = index_of(config, block);
    ASSERT_EQ(index.sizes(), torch::IntArrayRef({512, 512}));
    EXPECT_THAT(flat(index[0].narrow(0, 0, 6)), ElementsAre(273, 272, 271, 270, 269, 268));
    EXPECT_EQ(index[511][0].item<std::int64_t>(), 546);
    EXPECT_EQ(index.sum().item<std::int64_t>(), 71565312);
    EXPECT_EQ(distinct(index), 547);
  }
}

}  // namespace
}  // namespace segmamba::nn
