#include <gmock/gmock.h>

#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/schedule.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/nn/model_config.h"

namespace segmamba::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAreArray;
namespace fs = std::filesystem;

const fs::path kConfigs = fs::path(SEGMAMBA_SOURCE_DIR) / "configs";

template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

auto values_without_model(const fs::path& path) {
  auto values = config_values(load_config<TrainConfig>(path, {}));
  std::erase_if(values, [](const auto& item) { return starts_with(item.first, "model."); });
  return values;
}

TEST(TrainConfig, UnknownKeyIsNamedWithItsLineAndItsNeighbour) {
  EXPECT_EQ(message_of([] {
              TrainConfig config;
              ConfigDocument::from_text("training:\n  batchsize: 4\n", "run.yaml").read(config);
            }),
            "run.yaml:2: unknown key training.batchsize; did you mean batch_size?");
}

TEST(TrainConfig, RefusesValuesOutOfRange) {
  EXPECT_THAT(message_of([] {
                auto document = ConfigDocument::from_text("", "run.yaml");
                document.override_value("inference.overlap=1.5");
                TrainConfig config;
                document.read(config);
              }),
              HasSubstr("inference.overlap must be a number from 0 to 0.95, got '1.5'"));
}

TEST(TrainConfig, WrittenConfigReadsBackEqual) {
  TrainConfig config;
  config.data.root = "/data/with space/BraTS: 2023";
  config.data.patch_size = {96, 80, 64};
  config.optimizer.learning_rate = 0.1 + 0.2;
  config.inference.mirror_axes = {};
  for (const bool with_help : {false, true}) {
    TrainConfig read;
    ConfigDocument::from_text(config_to_yaml(config, with_help), "run.yaml").read(read);
    EXPECT_EQ(config_values(read), config_values(config));
  }
}

TEST(TrainConfig, ShippedConfigsAreValid) {
  int count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(kConfigs)) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    EXPECT_EQ(message_of([&] { check(load_config<TrainConfig>(entry.path(), {})); }), "no error");
  }
  EXPECT_GT(count, 0);
}

// Table 1 compares networks: everything else is the same, and there is one config a network.
TEST(TrainConfig, ConfigsOfTable1DifferInTheirNetworksAlone) {
  for (const auto& [folder, recipe] :
       {std::pair("table1", "paper.yaml"), std::pair("table1/smoke", "table1/smoke/recipe.yaml")}) {
    const auto expected = values_without_model(kConfigs / recipe);
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(kConfigs / folder)) {
      const auto& path = entry.path();
      if (path.extension() != ".yaml" || path.filename() == "recipe.yaml") continue;
      names.push_back(path.stem().string());
      EXPECT_EQ(load_config<TrainConfig>(path, {}).model.name, names.back()) << path;
      EXPECT_EQ(values_without_model(path), expected) << path;
    }
    EXPECT_THAT(names, UnorderedElementsAreArray(nn::model_names())) << folder;
  }
}

// upstream-code.yaml is the reference of the keys: it must list them all, but for those that
// only other models read.
TEST(TrainConfig, ReferenceConfigListsEveryKey) {
  const auto text = read_file(kConfigs / "upstream-code.yaml");
  for (const auto& [key, value] : config_values(TrainConfig{})) {
    if (key == "model.mlp_ratio" || key == "model.directions" || key == "model.downsample_norm") {
      continue;
    }
    const auto depth = static_cast<std::size_t>(std::count(key.begin(), key.end(), '.'));
    const auto name = key.substr(key.rfind('.') + 1);
    EXPECT_THAT(text, HasSubstr("\n" + std::string(2 * depth, ' ') + name + ": ")) << key;
  }
}

TEST(TrainConfig, ChannelsMustFitTheModel) {
  TrainConfig config;
  config.data.channels = {"t1c"};
  EXPECT_EQ(message_of([&] { check(config); }),
            "model.in_channels is 4, but data.channels lists 1 (t1c)");
}

TEST(TrainConfig, ClassesMustFitTheModel) {
  TrainConfig config;
  config.data.classes = {"background", "liver"};
  EXPECT_EQ(message_of([&] { check(config); }),
            "model.out_channels is 4, but data.classes lists 2 (background, liver)");
}

TEST(TrainConfig, RegionsMustFitTheModel) {
  TrainConfig config;
  config.data.regions = {"WT", "TC", "ET"};
  EXPECT_EQ(message_of([&] { check(config); }),
            "model.out_channels is 4, but data.regions lists 3 (WT, TC, ET)");
  config.model.out_channels = 3;
  EXPECT_EQ(message_of([&] { check(config); }), "no error");
  config.data.regions = {"WT", "TC", "TC=oedema"};
  EXPECT_EQ(message_of([&] { check(config); }), "data.regions: there are two regions 'TC'");
}

TEST(TrainConfig, WeightsOfTheLossMustFitTheModel) {
  TrainConfig config;
  config.loss.class_weights = {1, 2, 3};
  EXPECT_EQ(message_of([&] { check(config); }),
            "loss.class_weights lists 3 numbers, but the model has 4 outputs (model.out_channels)");
  config.loss.class_weights = {1, 0, 0, 0};
  EXPECT_EQ(message_of([&] { check(config); }), "no error");
  config.loss.name = "dice_focal";
  EXPECT_EQ(message_of([&] { check(config); }),
            "loss.class_weights are all 0 but the background's, which Dice leaves out: nothing "
            "would be learnt");
  config.loss.include_background = true;
  EXPECT_EQ(message_of([&] { check(config); }), "no error");
  config.loss.class_weights = {0, 0, 0, 0};
  EXPECT_EQ(message_of([&] { check(config); }),
            "loss.class_weights are all 0: nothing would be learnt");
  config.loss.class_weights = {};
  config.loss.deep_supervision_weights = {1, 0.5};
  EXPECT_EQ(message_of([&] { check(config); }),
            "loss.deep_supervision_weights needs model.deep_supervision: true");
  config.model.deep_supervision = true;
  EXPECT_EQ(message_of([&] { check(config); }), "no error");
  config.loss.deep_supervision_weights = {0, 0, 0, 0};
  EXPECT_EQ(message_of([&] { check(config); }),
            "loss.deep_supervision_weights are all 0: nothing would be learnt");
}

TEST(TrainConfig, ContradictionsWithinASectionAreFound) {
  TrainConfig config;
  config.augment.scaling.range = {1.4, 0.7};
  EXPECT_THAT(message_of([&] { check(config); }), HasSubstr("augment.scaling.range"));
  config = {};
  config.preprocess.normalise = "window";
  EXPECT_THAT(message_of([&] { check(config); }), HasSubstr("preprocess.clip"));
  config = {};
  config.sampling.classes = {"liver"};
  EXPECT_THAT(message_of([&] { check(config); }), HasSubstr("there is no class liver"));
}

TEST(TrainConfig, PostprocessingMustFitTheClasses) {
  TrainConfig config;
  config.postprocess.remove_below_ml = {"ET=0.1"};
  EXPECT_EQ(message_of([&] { check(config); }), "no error");
  config.data.classes = {"background", "liver", "tumour", "cyst"};
  EXPECT_EQ(message_of([&] { check(config); }),
            "postprocess.remove_below_ml: 'ET=0.1': there is no class 'enhancing' in data.classes "
            "(background, liver, tumour, cyst)");
}

// What was written before the section was there.
TEST(TrainConfig, WithoutPostprocessingNothingIsDone) {
  TrainConfig config;
  ConfigDocument::from_text("inference:\n  overlap: 0.5\n", "run.yaml").read(config);
  EXPECT_THAT(post::make_rules(config.postprocess, config.data.classes), IsEmpty());
}

TEST(TrainConfig, OnlyKeysThatDecideTheWeightsForbidAResume) {
  TrainConfig before, now;
  now.data.root = "elsewhere";
  now.data.cache = "cache";
  now.data.max_bad_cases = 9;
  now.training.workers = 7;
  now.inference.overlap = 0.75;
  now.validation.every = 10;
  now.postprocess.fill_holes = {"WT"};
  EXPECT_THAT(differences_that_matter(now, before), IsEmpty());
  now.training.batch_size = 4;
  now.loss.smooth = 1;
  EXPECT_THAT(differences_that_matter(now, before),
              ElementsAre("loss.smooth is 1, was 1e-05", "training.batch_size is 4, was 2"));
}

TEST(Schedule, PolynomialValues) {
  const ScheduleConfig schedule{.name = "polynomial", .power = 0.9, .warmup_iterations = 0};
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1e-2, 0, 1000), 1e-2);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1e-2, 500, 1000), 1e-2 * std::pow(0.5, 0.9));
  EXPECT_NEAR(learning_rate_at(schedule, 1e-2, 999, 1000), 1e-2 * std::pow(0.001, 0.9), 1e-18);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1e-2, 1000, 1000), 0);
}

TEST(Schedule, CosineAndFinalRate) {
  ScheduleConfig schedule{.name = "cosine", .final_learning_rate = 0.2};
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1, 0, 8), 1);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1, 2, 8), 0.2 + 0.8 * (1 + std::sqrt(0.5)) / 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1, 4, 8), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1, 8, 8), 0.2);
  schedule.name = "polynomial";
  schedule.power = 2;
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1, 4, 8), 0.2 + 0.8 * 0.25);
  schedule.warmup_iterations = 5;
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1, 3, 8), (0.2 + 0.8 * 25.0 / 64) * 4 / 5);
}

TEST(Schedule, ConstantAndWarmup) {
  const ScheduleConfig schedule{.name = "constant", .power = 0.9, .warmup_iterations = 4};
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 2, 0, 10), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 2, 3, 10), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 2, 9, 10), 2);
}

}  // namespace
}  // namespace segmamba::engine
