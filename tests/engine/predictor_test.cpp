#include "segmamba/engine/predictor.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "models.h"
#include "segmamba/core/error.h"
#include "support/error_of.h"

namespace segmamba::engine {
namespace {

using test::error_of;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TrainConfig config_of(std::vector<std::int64_t> window) {
  TrainConfig config;
  config.data.patch_size = std::move(window);
  return config;
}

Predictor predictor_of(std::shared_ptr<nn::SegmentationModel> model, const TrainConfig& config) {
  return {{std::move(model)}, config, {.device = "cpu", .precision = "fp32"}};
}

// A case whose voxel i has the value i * 7 % 4, cropped out of a larger grid.
data::PreparedCase small_case() {
  auto item = test::case_of((torch::arange(5 * 4 * 6) * 7 % 4).view({1, 5, 4, 6}));
  item.geometry.size = {11, 9, 7};  // x, y, z
  item.crop_begin = {1, 3, 2};      // z, y, x
  return item;
}

TEST(Predictor, PutsLabelsAndMapsInPlace) {
  const auto item = small_case();
  auto config = config_of({4, 4, 4});
  config.inference.mirror_axes = {};
  const auto predictor = predictor_of(std::make_shared<test::LabelModel>(), config);
  const auto all = predictor.predict(item, {.probabilities = true, .uncertainty = true});
  EXPECT_EQ(all.name, "case");
  EXPECT_EQ(all.labels.geometry.size, item.geometry.size);
  EXPECT_EQ(all.outputs, data::kBratsClasses);
  ASSERT_EQ(all.labels.voxels.size(), 11U * 9 * 7);
  ASSERT_EQ(all.probabilities.size(), 4U);
  EXPECT_THAT(all.probabilities, Each(SizeIs(11 * 9 * 7)));
  EXPECT_THAT(all.notes, IsEmpty());
  const double sum = std::exp(1) + 3;  // of the exponentials of logits 1, 0, 0, 0
  const double entropy = std::log(sum) - std::exp(1) / sum;
  std::size_t voxel = 0;
  for (int z = 0; z < 7; ++z) {
    for (int y = 0; y < 9; ++y) {
      for (int x = 0; x < 11; ++x, ++voxel) {
        const bool inside = z >= 1 && z < 6 && y >= 3 && y < 7 && x >= 2 && x < 8;
        const int i = ((z - 1) * 4 + y - 3) * 6 + x - 2;
        const int label = inside ? i * 7 % 4 : 0;
        EXPECT_EQ(all.labels.voxels[voxel], label) << z << " " << y << " " << x;
        for (int k = 0; k < 4; ++k) {
          const double expected = inside ? (k == label ? std::exp(1) : 1) / sum : k == 0;
          EXPECT_NEAR(to_float(all.probabilities[k][voxel]), expected, 5e-4);
        }
        EXPECT_NEAR(to_float(all.entropy[voxel]), inside ? entropy : 0, 1e-3);
        EXPECT_LT(to_float(all.disagreement[voxel]), 1e-6);
      }
    }
  }
  const auto labels_alone = predictor.predict(item);
  EXPECT_EQ(labels_alone.labels.voxels, all.labels.voxels);
  EXPECT_THAT(labels_alone.probabilities, IsEmpty());
  EXPECT_THAT(labels_alone.entropy, IsEmpty());
  EXPECT_THAT(labels_alone.disagreement, IsEmpty());
}

TEST(Predictor, BringsResampledScoresBack) {
  auto item = small_case();
  item.crop_size = {5, 8, 6};  // twice as many rows as were prepared
  item.geometry.size = {11, 12, 7};
  const auto map =
      predictor_of(std::make_shared<test::LabelModel>(), config_of({4, 4, 4})).predict(item).labels;
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

TEST(Predictor, PaintsRegions) {
  auto config = config_of({4, 4, 4});
  config.data.regions = {"WT", "TC", "ET"};
  auto item = small_case();
  const auto model = std::make_shared<test::RegionModel>();
  for (const char* average : {"logits", "probabilities"}) {
    config.inference.average = average;
    const auto labels = predictor_of(model, config).segment_prepared(item);
    ASSERT_EQ(labels.size(), 5U * 4 * 6);
    for (int i = 0; i < std::ssize(labels); ++i) EXPECT_EQ(labels[i], i * 7 % 4) << average << i;
  }
  // As in BringsResampledScoresBack: logits -2 and 4 mixed 3 : 1 keep their sign only where the
  // threshold is applied after the mixing: -0.5 and 2.5.
  item.crop_size = {5, 8, 6};
  item.geometry.size = {11, 12, 7};
  config.inference.average = "logits";
  const auto prediction = predictor_of(model, config).predict(item, {.probabilities = true});
  EXPECT_THAT(prediction.outputs, ElementsAre("WT", "TC", "ET"));
  for (int i = 0; i < 5 * 8 * 6; ++i) {
    const int z = i / 48, y = i / 6 % 8, x = i % 6, source = (z * 4 + y / 2) * 6 + x;
    const auto voxel = static_cast<std::size_t>(((z + 1) * 12 + y + 3) * 11 + x + 2);
    EXPECT_EQ(prediction.labels.voxels[voxel], source * 7 % 4);
    EXPECT_EQ(to_float(prediction.probabilities[0][voxel]) > 0.5, source * 7 % 4 != 0);
  }
  EXPECT_EQ(to_float(prediction.probabilities[0][0]), 0);  // outside of the crop
}

TEST(Predictor, AveragesWhatTheConfigSays) {
  auto config = config_of({4, 4, 4});
  config.data.classes = {"background", "tumour"};
  const auto item = test::case_of(torch::zeros({1, 5, 4, 4}));
  // Probabilities (0.9, 0.1) and (0.2, 0.8).
  const std::vector<std::shared_ptr<nn::SegmentationModel>> models = {
      std::make_shared<test::ConstantModel>(std::vector{std::log(9.F), 0.F}),
      std::make_shared<test::ConstantModel>(std::vector{0.F, std::log(4.F)})};
  const auto background = [&](const char* average) {
    config.inference.average = average;
    const Predictor predictor(models, config, {.device = "cpu", .precision = "fp32"});
    EXPECT_EQ(predictor.model_count(), 2);
    return to_float(predictor.predict(item, {.probabilities = true}).probabilities[0][7]);
  };
  EXPECT_NEAR(background("probabilities"), 0.55, 5e-4);
  EXPECT_NEAR(background("logits"), 3 / (3 + 2.), 5e-4);  // sqrt(9) : sqrt(4)
}

TEST(Predictor, UncertaintyOfAnEnsembleHasItsFormulas) {
  auto config = config_of({4, 4, 4});
  config.data.classes = {"background", "tumour"};
  config.inference.mirror_axes = {0};
  auto item = test::case_of(torch::zeros({1, 5, 4, 4}));
  const auto entropy = [](double p) { return -p * std::log(p) - (1 - p) * std::log(1 - p); };
  const double of_mean = entropy(0.55), disagreement = of_mean - (entropy(0.9) + entropy(0.2)) / 2;
  for (const char* average : {"logits", "probabilities"}) {
    config.inference.average = average;
    // Probabilities (0.9, 0.1) and (0.2, 0.8).
    const Predictor predictor(
        {std::make_shared<test::ConstantModel>(std::vector{std::log(9.F), 0.F}),
         std::make_shared<test::ConstantModel>(std::vector{0.F, std::log(4.F)})},
        config, {.device = "cpu", .precision = "fp32"});
    const auto prediction = predictor.predict(item, {.uncertainty = true});
    for (std::size_t i = 0; i < prediction.entropy.size(); ++i) {
      EXPECT_NEAR(to_float(prediction.entropy[i]), of_mean, 5e-4) << average;
      EXPECT_NEAR(to_float(prediction.disagreement[i]), disagreement, 5e-4) << average;
    }
  }
}

TEST(Predictor, WindowsBeyondTheVolumeSeeWhatLiesOutside) {
  struct Watcher : test::LabelModel {
    Tensors compute(torch::Tensor input, bool deep) override {
      seen = input.clone();
      return LabelModel::compute(input, deep);
    }
    torch::Tensor seen;
  };
  const auto model = std::make_shared<Watcher>();
  auto config = config_of({4, 4, 4});
  config.inference.mirror_axes = {};
  auto item = test::case_of(torch::ones({1, 2, 4, 4}));
  item.outside = {-2};
  predictor_of(model, config).predict(item);
  const auto slices = model->seen.mean({0, 1, 3, 4});
  EXPECT_TRUE(torch::equal(slices, torch::tensor({-2.F, 1.F, 1.F, -2.F}))) << slices;
}

// A small network with the weights of this seed.
std::shared_ptr<nn::SegmentationModel> small_network(TrainConfig& config, int seed) {
  config.model.segmamba.dims = {4, 8};
  config.model.segmamba.depths = {1, 1};
  config.model.segmamba.hidden_size = 8;
  config.model.in_channels = 2;
  config.model.out_channels = 3;
  config.data.channels = {"a", "b"};
  config.data.classes = {"background", "one", "two"};
  config.data.patch_size = {8, 12, 16};
  torch::manual_seed(seed);
  return nn::make_model(config.model);
}

TEST(Predictor, DisagreementIsBetweenZeroAndEntropy) {
  TrainConfig config;
  config.inference.mirror_axes = {2};
  std::vector<std::shared_ptr<nn::SegmentationModel>> models;
  for (const int seed : {1, 2, 3}) models.push_back(small_network(config, seed));
  auto item = test::case_of(torch::randn({2, 15, 14, 20}) * 3);
  item.crop_size = {11, 20, 31};
  item.geometry.size = {31, 20, 11};
  for (const char* average : {"logits", "probabilities"}) {
    config.inference.average = average;
    const Predictor predictor(models, config, {.device = "cpu", .precision = "fp32"});
    const auto prediction = predictor.predict(item, {.probabilities = true, .uncertainty = true});
    float greatest = 0;
    for (std::size_t i = 0; i < prediction.entropy.size(); ++i) {
      const float disagreement = to_float(prediction.disagreement[i]);
      const float entropy = to_float(prediction.entropy[i]);
      EXPECT_GE(disagreement, 0);
      EXPECT_LE(disagreement, entropy + 1e-3);
      EXPECT_LE(entropy, std::log(3) + 1e-3);
      greatest = std::max(greatest, disagreement);
      float sum = 0, best = 0;
      for (const auto& map : prediction.probabilities) {
        sum += to_float(map[i]);
        best = std::max(best, to_float(map[i]));
      }
      EXPECT_NEAR(sum, 1, 2e-3);
      EXPECT_EQ(to_float(prediction.probabilities[prediction.labels.voxels[i]][i]), best);
    }
    EXPECT_GT(greatest, 1e-3);
  }
}

TEST(Predictor, MirrorsEverySubsetOfTheAxesForEachWindow) {
  const auto model = std::make_shared<test::LabelModel>();
  predictor_of(model, config_of({4, 4, 4})).predict(test::case_of(torch::zeros({1, 6, 4, 4})));
  EXPECT_EQ(model->calls, 2 * 8);
}

TEST(Predictor, RefusesWindowsThatTheModelCannotTake) {
  EXPECT_EQ(error_of([] {
              predictor_of(std::make_shared<test::LabelModel>(), config_of({4, 6, 4}));
            }),
            "data.patch_size is [4, 6, 4]: each size must be a multiple of 4");
}

TEST(Predictor, RefusesScoresThatAreNotFinite) {
  auto config = config_of({4, 4, 4});
  config.data.classes = {"background", "tumour"};
  const auto predict = [&](const char* precision) {
    const Predictor predictor(
        {std::make_shared<test::ConstantModel>(std::vector{1.F, std::nanf("")})}, config,
        {.device = "cpu", .precision = precision});
    predictor.predict(test::case_of(torch::zeros({1, 4, 4, 4})));
  };
  EXPECT_EQ(error_of([&] { predict("fp32"); }), "case case: the model's scores are not finite");
  EXPECT_EQ(error_of([&] { predict("bf16"); }),
            "case case: the model's scores are not finite; compute in fp32");
}

TEST(Predictor, TellsProgressAndStopsBetweenPasses) {
  const auto model = std::make_shared<test::LabelModel>();
  auto config = config_of({4, 4, 4});
  config.inference.mirror_axes = {1};
  const auto predictor = predictor_of(model, config);
  const auto item = test::case_of(torch::zeros({1, 6, 4, 4}));  // two windows
  std::vector<double> shares;
  const auto here = std::this_thread::get_id();
  predictor.predict(item, {.on_progress = [&](double share) {
                      EXPECT_EQ(std::this_thread::get_id(), here);
                      shares.push_back(share);
                    }});
  EXPECT_THAT(shares, ElementsAre(0.25, 0.5, 0.75, 1));
  model->calls = 0;
  EXPECT_THROW(predictor.predict(item, {.cancelled = [&] { return model->calls == 3; }}),
               Interrupted);
  EXPECT_EQ(model->calls, 3);
  EXPECT_THROW(predictor.segment_prepared(item, [] { return true; }), Interrupted);
}

// Blending is the same bit for bit (SlidingWindow.WindowBatchChangesNoBit); the libraries beneath a
// network share out their sums by the size of a batch.
TEST(Predictor, WindowBatchChangesANetworkByRoundingOnly) {
  TrainConfig config;
  config.inference.mirror_axes = {0};
  const auto model = small_network(config, 4);
  const auto item = test::case_of(torch::randn({2, 15, 30, 40}));
  const auto predict = [&](std::int64_t windows) {
    config.inference.sw_batch_size = windows;
    return predictor_of(model, config).predict(item, {.probabilities = true});
  };
  const auto one = predict(1), many = predict(5);
  EXPECT_EQ(one.labels.voxels, many.labels.voxels);
  for (std::size_t k = 0; k < 3; ++k) {
    for (std::size_t i = 0; i < one.probabilities[k].size(); ++i) {
      // One step of a Half.
      ASSERT_NEAR(to_float(one.probabilities[k][i]), to_float(many.probabilities[k][i]), 5e-4);
    }
  }
}

std::vector<std::uint16_t> bits(const Prediction& prediction) {
  std::vector<std::uint16_t> all(prediction.labels.voxels.begin(), prediction.labels.voxels.end());
  for (const auto& map : prediction.probabilities) {
    for (const auto value : map) all.push_back(value.bits);
  }
  for (const auto value : prediction.disagreement) all.push_back(value.bits);
  return all;
}

TEST(Predictor, ConcurrentCallsGiveTheSameBits) {
  TrainConfig config;
  config.inference.mirror_axes = {2};
  const auto model = small_network(config, 5);
  std::vector<data::PreparedCase> cases;
  for (const std::int64_t depth : {9, 12, 17, 8}) {
    cases.push_back(test::case_of(torch::randn({2, depth, 13, 20})));
  }
  for (const char* precision : {"fp32", "bf16"}) {
    const Predictor predictor({model}, config, {.device = "cpu", .precision = precision});
    const auto predict = [&](std::size_t i) {
      return bits(predictor.predict(cases[i], {.probabilities = true, .uncertainty = true}));
    };
    std::vector<std::vector<std::uint16_t>> one_by_one, at_once(cases.size());
    for (std::size_t i = 0; i < cases.size(); ++i) one_by_one.push_back(predict(i));
    for (int round = 0; round < 3; ++round) {
      {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < cases.size(); ++i) {
          threads.emplace_back([&, i] { at_once[i] = predict(i); });
        }
      }
      EXPECT_EQ(at_once, one_by_one) << precision;
    }
  }
}

// Takes so many windows at once.
struct SmallMemoryModel : test::LabelModel {
  explicit SmallMemoryModel(std::int64_t windows) : most(windows) {}
  Tensors compute(torch::Tensor input, bool deep) override {
    largest = std::max(largest, input.size(0));
    if (input.size(0) <= most) return LabelModel::compute(input, deep);
    throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__}, "CUDA out of memory.");
  }
  std::int64_t most, largest = 0;
};

TEST(Predictor, StepsDownWhereMemoryRunsOutAndStaysThere) {
  auto config = config_of({4, 4, 4});
  config.inference.sw_batch_size = 6;
  const auto item = test::case_of((torch::arange(6 * 8 * 12) % 4).view({1, 6, 8, 12}));
  const auto model = std::make_shared<SmallMemoryModel>(1);
  const auto predictor = predictor_of(model, config);
  const auto prediction = predictor.predict(item);
  for (int i = 0; i < 6 * 8 * 12; ++i) ASSERT_EQ(prediction.labels.voxels[i], i % 4);
  EXPECT_THAT(prediction.notes,
              ElementsAre("the GPU's memory ran out with 6 windows a pass: going on with 3",
                          "the GPU's memory ran out with 3 windows a pass: going on with 1"));
  model->largest = 0;
  EXPECT_THAT(predictor.predict(item).notes, IsEmpty());
  EXPECT_EQ(model->largest, 1);

  const auto hopeless = predictor_of(std::make_shared<SmallMemoryModel>(0), config);
  EXPECT_EQ(error_of([&] { hopeless.predict(item); }),
            "case case: this machine is out of memory: ask for fewer maps, or take a smaller "
            "window (data.patch_size is [4, 4, 4])");
}

TEST(Predictor, OfNoModelIsAnError) {
  EXPECT_EQ(error_of([] { Predictor({}, TrainConfig{}, {.device = "cpu"}); }),
            "there is no model to segment with");
}

TEST(Predictor, KnowsWhatItComputesIn) {
  const auto of = [](const char* precision) {
    return Predictor({std::make_shared<test::LabelModel>()}, config_of({4, 4, 4}),
                     {.device = "cpu", .precision = precision});
  };
  EXPECT_EQ(of("fp32").precision(), "fp32");
  EXPECT_EQ(of("fp32").device(), "cpu");
  EXPECT_THAT(of("auto").precision(), ::testing::AnyOf("fp32", "bf16"));
  EXPECT_EQ(error_of([&] { of("fp8"); }),
            "precision \"fp8\" is none of auto, fp32, tf32, bf16, fp16");
}

}  // namespace
}  // namespace segmamba::engine
