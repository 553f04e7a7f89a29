// Numbers at the edge of what files can hold, and volumes at the edge of what has a shape, through
// the whole path: what is defined for each stands in the table below, and nothing else happens.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "io/nifti_bytes.h"
#include "programs.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/json.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/io/volume.h"
#include "segmamba/metrics/convention.h"
#include "segmamba/metrics/mask.h"
#include "segmamba/metrics/score.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::NiftiBytes;
using test::Outcome;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Size = std::array<std::int16_t, 3>;  // x, y, z

std::int64_t count_of(const Size& size) { return std::int64_t{size[0]} * size[1] * size[2]; }

// A file of voxels `value(i)`, stored as T, with the header's code and bits for that.
template <class T>
NiftiBytes stored(const Size& size, std::int16_t code, const std::function<double(int)>& value) {
  NiftiBytes file(size);
  file.set_type(code, 8 * sizeof(T));
  std::vector<T> voxels;
  for (int i = 0; i < count_of(size); ++i) voxels.push_back(static_cast<T>(value(i)));
  file.set_voxels(voxels);
  return file;
}
NiftiBytes floats(const Size& size, const std::function<double(int)>& value) {
  return stored<float>(size, 16, value);
}
NiftiBytes scaled(NiftiBytes file, float slope, float intercept) {
  file.put(112, slope);
  file.put(116, intercept);
  return file;
}

double ramp(int i) { return i % 97 + 1; }

// A case, and what is defined for it.
struct Oddity {
  std::string name;
  NiftiBytes image, label;                         // the image is both channels, but for `second`
  std::string image_error = {}, label_error = {};  // "": none
  std::optional<NiftiBytes> second = {};
};

const Size kUsual = {20, 18, 16};

NiftiBytes spot(const Size& size) {
  return stored<std::uint8_t>(size, 2, [](int i) { return i % 11 == 0 ? 1 + i % 3 : 0; });
}

Oddity of_size(const std::string& name, const Size& size) {
  return {name, floats(size, ramp), spot(size)};
}
Oddity of_image(const std::string& name, NiftiBytes image, const std::string& error = "") {
  return {name, std::move(image), spot(kUsual), error};
}
Oddity of_label(const std::string& name, NiftiBytes label, const std::string& error = "") {
  return {name, floats(kUsual, ramp), std::move(label), "", error};
}

std::vector<Oddity> oddities() {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN(),
                   kInfinity = std::numeric_limits<double>::infinity();
  const auto either = [](double low, double high) {
    return [low, high](int i) { return i % 2 == 0 ? low : high; };
  };
  const auto one_of = [](double other) {
    return [other](int i) { return i == 7 ? other : ramp(i); };
  };
  const std::string overflow = "voxels are too large for float", not_finite = "NaN or infinite";
  std::vector<Oddity> all = {
      // Sizes: all are segmented, in their own grid.
      of_size("voxel", {1, 1, 1}),
      of_size("pair", {2, 1, 1}),
      of_size("row-x", {24, 1, 1}),
      of_size("row-z", {1, 1, 24}),
      of_size("plane-x", {1, 20, 18}),
      of_size("plane-y", {20, 1, 18}),
      of_size("plane-z", {20, 18, 1}),
      of_size("long", {3, 2, 40}),
      // Values: what a float holds is normalised like any other.
      of_image("uint16", stored<std::uint16_t>(kUsual, 512, either(0, 65535))),
      of_image("int16", stored<std::int16_t>(kUsual, 4, either(-32768, 32767))),
      of_image("uint32", stored<std::uint32_t>(kUsual, 768, either(1, 4294967295.0))),
      of_image("int64", stored<std::int64_t>(kUsual, 1024, either(-9.2e18, 9.2e18))),
      of_image("denormal", floats(kUsual, [](int i) { return 1e-44 * ramp(i); })),
      of_image("tiny", floats(kUsual, [](int i) { return 1e-38 * ramp(i); })),
      of_image("huge", floats(kUsual, either(-3.4e38, 3.4e38))),
      of_image("outlier", floats(kUsual, one_of(3.4e38))),
      of_image("double", stored<double>(kUsual, 64, either(-1e30, 1e30))),
      of_image("constant", floats(kUsual, [](int) { return 7; })),
      // A slope of NaN or 0 means that there is none.
      of_image("slope-nan", scaled(floats(kUsual, ramp), NAN, NAN)),
      of_image("slope-0", scaled(floats(kUsual, ramp), 0, 0)),
      of_image("slope-negative", scaled(floats(kUsual, ramp), -2, 1)),
      // Errors that name the file.
      of_image("nan", floats(kUsual, one_of(kNan)), not_finite),
      of_image("infinite", floats(kUsual, one_of(-kInfinity)), not_finite),
      of_image("beyond-float", stored<double>(kUsual, 64, one_of(1e300)), overflow),
      of_image("slope-overflow", scaled(floats(kUsual, either(1, 1e30)), 1e30F, 0), overflow),
      of_image("slope-infinite", scaled(floats(kUsual, ramp), INFINITY, 0), "scl_slope"),
      of_image("slope-tiny", scaled(floats(kUsual, ramp), 1e-20F, 0), "scl_slope"),
      of_image("intercept-nan", scaled(floats(kUsual, ramp), 1, NAN), "scl_slope"),
      of_image("zero", floats(kUsual, [](int) { return 0; }), "every voxel of every channel is 0"),
      // Labels: none and nothing but are fine, others than the classes are errors.
      of_label("no-tumour", stored<std::uint8_t>(kUsual, 2, either(0, 0))),
      of_label("all-tumour", stored<std::uint8_t>(kUsual, 2, either(1, 1))),
      of_label("float-labels", floats(kUsual, either(0, 3))),
      of_label("label-255", stored<std::uint8_t>(kUsual, 2, one_of(255)), "stands for no class"),
      of_label("label-7", stored<std::uint8_t>(kUsual, 2, either(0, 7)), "label 7 stands for no"),
      of_label("label-256", stored<std::int16_t>(kUsual, 4, either(0, 256)), "not a label map"),
      of_label("label-negative", stored<std::int16_t>(kUsual, 4, either(0, -1)), "not a label map"),
      of_label("label-half", floats(kUsual, either(0, 0.5)), "not a label map"),
      of_label("label-nan", floats(kUsual, either(0, kNan)), not_finite),
  };
  // One channel without any content: it is 0 after normalising, too.
  Oddity dark = of_size("dark-channel", kUsual);
  dark.second = floats(kUsual, [](int) { return 0; });
  all.push_back(dark);
  return all;
}

class Numbers : public test::Programs {
 protected:
  inline static const std::vector<std::string> kValidation = {
      "pair", "row-z", "plane-y", "int16", "float-labels", "beyond-float", "label-half"};
  static bool validates(const std::string& name) {
    return std::find(kValidation.begin(), kValidation.end(), name) != kValidation.end();
  }

  static void SetUpTestSuite() {
    shared_ = new test::TemporaryFolder;
    std::vector<std::string> train;
    for (const auto& item : oddities()) {
      const auto folder = shared_->path() / "cases" / item.name;
      fs::create_directories(folder);
      item.image.write_gzip(folder / (item.name + "-t1n.nii.gz"));
      item.second.value_or(item.image).write_gzip(folder / (item.name + "-t1c.nii.gz"));
      item.label.write_gzip(folder / (item.name + "-seg.nii.gz"));
      if (!validates(item.name)) train.push_back(item.name);
    }
    write_file_atomically(shared_->path() / "split.yaml",
                          concat("train: [", join(train, ", "), "]\nvalidation: [",
                                 join(kValidation, ", "), "]\ntest: []\n"));
    // Augmentation does whatever it can, each time.
    std::string augment;
    for (const auto* section :
         {"rotation", "scaling", "elastic", "mirror", "noise", "blur", "brightness_multiplicative",
          "brightness_additive", "contrast", "low_resolution", "gamma_inverted", "gamma"}) {
      augment += concat("  ", section, ": {probability: 1}\n");
    }
    write_file_atomically(shared_->path() / "odd.yaml",
                          "model: {in_channels: 2, dims: [4, 8], depths: [1, 1], hidden_size: 8}\n"
                          "data:\n  root: cases\n  channels: [t1n, t1c]\n  split: split.yaml\n"
                          "  patch_size: [8, 16, 16]\n  max_bad_cases: 100\n"
                          "sampling: {foreground_fraction: 0.5}\n"
                          "augment:\n" +
                              augment +
                              "loss: {name: dice_cross_entropy}\n"
                              "training: {iterations: 60, threads: 1, workers: 1, ema_decay: 0.9}\n"
                              "validation: {every: 30, patches_every: 20, patches: 4}\n");
    trained_ = run_in(shared_->path(), {"segmamba-train", "--config", "odd.yaml", "--device", "cpu",
                                        "--output", "run"});
    segmented_ = run_in(shared_->path(),
                        {"segmamba-infer", "--checkpoint", "run/checkpoints/last.pt", "--input",
                         "cases", "--output", "labels", "--device", "cpu", "--threads", "1",
                         "--precision", "fp32", "--probabilities", "--uncertainty", "--regions",
                         "--pictures", "--postprocess", "rules.yaml"},
                        "postprocess:\n  remove_below_ml: [WT=0.002]\n  fill_holes: [WT]\n"
                        "  replace_below_ml: [ET=0.1->necrosis]\n");
  }

  static Outcome run_in(const fs::path& folder, std::vector<std::string> words,
                        const std::string& rules = "") {
    if (!rules.empty()) write_file_atomically(folder / "rules.yaml", rules);
    return Programs::run_in(folder, std::move(words));
  }
  static fs::path image(const std::string& name, const std::string& channel = "t1n") {
    return shared_->path() / "cases" / name / concat(name, "-", channel, ".nii.gz");
  }

  // Nats, from none to `most`, that of equal shares of all classes: numbers, and none beyond that
  // but for the rounding of 16-bit floats. The disagreement is a part of the entropy.
  static void expect_uncertainty(const std::string& name, const std::array<std::int64_t, 3>& size,
                                 double most) {
    constexpr double kRounding = 2e-3;
    const auto file = name + ".nii.gz";
    const auto entropy = io::read_image(shared_->path() / "labels/entropy" / file);
    const auto disagreement = io::read_image(shared_->path() / "labels/disagreement" / file);
    ASSERT_EQ(entropy.geometry.size, size);
    ASSERT_EQ(disagreement.geometry.size, size);
    for (std::size_t i = 0; i < entropy.voxels.size(); ++i) {
      const double all = entropy.voxels[i], part = disagreement.voxels[i];
      ASSERT_TRUE(all >= 0 && all <= most + kRounding) << all;
      ASSERT_TRUE(part >= 0 && part <= all + kRounding) << part << " of " << all;
    }
  }
  static void expect_region_masks(const std::string& name, const io::LabelMap& labels) {
    for (const auto& region : metrics::brats_regions()) {
      const auto mask =
          io::read_labels(shared_->path() / "labels/regions" / region.name / (name + ".nii.gz"));
      EXPECT_EQ(io::geometry_difference(mask.geometry, labels.geometry, 0), "");
      ASSERT_EQ(mask.voxels.size(), labels.voxels.size());
      const auto& inside = region.labels;
      for (std::size_t i = 0; i < labels.voxels.size(); ++i) {
        const auto count = std::count(inside.begin(), inside.end(), labels.voxels[i]);
        ASSERT_EQ(mask.voxels[i], count) << region.name;
      }
    }
  }
  static void expect_defined_scores(const fs::path& folder);
  static void expect_defined_means(const fs::path& folder);

  inline static Outcome trained_, segmented_;
};

// What a convention counts where a mask is empty, or a formula lacks its denominator.
double undefined_value(const metrics::EmptyRule& rule, double prediction, double reference) {
  std::optional<double> value;
  if (prediction == 0 && reference == 0) {
    value = rule.both;
  } else if (prediction == 0) {
    value = rule.prediction;
  } else if (reference == 0) {
    value = rule.reference;
  }
  return value.value_or(rule.zero_denominator);
}

// cases.csv: of a case with scores, nan and inf are what the convention says of such masks.
void Numbers::expect_defined_scores(const fs::path& folder) {
  std::map<std::pair<std::string, std::string>, metrics::EmptyRule> rules;
  for (const auto& convention : metrics::conventions()) {
    const auto all = metrics::with_metrics(convention, metrics::general_metrics());
    for (const auto& rule : all.metrics) rules[{convention.name, rule.name}] = rule.empty;
  }
  std::set<std::string> unscored;
  const auto problems = read_csv(folder / "problems.csv");
  for (const auto& row : problems.rows) {
    if (row.fields.at(3) == "no") unscored.insert(row.fields.at(2));
  }
  EXPECT_LT(2 * unscored.size(), oddities().size());  // most cases tell something here
  const auto table = read_csv(folder / "cases.csv");
  ASSERT_EQ(table.header.fields, (std::vector<std::string>{"method", "case", "region", "convention",
                                                           "metric", "value"}));
  std::map<std::tuple<std::string, std::string, std::string>, std::pair<double, double>> volumes;
  for (const auto& row : table.rows) {
    auto& volume = volumes[{row.fields[1], row.fields[2], row.fields[3]}];
    if (row.fields[4] == "pred_volume_mm3") volume.first = std::stod(row.fields[5]);
    if (row.fields[4] == "gt_volume_mm3") volume.second = std::stod(row.fields[5]);
  }
  for (const auto& row : table.rows) {
    const double value = std::stod(row.fields[5]);
    if (unscored.contains(row.fields[1])) {
      EXPECT_TRUE(std::isnan(value)) << join(row.fields, ",");
      continue;
    }
    if (std::isfinite(value)) continue;
    const auto [prediction, reference] = volumes.at({row.fields[1], row.fields[2], row.fields[3]});
    // Of two masks with voxels all have a denominator, but for a reference that fills its grid.
    if (prediction > 0 && reference > 0) {
      EXPECT_EQ(row.fields[4], "specificity") << join(row.fields, ",");
    }
    const double defined =
        undefined_value(rules.at({row.fields[3], row.fields[4]}), prediction, reference);
    EXPECT_TRUE(std::isnan(value) ? std::isnan(defined) : value > 0 && value == defined)
        << join(row.fields, ",");
  }
}

// summary.json and table.md: nan and inf are where there is nothing else to take the mean of.
void Numbers::expect_defined_means(const fs::path& folder) {
  const auto summary = read_json(folder / "summary.json");
  ASSERT_FALSE(summary.at("summary").empty());
  for (const auto& item : summary.at("summary")) {
    const auto count = item.at("n").get<std::int64_t>();
    if (count == 0 || item.at("inf").get<std::int64_t>() > 0) continue;
    ASSERT_TRUE(item.at("max").is_number()) << item;
    // captk counts the largest double there is, of which even a sum is none.
    if (item.at("max").get<double>() > 1e300) continue;
    for (const char* key : {"mean", "std", "median", "q25", "q75", "min"}) {
      EXPECT_TRUE(item.at(key).is_number()) << item;
    }
    for (const auto& end : item.at("mean_ci95")) {
      EXPECT_TRUE(count < 2 || end.is_number()) << item;
    }
  }
  for (const auto& item : summary.at("worst_cases")) {
    EXPECT_TRUE(item.at("value").is_number()) << item;
  }
  // The first table: Dice and HD95. These conventions have a number for every pair of masks.
  const std::set<std::string> numbers = {"segmamba",      "brats2023", "brats2023-men",
                                         "brats2023-met", "brats2024", "captk"};
  const auto page = read_file(folder / "table.md");
  std::size_t found = 0;
  for (const auto& line : split(page.substr(0, page.find("\n## ")), '\n')) {
    const auto cells = split(line, '|');
    if (cells.size() < 4 || !numbers.contains(split(trim(cells[2]), ' ')[0])) continue;
    ++found;
    EXPECT_THAT(line, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
  }
  EXPECT_GE(found, numbers.size());
}

// By the library: what reading and preparing give, or say.
TEST_F(Numbers, AreReadAndPreparedOrRefused) {
  data::DatasetConfig config;
  config.root = (shared_->path() / "cases").string();
  config.channels = {"t1n", "t1c"};
  const auto set = data::open_dataset(config, data::Labels::kRequired);
  std::map<std::string, const data::Case*> cases;
  for (const auto& item : set.cases) cases[item.name] = &item;
  for (const auto& item : oddities()) {
    SCOPED_TRACE(item.name);
    const auto expected = item.image_error + item.label_error;
    for (const auto* recipe : {"paper", "upstream-code", "nnunet"}) {
      for (const double spacing : {0.0, 0.7}) {
        data::PreprocessConfig preprocess;
        ConfigDocument::from_text(concat("recipe: ", recipe), "test").read(preprocess);
        if (spacing > 0) preprocess.spacing = {spacing, spacing, spacing};
        preprocess.clip_percentiles = {0.5, 99.5};
        try {
          const auto prepared =
              data::prepare_case(data::read_case(set, *cases.at(item.name)), preprocess);
          EXPECT_EQ(expected, "");
          for (const auto voxel : prepared.image) {
            ASSERT_LE(std::abs(to_float(voxel)), 65504);  // false for NaN
          }
          for (const float value : prepared.outside) ASSERT_LE(std::abs(value), 65504);
        } catch (const Error& error) {
          EXPECT_NE(expected, "") << error.what();
          EXPECT_THAT(error.what(), AllOf(HasSubstr(expected), HasSubstr(item.name)));
        }
      }
    }
  }
}

TEST_F(Numbers, OfConfigsStayWithinFloats) {
  const auto refusal = [](const std::string& yaml) -> std::string {
    try {
      data::PreprocessConfig config;
      ConfigDocument::from_text(yaml, "test").read(config);
      check(config, 1);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal("{normalise: window, clip: [-1.0e+30, 1.0e+30]}"), "");
  EXPECT_THAT(refusal("clip: [0, 1.0e+38]"), HasSubstr("clip must be a number from"));
  EXPECT_THAT(refusal("{normalise: window, clip: [0, 1.0e-300]}"), HasSubstr("not so close"));
  EXPECT_THAT(refusal("{normalise: statistics, means: [1.0e+300], deviations: [1]}"),
              HasSubstr("means must be a number from"));
  // The largest that may be asked for: what is beyond 16-bit floats is the largest of them.
  data::PreprocessConfig config;
  config.crop_to_nonzero = false;
  config.normalise = "statistics";
  config.means = {-1e30};
  config.deviations = {1e-12};
  config.spacing = {0.5, 0.5, 0.5};
  data::RawCase raw;
  raw.name = "case";
  raw.geometry.size = {4, 3, 2};
  raw.channels = {std::vector<float>(24, 1)};
  raw.channels[0][5] = -3e38F;
  const auto prepared = data::prepare_case(raw, config);
  for (const auto voxel : prepared.image) EXPECT_LE(std::abs(to_float(voxel)), 65504);
  raw.channels[0][5] = NAN;
  EXPECT_THROW(data::prepare_case(raw, config), Error);
}

TEST_F(Numbers, TrainOnWhatIsDefined) {
  ASSERT_EQ(trained_.exit_code, 0) << trained_.err;
  const auto log = read_file(shared_->path() / "run/train.log");
  for (const auto& item : oddities()) {
    const auto error = item.image_error + item.label_error;
    const auto left_out = concat("left out of ", validates(item.name) ? "validation" : "training",
                                 ": case ", item.name, ": ");
    EXPECT_THAT(log,
                testing::Conditional(error.empty(), Not(HasSubstr(left_out)), HasSubstr(left_out)));
  }
  EXPECT_THAT(log, HasSubstr("the scores of this validation are of 5 of 7 cases"));
  // No step was skipped: every loss and every gradient was finite.
  const auto table = parse_csv(read_file(shared_->path() / "run/metrics.csv"), "metrics.csv");
  const auto& columns = table.header.fields;
  const auto place = [&](const std::string& name) {
    return std::find(columns.begin(), columns.end(), name) - columns.begin();
  };
  std::int64_t steps = 0;
  for (const auto& row : table.rows) {
    const auto loss = row.fields.at(place("loss"));
    if (loss.empty()) continue;
    ++steps;
    EXPECT_TRUE(std::isfinite(std::stod(loss))) << loss;
    EXPECT_EQ(row.fields.at(place("skipped")), "0");
  }
  EXPECT_EQ(steps, 60);
  EXPECT_TRUE(fs::exists(shared_->path() / "run/report.html"));
}

TEST_F(Numbers, AreSegmentedInTheirGrid) {
  ASSERT_EQ(segmented_.exit_code, 3) << segmented_.err;
  std::vector<std::string> expected;
  for (const auto& item : oddities()) {
    SCOPED_TRACE(item.name);
    const auto path = shared_->path() / "labels" / (item.name + ".nii.gz");
    if (!item.image_error.empty()) {
      EXPECT_THAT(segmented_.err, HasSubstr(item.image_error));
      EXPECT_FALSE(fs::exists(path));
      continue;
    }
    expected.push_back(item.name);
    const auto labels = io::read_labels(path);
    const auto input = io::read_geometry(image(item.name));
    EXPECT_EQ(io::geometry_difference(labels.geometry, input, 0), "");
    EXPECT_THAT(labels.voxels, testing::Each(testing::Le(3)));
    const auto maps =
        io::read_images(shared_->path() / "labels/probabilities" / (item.name + ".nii.gz"));
    ASSERT_EQ(maps.size(), 4U);
    for (const auto& map : maps) {
      for (const float value : map.voxels) ASSERT_TRUE(value >= 0 && value <= 1) << value;
    }
    expect_uncertainty(item.name, input.size, std::log(4.0));
    expect_region_masks(item.name, labels);
    const auto png = read_file(shared_->path() / "labels/pictures" / (item.name + ".png"));
    EXPECT_EQ(png.substr(1, 3), "PNG");
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(test::label_maps(shared_->path() / "labels"), expected);
  // The report says of every case what became of it, without a number that is none.
  const auto report = read_json(shared_->path() / "labels/report.json");
  EXPECT_EQ(report["cases"].size(), oddities().size());
  EXPECT_EQ(report["summary"]["done"], expected.size());
}

TEST_F(Numbers, ArePreparedShownAndScored) {
  const auto prepared = run_in(
      shared_->path(), {"segmamba-data", "prepare", "--config", "odd.yaml", "--output", "cache"});
  EXPECT_EQ(prepared.exit_code, 1);
  for (const auto& item : oddities()) {
    const auto error = item.image_error + item.label_error;
    EXPECT_EQ(fs::exists(shared_->path() / "cache" / (item.name + ".case")), error.empty());
    const auto named = HasSubstr(concat("case ", item.name, ": "));
    EXPECT_THAT(prepared.err, testing::Conditional(error.empty(), Not(named), named));
  }
  const auto shown = run_in(shared_->path(), {"segmamba-data", "preview", "--config", "odd.yaml",
                                              "--output", "preview", "--count", "40"});
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  const auto checked = run_in(shared_->path(), {"segmamba-data", "check", "cases", "--channels",
                                                "t1n", "t1c", "--html", "check.html"});
  EXPECT_EQ(checked.exit_code, 1);
  EXPECT_THAT(checked.out, AllOf(HasSubstr("not-finite"), HasSubstr("unknown-label"),
                                 HasSubstr("constant"), HasSubstr("empty")));
  for (const auto* prediction : {"labels", "cases"}) {
    const auto scored =
        run_in(shared_->path(), {"segmamba-eval", "--prediction", prediction, "--reference",
                                 "cases", "--convention", "all", "--metrics", "all", "--output",
                                 concat("scores-", prediction), "--threads", "1"});
    EXPECT_EQ(scored.exit_code, 3) << scored.err;
    EXPECT_THAT(scored.err, HasSubstr("label-255"));
    EXPECT_TRUE(fs::exists(shared_->path() / concat("scores-", prediction) / "report.html"));
    SCOPED_TRACE(prediction);
    expect_defined_scores(shared_->path() / concat("scores-", prediction));
    expect_defined_means(shared_->path() / concat("scores-", prediction));
  }
}

TEST_F(Numbers, OneCaseAndTheSameTwiceTrain) {
  fs::create_directories(folder_.path() / "one");
  fs::copy(shared_->path() / "cases/plane-z", folder_.path() / "one/plane-z");
  const auto train = [&](const std::string& output, const std::vector<std::string>& more) {
    std::vector<std::string> words = {"segmamba-train",
                                      "--config",
                                      (shared_->path() / "odd.yaml").string(),
                                      "--device",
                                      "cpu",
                                      "--output",
                                      output,
                                      "--set",
                                      "data.root=one",
                                      "data.split=\"\"",
                                      "training.iterations=3"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const auto alone = train("alone", {});
  EXPECT_EQ(alone.exit_code, 0) << alone.err;
  // Without a case to validate on, the last weights are the best there are.
  EXPECT_TRUE(fs::exists(folder_.path() / "alone/checkpoints/best.pt"));
  fs::create_directories(folder_.path() / "one/twin");
  for (const auto* channel : {"t1n", "t1c", "seg"}) {
    fs::copy(image("plane-z", channel),
             folder_.path() / "one/twin" / concat("twin-", channel, ".nii.gz"));
  }
  const auto twins = train("twins", {"training.precision=fp16", "training.batch_size=4"});
  EXPECT_EQ(twins.exit_code, 0) << twins.err;
  // Rates that no weights survive: the run ends, and no checkpoint is of such weights.
  const auto wild = train("wild", {"optimizer.learning_rate=1e300", "training.max_skipped_steps=1",
                                   "training.checkpoint_every=1", "training.iterations=30"});
  EXPECT_EQ(wild.exit_code, 1);
  EXPECT_THAT(wild.err,
              testing::AnyOf(HasSubstr("is not finite any more"), HasSubstr("not finite first: ")));
  EXPECT_FALSE(fs::exists(folder_.path() / "wild/checkpoints/best.pt"));
}

// Masks that fill grids without thickness, and none: equal ones are perfect by every convention.
TEST_F(Numbers, EqualMasksArePerfectInEveryGrid) {
  for (const auto& size : std::vector<std::array<std::int64_t, 3>>{
           {1, 1, 1}, {2, 1, 1}, {1, 1, 9}, {1, 5, 4}, {5, 1, 4}, {5, 4, 1}}) {
    const metrics::Grid grid{size, {1, 2, 3}};
    const auto count = static_cast<std::size_t>(size[0] * size[1] * size[2]);
    for (const int label : {0, 3}) {
      const std::vector<std::uint8_t> labels(count, static_cast<std::uint8_t>(label));
      for (const auto& score : metrics::score_case({labels, labels, grid}, metrics::brats_regions(),
                                                   metrics::conventions())) {
        // With nothing in either mask each convention has its own word for it; the tests of the
        // metrics have these. Where there is a mask there is one answer.
        const bool is_share = score.metric == "dice" || starts_with(score.metric, "nsd"),
                   is_distance = score.metric == "hd95" || score.metric == "assd";
        if (label == 0 || (!is_share && !is_distance)) continue;
        // This one takes away parts as small as these.
        if (score.convention == "brats2024") continue;
        EXPECT_NEAR(score.value, is_share ? 1 : 0, 1e-12)
            << join(size, "x") << " " << score.convention << " " << score.region << " "
            << score.metric;
      }
    }
  }
}

}  // namespace
}  // namespace segmamba
