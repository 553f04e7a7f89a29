#include "segmamba/data/preprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../../src/data/resample.h"
#include "case_files.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

using test::case_file;
using test::error_of;
using test::write_case;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kName = "BraTS-GLI-00001-000";

// Channel c of a prepared case, in the order of memory.
std::vector<float> channel(const PreparedCase& item, std::int64_t c) {
  std::vector<float> values;
  for (std::size_t i = static_cast<std::size_t>(c); i < item.image.size();
       i += static_cast<std::size_t>(item.channels)) {
    values.push_back(to_float(item.image[i]));
  }
  return values;
}

// A case with one channel and no labels.
RawCase raw_case(const Index3& size, std::vector<float> values) {
  RawCase raw;
  raw.name = "case";
  raw.geometry.size = {size[2], size[1], size[0]};
  raw.channels = {std::move(values)};
  raw.classes = 2;
  return raw;
}

class PreprocessTest : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  const std::filesystem::path& root() const { return folder_.path(); }
  Dataset dataset() const {
    DatasetConfig config;
    config.root = root().string();
    return open_dataset(config, Labels::kRequired);
  }
  RawCase read() const {
    const auto set = dataset();
    return read_case(set, set.cases.at(0));
  }
  PreparedCase prepare(const PreprocessConfig& config = {}) const {
    return prepare_case(read(), config);
  }

  test::TemporaryFolder folder_;
};

TEST_F(PreprocessTest, CropsToTheBoxOfNonZeroVoxelsAndNormalisesThem) {
  write_case(root(), kName);
  const auto item = prepare();
  EXPECT_EQ(item.name, kName);
  EXPECT_EQ(item.channels, 4);
  EXPECT_EQ(item.classes, 4);
  EXPECT_EQ(item.size, (Index3{2, 3, 4}));
  EXPECT_EQ(item.crop_size, item.size);
  EXPECT_EQ(item.crop_begin, (Index3{1, 1, 1}));
  EXPECT_EQ(item.geometry.size, test::kCaseSize);  // x, y, z
  // 1..24 times a scale has mean 12.5 and variance (24^2 - 1) / 12 times its square.
  const double deviation = std::sqrt(575.0 / 12);
  for (std::int64_t c = 0; c < 4; ++c) {
    const auto values = channel(item, c);
    ASSERT_EQ(values.size(), 24);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double z = (static_cast<double>(i) + 1 - 12.5) / deviation;
      EXPECT_NEAR(values[i], z, 0.0005 * std::abs(z) + 1e-7) << i;  // 11 bits
    }
  }
  std::vector<std::uint8_t> labels(24, 0);
  labels[0] = 1;
  labels[1] = 2;
  labels[23] = 3;
  EXPECT_THAT(item.labels, ::testing::ElementsAreArray(labels));
  EXPECT_THAT(item.class_counts, ElementsAre(10, 1, 1, 0, 11, 0, 0, 1));
}

TEST_F(PreprocessTest, TheBoxHoldsEveryChannelAndBackgroundStaysZero) {
  write_case(root(), kName);
  io::Image image = test::case_image(1);
  image.voxels.front() = 7;  // a voxel outside the box of the others
  io::write_image(case_file(root(), kName, "t1n"), image);
  const auto item = prepare();
  EXPECT_EQ(item.size, (Index3{3, 4, 5}));
  EXPECT_EQ(item.crop_begin, (Index3{0, 0, 0}));
  double sum = 0, squares = 0;
  int count = 0;
  for (const float value : channel(item, 0)) {
    sum += value;
    squares += value * value;
    count += value != 0 ? 1 : 0;
  }
  EXPECT_EQ(count, 25);
  EXPECT_NEAR(sum / count, 0, 1e-4);
  EXPECT_NEAR(squares / count, 1, 1e-3);
  EXPECT_EQ(channel(item, 1)[0], 0);
}

TEST_F(PreprocessTest, NothingIsCroppedWhereThatIsSwitchedOff) {
  write_case(root(), kName);
  PreprocessConfig config;
  config.crop_to_nonzero = false;
  const auto item = prepare(config);
  EXPECT_EQ(item.size, (Index3{4, 5, 6}));
  EXPECT_EQ(item.crop_begin, (Index3{0, 0, 0}));
}

TEST_F(PreprocessTest, AConstantChannelBecomesZero) {
  write_case(root(), kName);
  io::Image image = test::case_image(1);
  for (float& value : image.voxels) value = value != 0 ? 0.1f : 0;
  io::write_image(case_file(root(), kName, "t1n"), image);
  EXPECT_THAT(channel(prepare(), 0), ::testing::Each(0));
}

TEST_F(PreprocessTest, LabelFourIsReadAsThree) {
  write_case(root(), kName);
  io::LabelMap labels = test::case_labels();
  std::replace(labels.voxels.begin(), labels.voxels.end(), 3, 4);
  io::write_labels(case_file(root(), kName, "seg"), labels);
  EXPECT_EQ(prepare().labels.back(), 3);
}

TEST_F(PreprocessTest, RefusesCasesThatDoNotFit) {
  write_case(root(), kName);
  const auto load_error = [&] { return error_of([&] { prepare(); }); };
  io::LabelMap labels = test::case_labels();
  labels.voxels[0] = 7;
  io::write_labels(case_file(root(), kName, "seg"), labels);
  EXPECT_THAT(load_error(), HasSubstr("label 7 stands for no class"));
  labels = test::case_labels();
  labels.geometry.origin[2] = 1;
  io::write_labels(case_file(root(), kName, "seg"), labels);
  EXPECT_THAT(load_error(), HasSubstr("do not share a grid: origin"));
  io::Image image = test::case_image(1);
  image.geometry.spacing[0] = 2;
  io::write_image(case_file(root(), kName, "t2w"), image);
  EXPECT_THAT(load_error(), HasSubstr("BraTS-GLI-00001-000-t2w.nii.gz do not share a grid: spac"));
  write_case(root(), kName);
  for (const auto& name : kBratsChannels) {
    io::write_image(case_file(root(), kName, name), test::case_image(0));
  }
  EXPECT_THAT(load_error(), HasSubstr("every voxel of every channel is 0"));
}

TEST_F(PreprocessTest, OneFileMayServeTwoChannels) {
  write_case(root(), kName);
  auto set = dataset();
  set.cases[0].images[1] = set.cases[0].images[0];
  const auto raw = read_case(set, set.cases[0]);
  EXPECT_EQ(raw.channels[0], raw.channels[1]);
  set.cases[0].images[1].volume = set.cases[0].images[0].volume = 0;
  set.cases[0].images[2].path = set.cases[0].images[0].path;
  set.cases[0].images[2].volume = 1;
  EXPECT_THAT(error_of([&] { read_case(set, set.cases[0]); }),
              HasSubstr("BraTS-GLI-00001-000-t1n.nii.gz: has no volume 1; its volumes are 0 to 0"));
}

// 3 x 3 x 3: a shell of 8 around a 0, and 0 outside on one side.
std::vector<float> shell() {
  std::vector<float> values(4 * 3 * 3, 0);
  std::fill(values.begin(), values.begin() + 27, 8.0f);
  values[13] = 0;  // the middle
  values[0] = 4;
  return values;
}

TEST(Normalise, OverNonZeroVoxelsCropOrFilledMask) {
  const auto raw = raw_case({4, 3, 3}, shell());
  PreprocessConfig config;
  config.crop_to_nonzero = false;
  const auto first = [&](const std::string& normalise) {
    config.normalise = normalise;
    return channel(prepare_case(raw, config), 0);
  };
  // 25 of 8 and one of 4.
  double mean = (25 * 8 + 4) / 26.0;
  double deviation = std::sqrt((25 * (8 - mean) * (8 - mean) + (4 - mean) * (4 - mean)) / 26);
  auto values = first("nonzero");
  EXPECT_NEAR(values[1], (8 - mean) / deviation, 1e-3);
  EXPECT_NEAR(values[0], (4 - mean) / deviation, 5e-3);
  EXPECT_EQ(values[13], 0);
  EXPECT_EQ(values[30], 0);
  // The hole is part of the mask.
  mean = (25 * 8 + 4) / 27.0;
  deviation =
      std::sqrt((25 * (8 - mean) * (8 - mean) + (4 - mean) * (4 - mean) + mean * mean) / 27);
  values = first("mask");
  EXPECT_NEAR(values[1], (8 - mean) / deviation, 1e-3);
  EXPECT_NEAR(values[13], -mean / deviation, 5e-3);
  EXPECT_EQ(values[30], 0);
  // All 36 voxels.
  mean = (25 * 8 + 4) / 36.0;
  deviation =
      std::sqrt((25 * (8 - mean) * (8 - mean) + (4 - mean) * (4 - mean) + 10 * mean * mean) / 36);
  values = first("crop");
  EXPECT_NEAR(values[1], (8 - mean) / deviation, 1e-3);
  EXPECT_NEAR(values[13], -mean / deviation, 2e-3);
  EXPECT_NEAR(values[30], -mean / deviation, 2e-3);
}

// What was cropped away comes back as the value that it would have had.
TEST(Normalise, KnowsWhatLiesOutsideOfTheCrop) {
  const auto values = shell();
  auto raw = raw_case({4, 3, 3}, values);
  PreprocessConfig config;
  for (const std::string normalise : {"nonzero", "mask", "crop", "window", "statistics"}) {
    config.normalise = normalise;
    config.clip = {1, 7};
    config.means = {5};
    config.deviations = {2};
    const auto item = prepare_case(raw, config);
    const auto result = channel(item, 0);
    ASSERT_EQ(item.outside.size(), 1U);
    if (normalise == "nonzero" || normalise == "mask") {
      EXPECT_EQ(item.outside[0], 0);
    } else {
      EXPECT_NEAR(item.outside[0], result[13], 2e-3) << normalise;  // the hole is 0, too
    }
  }
  config.crop_to_nonzero = false;
  EXPECT_EQ(prepare_case(raw, config).outside[0], 0);
}

TEST(Normalise, WindowStatisticsAndPercentiles) {
  std::vector<float> values(101);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 50;
  const auto raw = raw_case({1, 1, 101}, values);
  PreprocessConfig config;
  config.crop_to_nonzero = false;
  config.normalise = "window";
  config.clip = {-20, 30};
  auto result = channel(prepare_case(raw, config), 0);
  EXPECT_EQ(result[0], 0);
  EXPECT_EQ(result[100], 1);
  EXPECT_NEAR(result[55], 0.5, 1e-3);
  config = {};
  config.crop_to_nonzero = false;
  config.normalise = "statistics";
  config.means = {10};
  config.deviations = {4};
  config.clip_percentiles = {10, 85};
  result = channel(prepare_case(raw, config), 0);
  EXPECT_EQ(result[0], (-40 - 10) / 4.0f);
  EXPECT_EQ(result[100], (35 - 10) / 4.0f);
  EXPECT_EQ(result[62], 0.5f);
}

TEST(Prepare, TakesNoSpacingThatNoMemoryHolds) {
  auto raw = raw_case({4, 4, 4}, std::vector<float>(64, 1));
  raw.geometry.spacing = {390, 390, 390};
  PreprocessConfig config;
  config.spacing = {1, 1, 1};
  const auto refusal = [&] { return error_of([&] { prepare_case(raw, config); }); };
  const std::string made = concat("case ", raw.name,
                                  ": preprocess.spacing [1, 1, 1] makes 4x4x4 voxels of "
                                  "390x390x390 mm into 1560x1560x1560, which is too many");
  raw.channels.resize(10000, raw.channels.front());  // 76 TB
  EXPECT_EQ(refusal(), made + " for this machine's memory");
  config.spacing = {0.5, 1, 1};
  EXPECT_THAT(refusal(), HasSubstr("into 3120x1560x1560, which is too many"));
}

TEST(Prepare, ResamplesToTheSpacingAndKeepsTheFaces) {
  const Index3 size = {6, 8, 10};
  Random random(3);
  std::vector<float> values(480);
  for (float& value : values) value = static_cast<float>(random.uniform(1, 2));
  auto raw = raw_case(size, values);
  raw.geometry.spacing = {0.5, 1, 3};  // x, y, z
  raw.labels.assign(480, 0);
  for (std::size_t i = 200; i < 300; ++i) raw.labels[i] = 1;
  PreprocessConfig config;
  config.normalise = "statistics";
  config.means = {0};
  config.deviations = {1};
  config.spacing = {1.5, 1, 0.75};  // D, H, W
  const auto item = prepare_case(raw, config);
  EXPECT_EQ(item.size, (Index3{12, 8, 7}));
  EXPECT_EQ(item.crop_size, size);
  EXPECT_NEAR(item.spacing[0], 1.5, 1e-12);
  EXPECT_NEAR(item.spacing[2], 5.0 / 7, 1e-12);
  constexpr auto kCubic = Interpolation::kCubic;
  auto expected = resample(values, size, item.size, {kCubic, kCubic, kCubic});
  auto result = channel(item, 0);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(result[i], expected[i], 1e-3);
  constexpr auto kLinear = Interpolation::kLinear;
  EXPECT_THAT(item.labels, ::testing::ElementsAreArray(resample_labels(
                               raw.labels, size, item.size, {kLinear, kLinear, kLinear})));
  // Thick slices: 3 mm is six times the finest.
  config.thick_slices = 3;
  expected = resample(values, size, item.size, {Interpolation::kNearest, kCubic, kCubic});
  result = channel(prepare_case(raw, config), 0);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(result[i], expected[i], 1e-3);
}

TEST(PreprocessConfig, ARecipeSetsTheOtherKeysWhichMayOverrideIt) {
  const auto read = [](const std::string& text) {
    PreprocessConfig config;
    ConfigDocument::from_text(text, "test").read(config);
    return config;
  };
  EXPECT_EQ(read("recipe: paper").normalise, "nonzero");
  EXPECT_EQ(read("recipe: upstream-code").normalise, "crop");
  EXPECT_EQ(read("recipe: nnunet").thick_slices, 3);
  const auto mixed = read("recipe: nnunet\nnormalise: crop\nspacing: [1, 1, 1]");
  EXPECT_EQ(mixed.normalise, "crop");
  EXPECT_EQ(mixed.thick_slices, 3);
  // What is written reads back the same.
  EXPECT_EQ(config_to_yaml(read(config_to_yaml(mixed))), config_to_yaml(mixed));
}

TEST(PreprocessConfig, RefusesContradictions) {
  const auto refusal = [](auto change) {
    PreprocessConfig config;
    change(config);
    return error_of([&] { check(config, 4); });
  };
  EXPECT_THAT(refusal([](auto& c) { c.normalise = "window"; }), HasSubstr("preprocess.clip"));
  EXPECT_THAT(refusal([](auto& c) { c.clip = {3, 1}; }), HasSubstr("low below high"));
  EXPECT_THAT(refusal([](auto& c) { c.normalise = "statistics"; }),
              HasSubstr("one number a channel"));
  EXPECT_THAT(refusal([](auto& c) { c.spacing = {1}; }), HasSubstr("three numbers"));
}

}  // namespace
}  // namespace segmamba::data
