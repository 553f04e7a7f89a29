#include "segmamba/engine/sliding_window.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/validation.h"

namespace segmamba::engine {
namespace {

using ::testing::ElementsAre;
using torch::Tensor;

double largest_difference(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

SlidingWindow window_of(std::array<std::int64_t, 3> size) {
  SlidingWindow options;
  options.window = size;
  return options;
}

TEST(WindowStarts, CoverTheAxisEvenly) {
  EXPECT_THAT(window_starts(10, 16, 0.5), ElementsAre(0));
  EXPECT_THAT(window_starts(16, 16, 0.5), ElementsAre(0));
  EXPECT_THAT(window_starts(17, 16, 0.5), ElementsAre(0, 1));
  EXPECT_THAT(window_starts(32, 16, 0.5), ElementsAre(0, 8, 16));
  EXPECT_THAT(window_starts(32, 16, 0), ElementsAre(0, 16));
  EXPECT_THAT(window_starts(30, 10, 0.9), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                                      14, 15, 16, 17, 18, 19, 20));
}

TEST(WindowStarts, NeighboursOverlapAtLeastAsAsked) {
  for (std::int64_t size = 20; size < 90; ++size) {
    for (const double overlap : {0.0, 0.25, 0.5, 0.8}) {
      const auto starts = window_starts(size, 16, overlap);
      EXPECT_EQ(starts.front(), 0);
      EXPECT_EQ(starts.back(), size - 16);
      for (std::size_t i = 1; i < starts.size(); ++i) {
        // Rounding to voxels may cost one.
        EXPECT_LE(starts[i] - starts[i - 1], std::ceil(16 * (1 - overlap))) << size;
      }
    }
  }
}

TEST(ImportanceMap, HasTheGaussiansValues) {
  const auto map = importance_map({5, 4, 1}, 0.25);
  const auto at = [](double x, double n) { return std::exp(-x * x / (2 * 0.0625 * n * n)); };
  EXPECT_NEAR(map[2][1][0].item<double>(), at(0.5, 4), 1e-6);
  EXPECT_NEAR(map[0][3][0].item<double>(), at(2, 5) * at(1.5, 4), 1e-6);
  EXPECT_TRUE(torch::equal(map, map.flip({0, 1, 2})));
  // exp(-16 * 3 / 2) in the corner of a cube at sigma 0.125 would vanish.
  EXPECT_FLOAT_EQ(importance_map({64, 64, 64}, 0.125).min().item<float>(), 1e-3F);
}

TEST(SlidingWindow, IdentityGivesBackItsInput) {
  torch::manual_seed(1);
  for (const auto& shape : {std::array<std::int64_t, 3>{20, 33, 17}, {16, 16, 16}, {7, 40, 5}}) {
    const auto image = torch::rand({2, shape[0], shape[1], shape[2]});
    for (const bool gaussian : {true, false}) {
      auto options = window_of({16, 16, 8});
      options.gaussian = gaussian;
      options.batch_size = 3;
      const auto out = sliding_window(image, options, [](const Tensor& x) { return x; });
      ASSERT_EQ(out.sizes(), image.sizes());
      EXPECT_LT(largest_difference(out, image), 1e-6);
    }
  }
}

TEST(SlidingWindow, WindowBatchChangesNothing) {
  torch::manual_seed(2);
  const auto image = torch::randn({2, 24, 20, 18});
  const auto function = [](const Tensor& x) {
    return x.sin().sum(1, /*keepdim=*/true) - x.mean({1, 2, 3, 4}, /*keepdim=*/true);
  };
  auto options = window_of({8, 8, 8});
  const auto one = sliding_window(image, options, function);
  options.batch_size = 5;
  EXPECT_LT(largest_difference(sliding_window(image, options, function), one), 1e-6);
}

// A window that sees its own mean tells which windows were blended: on one axis of 12 with windows
// of 8 at 0 and 4, voxel 5 is the weighted mean of both.
TEST(SlidingWindow, BlendsByImportance) {
  const auto image = torch::arange(12, torch::kFloat).view({1, 1, 1, 12});
  auto options = window_of({1, 1, 8});
  const auto out = sliding_window(image, options, [](const Tensor& x) {
    return x.mean({2, 3, 4}, /*keepdim=*/true).expand_as(x);
  });
  const double first = std::exp(-1.5 * 1.5 / 2), second = std::exp(-2.5 * 2.5 / 2);
  EXPECT_NEAR(out[0][0][0][5].item<double>(), (3.5 * first + 7.5 * second) / (first + second),
              1e-5);
  EXPECT_NEAR(out[0][0][0][1].item<double>(), 3.5, 1e-6);
}

// Channel k of the logits is 1 where the input rounds to k.
struct LabelModel : nn::SegmentationModel {
  Tensor forward(const Tensor& input) override {
    ++calls;
    const auto classes = torch::arange(4).view({1, 4, 1, 1, 1});
    return (input.narrow(1, 0, 1).round() == classes).to(torch::kFloat);
  }
  std::int64_t size_multiple() const override { return 4; }
  int calls = 0;
};

// Its output depends on the place in the window, not on the input.
struct RampModel : nn::SegmentationModel {
  Tensor forward(const Tensor& input) override {
    return torch::arange(input.size(4), torch::kFloat)
        .expand({input.size(0), 1, input.size(2), input.size(3), input.size(4)});
  }
  std::int64_t size_multiple() const override { return 1; }
};

// A case whose voxel i has the value i * 7 % 4.
data::PreparedCase small_case() {
  data::RawCase raw;
  raw.name = "case";
  raw.geometry.size = {6, 4, 5};  // x, y, z
  raw.channels.emplace_back();
  for (int i = 0; i < 5 * 4 * 6; ++i) raw.channels[0].push_back(static_cast<float>(i * 7 % 4));
  data::PreprocessConfig config;
  config.crop_to_nonzero = false;
  config.normalise = "statistics";
  config.means = {0};
  config.deviations = {1};
  auto item = data::prepare_case(std::move(raw), config);
  item.geometry.size = {11, 9, 7};  // as if it had been cropped
  item.crop_begin = {1, 3, 2};      // z, y, x
  return item;
}

TrainConfig config_of(std::vector<std::int64_t> window) {
  TrainConfig config;
  config.data.patch_size = std::move(window);
  return config;
}

TEST(Predictor, PutsLabelsBackInPlace) {
  const auto item = small_case();
  const Predictor predictor(std::make_shared<LabelModel>(), config_of({4, 4, 4}), torch::kCPU);
  const auto map = predictor.segment(item);
  EXPECT_EQ(map.geometry.size, item.geometry.size);
  ASSERT_EQ(map.voxels.size(), 11U * 9 * 7);
  std::size_t voxel = 0;
  for (int z = 0; z < 7; ++z) {
    for (int y = 0; y < 9; ++y) {
      for (int x = 0; x < 11; ++x, ++voxel) {
        const bool inside = z >= 1 && z < 6 && y >= 3 && y < 7 && x >= 2 && x < 8;
        const int i = ((z - 1) * 4 + y - 3) * 6 + x - 2;
        EXPECT_EQ(map.voxels[voxel], inside ? i * 7 % 4 : 0) << z << " " << y << " " << x;
      }
    }
  }
}

TEST(Predictor, BringsResampledScoresBack) {
  auto item = small_case();
  item.crop_size = {5, 8, 6};  // twice as many rows as were prepared
  item.geometry.size = {11, 12, 7};
  const Predictor predictor(std::make_shared<LabelModel>(), config_of({4, 4, 4}), torch::kCPU);
  const auto map = predictor.segment(item);
  // Halfway towards the next row of another label, both scores are mixed 3 : 1.
  for (int z = 0; z < 5; ++z) {
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 6; ++x) {
        const int i = (z * 4 + y / 2) * 6 + x;
        EXPECT_EQ(map.voxels[((z + 1) * 12 + y + 3) * 11 + x + 2], i * 7 % 4);
      }
    }
  }
}

// A model of regions: output r is positive where the label that the input rounds to is in region r.
struct RegionModel : nn::SegmentationModel {
  Tensor forward(const Tensor& input) override {
    const auto label = input.narrow(1, 0, 1).round();
    const auto core = (label == 1) | (label == 3);
    return torch::cat({label > 0, core, label == 3}, 1).to(torch::kFloat) * 6 - 2;
  }
  std::int64_t size_multiple() const override { return 1; }
};

TEST(Predictor, PaintsRegions) {
  auto config = config_of({4, 4, 4});
  config.data.regions = {"WT", "TC", "ET"};
  auto item = small_case();
  for (const char* average : {"logits", "probabilities"}) {
    config.inference.average = average;
    const Predictor predictor(std::make_shared<RegionModel>(), config, torch::kCPU);
    const auto labels = predictor.segment_prepared(item);
    ASSERT_EQ(labels.size(), 5U * 4 * 6);
    for (int i = 0; i < std::ssize(labels); ++i) EXPECT_EQ(labels[i], i * 7 % 4) << average << i;
  }
  // As in BringsResampledScoresBack: logits -2 and 4 mixed 3 : 1 keep their sign only where the
  // threshold is applied after the mixing: -0.5 and 2.5.
  item.crop_size = {5, 8, 6};
  item.geometry.size = {11, 12, 7};
  config.inference.average = "logits";
  const Predictor predictor(std::make_shared<RegionModel>(), config, torch::kCPU);
  const auto map = predictor.segment(item);
  for (int i = 0; i < 5 * 8 * 6; ++i) {
    const int z = i / 48, y = i / 6 % 8, x = i % 6, source = (z * 4 + y / 2) * 6 + x;
    EXPECT_EQ(map.voxels[((z + 1) * 12 + y + 3) * 11 + x + 2], source * 7 % 4);
  }
}

TEST(Predictor, AveragesTheProbabilitiesOfRegionsOneByOne) {
  auto config = config_of({4, 4, 4});
  config.data.regions = {"WT", "TC", "ET"};
  config.inference.average = "probabilities";
  const Predictor predictor(std::make_shared<RegionModel>(), config, torch::kCPU);
  const auto scores = predictor.predict(torch::full({1, 4, 4, 4}, 2));
  EXPECT_NEAR(scores[0][1][2][3].item<double>(), 1 / (1 + std::exp(-4)), 1e-6);
  EXPECT_NEAR(scores[1][1][2][3].item<double>(), 1 / (1 + std::exp(2)), 1e-6);
}

TEST(ClassesOf, TheLastRegionAboveTheThresholdPaints) {
  const auto regions = data::parse_regions({"WT", "TC", "ET"}, data::kBratsClasses);
  // A batch of two, one voxel a column: none, WT, WT and TC, all, ET alone, exactly at threshold.
  const auto scores =
      torch::tensor({{-1, 1, 1, 1, -1, 0}, {-1, -1, 1, 1, -1, 0}, {-1, -1, -1, 1, 1, 0}},
                    torch::kFloat)
          .view({1, 3, 1, 1, 6})
          .repeat({2, 1, 1, 1, 1});
  const auto expected = torch::tensor({0, 2, 1, 3, 3, 0}, torch::kUInt8).expand({2, 1, 1, 6});
  EXPECT_TRUE(torch::equal(classes_of(scores, regions, 0), expected));
  EXPECT_TRUE(torch::equal(classes_of(scores + 0.5, regions, 0.5), expected));
}

TEST(Predictor, MirrorsEverySubsetOfTheAxes) {
  const auto model = std::make_shared<LabelModel>();
  const Predictor predictor(model, config_of({4, 4, 4}), torch::kCPU);
  predictor.predict(torch::zeros({1, 4, 4, 4}));
  EXPECT_EQ(model->calls, 8);
  // A ramp and its mirror image average to its middle, on the mirrored axis only.
  auto config = config_of({4, 4, 6});
  config.inference.mirror_axes = {2};
  const Predictor mirrored(std::make_shared<RampModel>(), config, torch::kCPU);
  EXPECT_LT(largest_difference(mirrored.predict(torch::zeros({1, 4, 4, 6})),
                               torch::full({1, 4, 4, 6}, 2.5)),
            1e-6);
  config.inference.mirror_axes = {0, 1};
  const Predictor plain(std::make_shared<RampModel>(), config, torch::kCPU);
  EXPECT_LT(largest_difference(plain.predict(torch::zeros({1, 4, 4, 6}))[0][1][2],
                               torch::arange(6, torch::kFloat)),
            1e-6);
}

TEST(Predictor, AveragesProbabilitiesWhereAsked) {
  auto config = config_of({4, 4, 4});
  config.inference.average = "probabilities";
  const Predictor predictor(std::make_shared<LabelModel>(), config, torch::kCPU);
  const auto scores = predictor.predict(torch::zeros({1, 5, 4, 4}));
  EXPECT_NEAR(scores[0][0][0][0].item<double>(), std::exp(1) / (std::exp(1) + 3), 1e-6);
  EXPECT_LT(largest_difference(scores.sum(0), torch::ones({5, 4, 4})), 1e-6);
}

TEST(Predictor, RefusesWindowsThatTheModelCannotTake) {
  EXPECT_THAT(
      [] {
        Predictor(std::make_shared<LabelModel>(), config_of({4, 6, 4}), torch::kCPU);
      },
      ::testing::ThrowsMessage<Error>(
          "data.patch_size is [4, 6, 4]: each size must be a multiple of 4 for this model"));
}

TEST(Predictor, StopsOnAFlag) {
  std::atomic<bool> stop = true;
  Predictor predictor(std::make_shared<LabelModel>(), config_of({4, 4, 4}), torch::kCPU);
  predictor.stop_on(stop);
  EXPECT_THROW(predictor.predict(torch::zeros({1, 4, 4, 4})), Interrupted);
}

TEST(ValidationRegions, FollowTheClasses) {
  const auto regions = [](const std::vector<std::string>& classes,
                          const std::vector<std::string>& regions = {}) {
    data::DataConfig config;
    config.classes = classes;
    config.regions = regions;
    std::vector<std::pair<std::string, std::vector<std::uint8_t>>> all;
    for (const auto& region : validation_regions(config)) {
      all.emplace_back(region.name, region.labels);
    }
    return all;
  };
  using Labels = std::vector<std::uint8_t>;
  EXPECT_THAT(regions(data::kBratsClasses),
              ElementsAre(std::pair{"WT", Labels{1, 2, 3}}, std::pair{"TC", Labels{1, 3}},
                          std::pair{"ET", Labels{3}}));
  EXPECT_THAT(regions({"background", "edema", "ET", "RC", "NCR"}),
              ElementsAre(std::pair{"WT", Labels{4, 1, 2}}, std::pair{"TC", Labels{4, 2}},
                          std::pair{"ET", Labels{2}}));
  EXPECT_THAT(regions({"background", "liver", "tumour"}),
              ElementsAre(std::pair{"liver", Labels{1}}, std::pair{"tumour", Labels{2}}));
  EXPECT_THAT(regions({"background", "liver", "tumour"}, {"organ=liver+tumour", "tumour=tumour"}),
              ElementsAre(std::pair{"organ", Labels{1, 2}}, std::pair{"tumour", Labels{2}}));
}

TEST(ScoreRegions, CountsTheRegionsOfBrats) {
  //                                        WT 3 of 4 and 4; TC 1 of 2 and 2; ET none of 1 and 1
  const std::vector<std::uint8_t> prediction = {0, 1, 2, 3, 2, 0};
  const std::vector<std::uint8_t> reference = {0, 1, 2, 2, 0, 3};
  const auto regions = validation_regions({});
  const metrics::Grid grid{{6, 1, 1}, {2, 1, 1}};
  const auto scores = score_regions(prediction, reference, grid, regions, /*with_hd95=*/true);
  EXPECT_THAT(scores.dice, ElementsAre(2 * 3.0 / 8, 2 * 1.0 / 4, 0));
  EXPECT_DOUBLE_EQ(scores.mean_dice(), (2 * 3.0 / 8 + 2 * 1.0 / 4) / 3);
  // WT: voxels 1 to 4 against 1, 2, 3 and 5: one more, one missed, each 2 mm from the other's. TC:
  // 1 and 3 against 1 and 5: distances 0, 4 | 0, 4. ET: 3 against 5.
  EXPECT_THAT(scores.hd95, ElementsAre(2, 4, 4));
  const std::vector<std::uint8_t> without = {0, 2, 0, 0, 0, 0};
  const auto empty = score_regions(without, without, grid, regions, true);
  EXPECT_DOUBLE_EQ(empty.dice[2], 1);
  EXPECT_DOUBLE_EQ(empty.hd95[2], 0);
  const auto missed = score_regions(without, reference, grid, regions, true);
  EXPECT_DOUBLE_EQ(missed.dice[2], 0);
  EXPECT_DOUBLE_EQ(missed.hd95[2], std::sqrt(12 * 12 + 1 + 1));
  EXPECT_TRUE(score_regions(without, reference, grid, regions, false).hd95.empty());
}

}  // namespace
}  // namespace segmamba::engine
