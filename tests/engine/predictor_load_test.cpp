// Predictors of checkpoints and of image files.
#include <gmock/gmock.h>
#include <torch/torch.h>

#include "segmamba/core/config.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/io/volume.h"
#include "segmamba/nn/weights.h"
#include "segmamba/segmamba.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::HasSubstr;

class LoadTest : public ::testing::Test {
 protected:
  static TrainConfig small_config() {
    TrainConfig config;
    config.model.segmamba.dims = {4};
    config.model.segmamba.depths = {1};
    config.model.segmamba.hidden_size = 4;
    config.model.in_channels = 2;
    config.model.out_channels = 2;
    config.data.channels = {"t1n", "t1c"};
    config.data.classes = {"background", "tumour"};
    config.data.patch_size = {4, 8, 8};
    config.inference.mirror_axes = {};
    return config;
  }
  // A checkpoint of random weights; with_average: of a second set, too.
  fs::path write(const std::string& name, const TrainConfig& config, int seed,
                 bool with_average = false) const {
    torch::manual_seed(seed);
    Checkpoint checkpoint;
    const auto model = nn::make_model(config.model), average = nn::make_model(config.model);
    checkpoint.model = nn::state_dict(*model);
    checkpoint.config = config_to_yaml(config);
    if (with_average) {
      checkpoint.training.step.average = nn::state_dict(*average);
      checkpoint.training.step.average_updates = 1;
    }
    const auto path = folder_.path() / name;
    save_checkpoint(path, checkpoint);
    return path;
  }
  static PredictorOptions options(const std::string& weights = "average") {
    return {.device = "cpu", .precision = "fp32", .weights = weights};
  }
  // What a predictor says of one voxel of a fixed case.
  static double tumour(const Predictor& predictor) {
    data::RawCase raw;
    raw.name = "case";
    raw.geometry.size = {8, 8, 4};
    for (const int step : {3, 5}) {
      raw.channels.emplace_back();
      for (int i = 0; i < 256; ++i) raw.channels.back().push_back(static_cast<float>(i * step % 7));
    }
    const auto item = data::prepare_case(std::move(raw), predictor.config().preprocess);
    return to_float(predictor.predict(item, {.probabilities = true}).probabilities[1][100]);
  }

  test::TemporaryFolder folder_;
};

TEST_F(LoadTest, EnsemblesAverageTheirModels) {
  auto config = small_config();
  config.inference.average = "probabilities";
  const auto a = write("a.pt", config, 1), b = write("b.pt", config, 2);
  const auto both = Predictor::load({a, b}, options());
  EXPECT_EQ(both.model_count(), 2);
  const double of_a = tumour(Predictor::load({a}, options()));
  const double of_b = tumour(Predictor::load({b}, options()));
  EXPECT_GT(std::abs(of_a - of_b), 5e-3);
  EXPECT_NEAR(tumour(both), (of_a + of_b) / 2, 1e-3);
}

TEST_F(LoadTest, TakesAveragedOrTrainedWeightsOrBoth) {
  auto config = small_config();
  config.inference.average = "probabilities";
  const auto path = write("a.pt", config, 3, /*with_average=*/true);
  const auto average = Predictor::load({path}, options());
  const auto trained = Predictor::load({path}, options("trained"));
  const auto both = Predictor::load({path}, options("both"));
  EXPECT_EQ(both.model_count(), 2);
  EXPECT_GT(std::abs(tumour(average) - tumour(trained)), 5e-3);
  EXPECT_NEAR(tumour(both), (tumour(average) + tumour(trained)) / 2, 1e-3);

  const auto plain = write("plain.pt", config, 3);
  EXPECT_EQ(tumour(Predictor::load({plain}, options())), tumour(trained));
  EXPECT_EQ(error_of([&] {
              Predictor::load({path, plain}, options("both"));
            }),
            plain.string() +
                " has no averaged weights (training.ema_decay was 0): take average, "
                "which is the trained ones then, instead of both");
  EXPECT_EQ(error_of([&] { Predictor::load({path}, options("best")); }),
            "weights \"best\" are none of average, trained, both");
}

TEST_F(LoadTest, ModelsMustAgreeInWhatGoesInAndComesOut) {
  const auto config = small_config();
  const auto first = write("first.pt", config, 1);
  const auto error_with = [&](const TrainConfig& other) {
    const auto second = write("second.pt", other, 2);
    return error_of([&] { Predictor::load({first, second}, options()); });
  };
  auto other = config;
  other.data.channels = {"t1c", "t1n"};
  EXPECT_EQ(error_with(other),
            "the models of an ensemble must agree in data.channels, which is [t1n, t1c] in " +
                first.string() + " and [t1c, t1n] in " + (folder_.path() / "second.pt").string());
  other = config;
  other.data.classes[1] = "liver";
  EXPECT_THAT(error_with(other), HasSubstr("agree in data.classes"));
  other = config;
  other.preprocess.normalise = "crop";
  EXPECT_THAT(error_with(other), HasSubstr("agree in preprocess.normalise"));
  other = config;
  other.data.patch_size = {8, 8, 8};
  EXPECT_THAT(error_with(other), HasSubstr("agree in data.patch_size"));
  // Other networks, and other ways of inference, of which the first's is taken.
  other = config;
  other.model.segmamba.dims = {8};
  other.inference.overlap = 0.75;
  EXPECT_EQ(error_with(other), "");
  EXPECT_EQ(
      Predictor::load({first, folder_.path() / "second.pt"}, options()).config().inference.overlap,
      config.inference.overlap);
}

TEST_F(LoadTest, TheCallerHasTheLastWordOnTheConfig) {
  auto with = options();
  with.configure = [](TrainConfig& config) { config.data.patch_size = {4, 4, 6}; };
  const auto path = write("a.pt", small_config(), 1);
  EXPECT_EQ(Predictor::load({path}, with).config().data.patch_size[2], 6);
  with.configure = [](TrainConfig& config) { config.data.patch_size = {4, 4, 5}; };
  EXPECT_THAT(error_of([&] { Predictor::load({path}, with); }), HasSubstr("data.patch_size"));
}

TEST_F(LoadTest, ErrorsNameTheFile) {
  const auto missing = folder_.path() / "missing.pt";
  EXPECT_THAT(error_of([&] { Predictor::load({missing}); }), HasSubstr(missing.string()));
  EXPECT_EQ(error_of([] { Predictor::load({}, options()); }), "there is no model to segment with");
}

TEST_F(LoadTest, SegmentsFilesByTheNamesOfTheirChannels) {
  const auto predictor = segmamba::Predictor::load({write("a.pt", small_config(), 6)}, options());
  io::Image image;
  image.geometry.size = {9, 8, 5};
  image.geometry.spacing = {1, 1, 2};
  for (int i = 0; i < 9 * 8 * 5; ++i) image.voxels.push_back(static_cast<float>(i % 5));
  const auto t1n = folder_.path() / "a case.t1n.nii.gz", t1c = folder_.path() / "t1c.nii";
  io::write_image(t1n, image);
  for (auto& voxel : image.voxels) voxel = 5 - voxel;
  io::write_image(t1c, image);

  const auto prediction = predictor.predict_files({{"t1c", t1c}, {"t1n", t1n}});
  EXPECT_EQ(prediction.name, "a case.t1n");
  EXPECT_EQ(prediction.labels.geometry.size, image.geometry.size);
  EXPECT_EQ(prediction.labels.voxels.size(), 9U * 8 * 5);
  const auto item = predictor.prepare_files({{"t1n", t1n}, {"t1c", t1c}});
  EXPECT_EQ(item.channels, 2);
  EXPECT_EQ(predictor.predict(item).labels.voxels, prediction.labels.voxels);

  EXPECT_EQ(error_of([&] {
              predictor.predict_files({{"t1n", t1n}});
            }),
            "case a case.t1n: no file for t1c; give t1c=PATH");
  EXPECT_EQ(error_of([&] {
              predictor.predict_files({{"t1n", t1n}, {"t1c", t1c}, {"t9", "x.nii"}});
            }),
            "t9=x.nii: there is no channel 't9'; there are t1n, t1c");
}

}  // namespace
}  // namespace segmamba::engine
