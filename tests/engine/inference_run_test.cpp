// From the files of cases to the files of their results, with a model whose answer is known: the
// label of a voxel is its value.
#include "segmamba/engine/inference_run.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "inference_report.h"
#include "io/nifti_bytes.h"
#include "models.h"
#include "segmamba/core/files.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/text.h"
#include "segmamba/io/resample.h"
#include "support/error_of.h"
#include "support/orientations.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class InferenceRun : public ::testing::Test {
 protected:
  InferenceRun() {
    config_.data.channels = {"t1n"};
    config_.data.patch_size = {8, 8, 8};
    config_.inference.mirror_axes = {};
    config_.preprocess.normalise = "statistics";
    config_.preprocess.means = {0};
    config_.preprocess.deviations = {1};
    options_.folder = folder_.path() / "out";
    options_.page = false;
  }

  // Voxels of 0 to 3 within a border of 0.
  static io::Image image(std::size_t seed, io::Geometry geometry = {}) {
    if (geometry.size[0] == 0) geometry.size = {13, 11, 9};
    io::Image image{geometry, std::vector<float>(geometry.voxel_count(), 0)};
    std::size_t i = seed;
    for (std::int64_t z = 1; z + 1 < geometry.size[2]; ++z) {
      for (std::int64_t y = 2; y + 1 < geometry.size[1]; ++y) {
        for (std::int64_t x = 1; x + 2 < geometry.size[0]; ++x) {
          image.voxels[(z * geometry.size[1] + y) * geometry.size[0] + x] =
              static_cast<float>(i * i / 3 % 4);
          ++i;
        }
      }
    }
    return image;
  }
  fs::path input(const std::string& name) const {
    return folder_.path() / "cases" / name / (name + "-t1n.nii.gz");
  }
  void write_case(const std::string& name, const io::Image& image) const {
    make_folders(input(name).parent_path());
    io::write_image(input(name), image);
  }
  void write_cases(const std::vector<std::string>& names) const {
    for (std::size_t i = 0; i < names.size(); ++i) write_case(names[i], image(i));
  }

  InferenceSummary run() {
    auto data = config_.data;
    data.root = (folder_.path() / "cases").string();
    const Predictor predictor({model_}, config_,
                              {.device = "cpu", .precision = "fp32", .limits = limits_});
    InferenceProgress progress = progress_;
    progress.on_case = [&](const CaseOutcome& outcome) {
      outcomes_.push_back(outcome);
      if (progress_.on_case) progress_.on_case(outcome);
    };
    outcomes_.clear();
    return run_inference(predictor, data::survey_dataset(data, data::Labels::kOptional), options_,
                         progress);
  }
  fs::path output(const std::string& name, const std::string& kind = "") const {
    return options_.folder / kind / (name + ".nii.gz");
  }
  // The state that report.json gives each case.
  std::map<std::string, std::string> states() const {
    std::map<std::string, std::string> found;
    const Json report = read_json(options_.folder / "report.json");
    for (const auto& entry : report.at("cases")) {
      EXPECT_TRUE(found.emplace(entry.at("case"), entry.at("state")).second) << entry;
    }
    return found;
  }
  // A folder where a file is to go: it cannot be replaced.
  static void block(const fs::path& path) { make_folders(path / "kept"); }

  test::TemporaryFolder folder_;
  TrainConfig config_;
  std::shared_ptr<test::LabelModel> model_ = std::make_shared<test::LabelModel>();
  InferenceRunOptions options_;
  InferenceProgress progress_;
  MemoryLimits limits_;  // with windows that the model of the config could take, too
  std::vector<CaseOutcome> outcomes_;
};

using States = std::map<std::string, std::string>;

void expect_labels_are(const io::Image& image, const io::LabelMap& labels) {
  ASSERT_EQ(labels.voxels.size(), image.voxels.size());
  for (std::size_t i = 0; i < image.voxels.size(); ++i) {
    ASSERT_EQ(labels.voxels[i], std::lround(image.voxels[i])) << i;
  }
}

TEST_F(InferenceRun, LabelsOfAnyOrientationAndSizeLieOnTheirVoxels) {
  std::map<std::string, io::Image> images;
  for (const auto& letters : test::orientations()) {
    const auto grid = test::oblique_grid();
    images[letters] = image(5, io::reoriented(grid, io::axes_towards(grid, letters)));
  }
  for (const std::array<std::int64_t, 3> size :
       {std::array<std::int64_t, 3>{1, 1, 1}, {1, 30, 7}, {25, 1, 1}, {3, 3, 1}, {9, 8, 17}}) {
    io::Image small{{.size = size, .header = nullptr, .dicom = nullptr}, {}};
    for (std::int64_t i = 0; i < small.geometry.voxel_count(); ++i) {
      small.voxels.push_back(static_cast<float>((i + 1) % 4));
    }
    images[concat("size-", join(size, "-"))] = small;
  }
  for (const auto& [name, image] : images) write_case(name, image);
  for (const auto overlap_files : {true, false}) {
    options_.folder = folder_.path() / (overlap_files ? "beside" : "one by one");
    options_.overlap_files = overlap_files;
    const auto summary = run();
    EXPECT_EQ(summary.done, std::ssize(images));
    EXPECT_EQ(summary.failed, 0);
    for (const auto& [name, image] : images) {
      SCOPED_TRACE(name);
      const auto labels = io::read_labels(output(name));
      expect_labels_are(image, labels);
      const auto written = io::read_geometry(input(name));
      EXPECT_EQ(io::geometry_difference(labels.geometry, written, 0), "");
    }
  }
}

// Prepared in another spacing and orientation; blocks of 4 voxels are large enough to come back.
TEST_F(InferenceRun, ResampledCasesComeBackInPlace) {
  config_.preprocess.spacing = {1, 1, 1};
  config_.preprocess.image_interpolation = "nearest";
  config_.preprocess.orientation = "RSA";
  io::Image blocks;
  blocks.geometry.size = {24, 20, 16};
  blocks.geometry.spacing = {0.5, 2, 0.75};
  for (std::int64_t z = 0; z < 16; ++z) {
    for (std::int64_t y = 0; y < 20; ++y) {
      for (std::int64_t x = 0; x < 24; ++x) {
        blocks.voxels.push_back(static_cast<float>((x / 8 + y / 4 + z / 8) % 3 + 1));
      }
    }
  }
  write_case("a", blocks);
  ASSERT_EQ(run().done, 1);
  const auto labels = io::read_labels(output("a"));
  for (std::int64_t z = 0; z < 16; ++z) {
    for (std::int64_t y = 0; y < 20; ++y) {
      for (std::int64_t x = 0; x < 24; ++x) {
        const auto is_inner = [](std::int64_t i, std::int64_t block) {
          return i % block >= block / 4 && i % block < block - block / 4;
        };
        if (!is_inner(x, 8) || !is_inner(y, 4) || !is_inner(z, 8)) continue;
        const auto i = static_cast<std::size_t>((z * 20 + y) * 24 + x);
        ASSERT_EQ(labels.voxels[i], blocks.voxels[i]) << x << " " << y << " " << z;
      }
    }
  }
}

TEST_F(InferenceRun, BadCasesCountOnceAndTheRestGoOn) {
  write_cases({"a", "b", "c", "d", "e", "f"});
  auto bad = image(1);
  bad.voxels[600] = std::nanf("");
  write_case("b", bad);
  write_case("c", {bad.geometry, std::vector<float>(bad.voxels.size(), 0)});
  options_.uncertainty = true;
  block(output("d", "entropy"));
  fs::remove(input("e"));
  write_file_atomically(input("e").parent_path() / "e-t2f.nii.gz", "");
  const auto summary = run();
  EXPECT_EQ(summary.done, 2);
  EXPECT_EQ(summary.failed, 4);
  EXPECT_EQ(states(), (States{{"a", "done"},
                              {"b", "failed"},
                              {"c", "failed"},
                              {"d", "failed"},
                              {"e", "failed"},
                              {"f", "done"}}));
  std::map<std::string, std::string> errors;
  for (const auto& outcome : outcomes_) errors[outcome.name] = outcome.error;
  EXPECT_EQ(outcomes_.size(), 6U);
  EXPECT_THAT(errors["b"], HasSubstr("1 of 1287 voxels are NaN or infinite"));
  EXPECT_EQ(errors["c"], "every voxel of every channel is 0");
  EXPECT_THAT(errors["d"], AllOf(HasSubstr("cannot write "), HasSubstr("entropy/d.nii.gz")));
  EXPECT_THAT(errors["e"], HasSubstr("e-t1n.nii.gz (or .nii) is missing"));
  EXPECT_FALSE(fs::exists(output("d"))) << "written last";
  EXPECT_TRUE(fs::exists(output("f")));
}

// --overwrite would not help.
TEST_F(InferenceRun, AFolderThatHasTheNameOfALabelMapCostsItsCase) {
  write_cases({"a", "b"});
  block(output("a"));
  for (const auto existing : {Existing::kRefuse, Existing::kOverwrite, Existing::kSkip}) {
    options_.existing = existing;
    const auto summary = run();
    EXPECT_EQ(summary.done + summary.kept, 1);
    EXPECT_EQ(summary.failed, 1);
    EXPECT_TRUE(fs::exists(output("a") / "kept"));
    EXPECT_TRUE(fs::is_regular_file(output("b")));
    for (const auto& outcome : outcomes_) {
      if (outcome.state != CaseState::kFailed) continue;
      EXPECT_EQ(outcome.name, "a");
      EXPECT_THAT(outcome.error,
                  AllOf(HasSubstr("a.nii.gz: "), HasSubstr("a folder"), HasSubstr("; remove ")));
    }
  }
}

TEST_F(InferenceRun, MemoryThatRunsOutIsSaidInWords) {
  struct Hungry : test::LabelModel {
    Tensors compute(torch::Tensor, bool) override { throw std::bad_alloc(); }
  };
  model_ = std::make_shared<Hungry>();
  write_cases({"a"});
  EXPECT_EQ(run().failed, 1);
  EXPECT_THAT(outcomes_[0].error, ::testing::StartsWith("this machine is out of memory: ask for"));
}

TEST_F(InferenceRun, AFolderThatCannotBeWrittenToShowsBeforeTheWork) {
  write_cases({"a"});
  block(options_.folder / "volumes.csv");
  for (const auto existing : {Existing::kRefuse, Existing::kOverwrite}) {
    options_.existing = existing;
    EXPECT_THAT(error_of([&] { run(); }),
                HasSubstr("volumes.csv: a folder has that name; remove or rename it"));
  }
  EXPECT_EQ(model_->calls, 0);
  options_.folder = folder_.path() / "file" / "out";
  write_file_atomically(folder_.path() / "file", std::string());
  EXPECT_NE(error_of([&] { run(); }), "");
  EXPECT_EQ(model_->calls, 0);
}

TEST_F(InferenceRun, NothingIsReplacedUnasked) {
  write_cases({"a", "b"});
  ASSERT_EQ(run().done, 2);
  EXPECT_THAT(error_of([&] { run(); }), HasSubstr("a.nii.gz exists: add --overwrite, or "));
  // The reports of other cases, too.
  for (const char* name : {"a", "b"}) fs::rename(output(name), folder_.path() / name);
  const auto report = read_file(options_.folder / "report.json");
  EXPECT_THAT(error_of([&] { run(); }), HasSubstr("report.json exists: add --overwrite"));
  EXPECT_EQ(read_file(options_.folder / "report.json"), report);
  EXPECT_FALSE(fs::exists(output("a")));
  options_.existing = Existing::kOverwrite;
  EXPECT_EQ(run().done, 2);
}

TEST_F(InferenceRun, WhatHasDoneNothingMayBeTriedAgain) {
  write_cases({"a"});
  const auto good = read_file(input("a"));
  write_file_atomically(input("a"), std::string("broken"));
  progress_.cancelled = [] { return true; };
  EXPECT_TRUE(run().interrupted);
  progress_ = {};
  EXPECT_EQ(run().failed, 1);
  write_file_atomically(input("a"), good);
  EXPECT_EQ(run().done, 1);
  // A report of another program is none of that kind.
  fs::remove(output("a"));
  write_file_atomically(options_.folder / "report.json", std::string("{}"));
  EXPECT_THAT(error_of([&] { run(); }), HasSubstr("report.json exists"));
}

TEST_F(InferenceRun, SkippingKeepsCasesAndWhatIsReportedOfThem) {
  write_cases({"a", "b"});
  ASSERT_EQ(run().done, 2);
  const auto volumes = read_file(options_.folder / "volumes.csv");
  fs::remove_all(folder_.path() / "cases");
  fs::remove(output("b"));
  write_cases({"c"});
  options_.existing = Existing::kSkip;
  const auto calls = model_->calls.load();
  auto summary = run();
  EXPECT_EQ(summary.done, 1);
  EXPECT_EQ(summary.kept, 1);  // of b no labels are left
  EXPECT_EQ(states(), (States{{"a", "kept"}, {"c", "done"}}));
  EXPECT_GT(model_->calls, calls);
  // Again, with nothing left to do; and beside a report that is none.
  const auto table = read_file(options_.folder / "volumes.csv");
  EXPECT_THAT(table, AllOf(HasSubstr("a,WT,"), HasSubstr("c,WT,")));
  EXPECT_THAT(volumes, HasSubstr(table.substr(0, table.find("c,"))));
  summary = run();
  EXPECT_EQ(summary.kept, 2);
  EXPECT_EQ(read_file(options_.folder / "volumes.csv"), table);
  write_file_atomically(options_.folder / "report.json", std::string("{\"cases\": [1, {}]}"));
  EXPECT_EQ(run().kept, 1);
  EXPECT_EQ(states(), (States{{"c", "kept"}}));
  EXPECT_EQ(read_file(options_.folder / "volumes.csv"),
            table.substr(0, table.find("a,")) + table.substr(table.find("c,")));
  write_file_atomically(output("c"), std::string("broken"));
  fs::remove(options_.folder / "report.json");
  EXPECT_EQ(run().failed, 1);
}

TEST_F(InferenceRun, SkippingKeepsNothingOfOtherWeights) {
  write_cases({"a", "b"});
  options_.weights = {{"a.pt", "b.pt"}, {"0123456789", "12"}, "average"};
  ASSERT_EQ(run().done, 2);
  fs::remove(output("b"));
  options_.existing = Existing::kSkip;
  const auto path = options_.folder / "report.json";
  const auto report = read_file(path);
  const auto calls = model_->calls.load();
  const auto refusal = [&](const WeightsRecord& weights) {
    options_.weights = weights;
    return error_of([&] { run(); });
  };
  const auto message = [&](const std::string& earlier, const std::string& now) {
    return concat(path.string(), " is of label maps of ", earlier, ", this run would be of ", now,
                  ": take the same weights, another folder for the results, or --overwrite");
  };
  EXPECT_EQ(refusal({{"c.pt"}, {"34"}, "average"}), message("a.pt, b.pt", "c.pt"));
  EXPECT_EQ(refusal({{"a.pt"}, {"0123456789"}, "average"}), message("a.pt, b.pt", "a.pt"));
  EXPECT_EQ(
      refusal({{"a.pt", "b.pt"}, {"9876543210", "12"}, "average"}),
      message("a.pt (hash 01234567), b.pt (hash 12)", "a.pt (hash 98765432), b.pt (hash 12)"));
  EXPECT_EQ(refusal({{"a.pt", "b.pt"}, {"0123456789", "12"}, "both"}),
            message("a.pt, b.pt (average)", "a.pt, b.pt (both)"));
  // Incomplete cases are not replaced by other weights either.
  options_.uncertainty = true;
  EXPECT_EQ(refusal({{"c.pt"}, {"34"}, "average"}), message("a.pt, b.pt", "c.pt"));
  options_.uncertainty = false;
  EXPECT_EQ(model_->calls, calls);
  EXPECT_EQ(read_file(path), report);
  EXPECT_FALSE(fs::exists(output("b")));
  EXPECT_FALSE(fs::exists(options_.folder / "entropy"));
  // The same, moved and in another order.
  options_.weights = {{"moved.pt", "a.pt"}, {"12", "0123456789"}, "average"};
  const auto summary = run();
  EXPECT_EQ(summary.kept, 1);
  EXPECT_EQ(summary.done, 1);
  EXPECT_EQ(read_json(path)["checkpoint_hashes"], (Json{"12", "0123456789"}));
  // Where nothing is kept, and where no report says anything.
  options_.weights = {{"c.pt"}, {"34"}, "average"};
  for (const char* name : {"a", "b"}) fs::remove(output(name));
  EXPECT_EQ(run().done, 2);
  fs::remove(path);
  options_.weights = {{"d.pt"}, {"56"}, "average"};
  EXPECT_EQ(run().kept, 2);
}

TEST_F(InferenceRun, WeightsOfOlderReportsAreComparedByPath) {
  write_cases({"a"});
  options_.weights = {{"runs/a.pt"}};
  ASSERT_EQ(run().done, 1);
  options_.existing = Existing::kSkip;
  options_.weights = {{"b.pt"}, {"12"}, "average"};
  EXPECT_THAT(error_of([&] { run(); }),
              HasSubstr(" of label maps of runs/a.pt, this run would be of b.pt: take "));
  options_.weights.checkpoints = {(fs::current_path() / "runs/../runs/a.pt").string()};
  EXPECT_EQ(run().kept, 1);
  EXPECT_EQ(read_json(options_.folder / "report.json")["checkpoint_hashes"], Json::array({"12"}));
}

TEST_F(InferenceRun, WeightsAreRecordedByTheirContent) {
  const auto path = (folder_.path() / "a.pt").string();
  write_file_atomically(path, std::string("weights"));
  const auto record = weights_record({path, path}, "both");
  const auto hash = hash_bytes("weights", 7).to_string();
  EXPECT_THAT(record.checkpoints, ElementsAre(path, path));
  EXPECT_THAT(record.hashes, ElementsAre(hash, hash));
  EXPECT_EQ(record.choice, "both");
}

TEST_F(InferenceRun, KeptCasesHaveEveryFileThatIsAskedFor) {
  write_cases({"a", "b"});
  options_.probabilities = options_.uncertainty = options_.region_masks = options_.pictures = true;
  ASSERT_EQ(run().done, 2);
  options_.existing = Existing::kSkip;
  EXPECT_EQ(run().kept, 2);
  const auto report = read_file(options_.folder / "report.json");
  for (const char* file : {"probabilities/b.nii.gz", "entropy/b.nii.gz", "disagreement/b.nii.gz",
                           "regions/TC/b.nii.gz", "pictures/b.png"}) {
    const auto content = read_file(options_.folder / file);
    fs::remove(options_.folder / file);
    EXPECT_EQ(error_of([&] { run(); }),
              concat(output("b").string(), " exists without ", (options_.folder / file).string(),
                     ", and is kept by --skip-existing: do without those files, add --overwrite, "
                     "or choose another folder for the results"));
    EXPECT_EQ(read_file(options_.folder / "report.json"), report);
    write_file_atomically(options_.folder / file, content);
  }
  options_.probabilities = options_.uncertainty = options_.region_masks = options_.pictures = false;
  EXPECT_EQ(run().kept, 2);
}

// A report may be of another program or version, or be made to take much memory.
TEST_F(InferenceRun, OfAnEarlierReportIsKeptWhatIsKnown) {
  const auto path = options_.folder / "report.json";
  make_folders(options_.folder);
  const std::string known = R"("seconds": {"computing": 2.5}, "millilitres": {"WT": 1, "ET": "nan"},
      "postprocess": [{"rule": "largest_only: WT", "parts": 2}], "notes": ["it is sheared"])";
  write_file_atomically(
      path, R"({"cases": [{"x": [[[[]]]], "case": "a", "state": "done", "moon": 0.25, )" + known +
                R"(}, {"case": "b", "state": [1], "error": null, "seconds": [0, 1],
      "millilitres": {"WT": [1]}, "postprocess": [[1]], "notes": [["text"]]}]})");
  InferenceReport report(options_);
  EXPECT_THAT(report.earlier_cases(), ElementsAre("a", "b"));
  EXPECT_EQ(report.earlier_seconds("a"), 2.5);
  EXPECT_TRUE(std::isnan(report.earlier_seconds("b")));
  EXPECT_EQ(report.worth_keeping(), path);
  for (const char* name : {"a", "b"}) report.add({.name = name, .state = CaseState::kKept});
  report.write({});
  const auto expected =
      R"([{"case": "a", "state": "kept", )" + known + R"(}, {"case": "b", "state": "kept"}])";
  EXPECT_EQ(read_json(path)["cases"], parse_json(expected, "expected"));
}

// Names that no case can have: too long for a file, or those of files elsewhere.
TEST_F(InferenceRun, OfAnEarlierReportNoOtherFilesAreLookedFor) {
  write_cases({"a"});
  make_folders(options_.folder);
  write_file_atomically(folder_.path() / "elsewhere.nii.gz", std::string("x"));
  write_file_atomically(options_.folder / "report.json",
                        concat(R"({"cases": [{"case": ")", std::string(1000, 'n'),
                               R"("}, {"case": "../elsewhere"}, {"case": ""}]})"));
  options_.existing = Existing::kSkip;
  EXPECT_EQ(run().done, 1);
  EXPECT_EQ(states(), (States{{"a", "done"}}));
}

// A disk that fails must not pass for a report that says nothing.
TEST_F(InferenceRun, AnEarlierReportThatCannotBeReadIsNotForgotten) {
  write_cases({"a"});
  block(options_.folder / "report.json");
  options_.existing = Existing::kSkip;
  const auto path = (options_.folder / "report.json").string();
  EXPECT_EQ(error_of([&] { run(); }), concat("cannot read ", path, ": is a folder"));
  EXPECT_EQ(model_->calls, 0);
}

TEST_F(InferenceRun, OverwritingLeavesNoOldLabelsBesideNewFiles) {
  write_cases({"a"});
  options_.uncertainty = true;
  ASSERT_EQ(run().done, 1);
  options_.existing = Existing::kOverwrite;
  fs::remove(output("a", "disagreement"));
  block(output("a", "disagreement"));
  EXPECT_EQ(run().failed, 1);
  EXPECT_FALSE(fs::exists(output("a")));
}

TEST_F(InferenceRun, InputsAreNeverReplaced) {
  // The layouts of nnU-Net and the Decathlon have images and labels of that name.
  write_cases({"a"});
  make_folders(options_.folder);
  fs::rename(input("a"), output("a"));
  fs::create_symlink(output("a"), input("a"));
  for (const auto existing : {Existing::kRefuse, Existing::kOverwrite}) {
    options_.existing = existing;
    EXPECT_THAT(error_of([&] { run(); }), HasSubstr("is a file of the case itself"));
  }
  expect_labels_are(image(0), io::read_labels(output("a")));
}

TEST_F(InferenceRun, AStoppedRunHasWholeCasesOnly) {
  write_cases({"a", "b", "c"});
  bool stop = false;
  progress_.on_case = [&](const CaseOutcome&) { stop = true; };
  progress_.cancelled = [&] { return stop; };
  options_.overlap_files = false;
  auto summary = run();
  EXPECT_TRUE(summary.interrupted);
  EXPECT_EQ(summary.done, 1);
  EXPECT_EQ(states(), (States{{"a", "done"}}));
  EXPECT_FALSE(fs::exists(output("b")));
  // Within a case: after the first window.
  options_.existing = Existing::kSkip;
  stop = false;
  progress_.on_share = [&](const std::string&, double) { stop = true; };
  summary = run();
  EXPECT_TRUE(summary.interrupted);
  EXPECT_EQ(summary.done, 0);
  EXPECT_EQ(summary.kept, 1);
  EXPECT_FALSE(fs::exists(output("b")));
  progress_ = {};
  summary = run();
  EXPECT_FALSE(summary.interrupted);
  EXPECT_EQ(states(), (States{{"a", "kept"}, {"b", "done"}, {"c", "done"}}));
}

// As in the Medical Segmentation Decathlon.
TEST_F(InferenceRun, AFileOfSeveralVolumesIsReadUnderALimit) {
  config_.data.patch_size = {32, 32, 32};
  const auto root = folder_.path() / "cases";
  make_folders(root);
  io::write_image(root / "a.nii", image(0));
  test::NiftiBytes bytes(root / "a.nii");
  bytes.put<std::int16_t>(40, 4);
  bytes.put<std::int16_t>(48, 2);
  for (const float value : image(1).voxels) bytes.append(value);
  bytes.write(root / "a.nii");
  io::write_labels(root / "labels.nii",
                   {image(0).geometry, std::vector<std::uint8_t>(13 * 11 * 9)});
  write_file_atomically(root / "dataset.json", std::string(R"({
    "modality": {"0": "T2w", "1": "T1w"}, "training": [{"image": "a.nii", "label": "labels.nii"}],
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor",
               "3": "enhancing tumour"}})"));
  limits_.host = std::int64_t{1} << 40;
  ASSERT_EQ(run().done, 1) << outcomes_.at(0).error;
  expect_labels_are(image(1), io::read_labels(output("a")));
  limits_.host = 1;
  options_.folder = folder_.path() / "refused";
  ASSERT_EQ(run().failed, 1);
  EXPECT_THAT(outcomes_.at(0).error, HasSubstr("to read its images takes at least "));
}

TEST_F(InferenceRun, KeptCasesAreShownWithoutImagesBeyondTheLimit) {
  config_.data.patch_size = {32, 32, 32};
  write_cases({"a"});
  ASSERT_EQ(run().done, 1);
  options_.existing = Existing::kSkip;
  options_.page = true;
  limits_.host = 1;
  ASSERT_EQ(run().kept, 1);
  EXPECT_THAT(outcomes_.at(0).notes,
              ElementsAre(HasSubstr("shown without its images: to read its images takes at ")));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Of channels that come into the grid of a small one, one at a time is held as the file has it.
TEST_F(InferenceRun, LargeChannelsInTheGridOfASmallOneFit) {
  config_.data.patch_size = {32, 32, 32};
  config_.data.channels = {"t1n", "t1c", "t2w", "t2f"};
  config_.preprocess.means = {0, 0, 0, 0};
  config_.preprocess.deviations = {1, 1, 1, 1};
  options_.resample_to = "t1n";
  write_cases({"a"});
  constexpr std::int64_t kSize = 256;
  const io::LabelMap large{{.size = {kSize, kSize, kSize}, .header = nullptr, .dicom = nullptr},
                           std::vector<std::uint8_t>(kSize * kSize * kSize)};
  for (const char* channel : {"t1c", "t2w", "t2f"}) {
    io::write_labels(input("a").parent_path() / concat("a-", channel, ".nii.gz"), large);
  }
  constexpr std::int64_t kLarge = kSize * kSize * kSize * sizeof(float);
  limits_.host = resident_bytes() + 5 * kLarge / 2;
  EXPECT_EQ(run().done, 1) << outcomes_.at(0).error;
  options_.folder = folder_.path() / "refused";
  limits_.host = resident_bytes() + kLarge / 2;
  ASSERT_EQ(run().failed, 1);
  EXPECT_THAT(outcomes_.at(0).error, HasSubstr("to read its images takes at least "));
}
#endif

TEST_F(InferenceRun, SharesHaveReportsOfTheirOwn) {
  write_cases({"a"});
  options_.part = "2-of-3";
  options_.page = true;
  const auto report = run().report;
  EXPECT_EQ(report, options_.folder / "report.2-of-3.html");
  for (const char* file : {"report.2-of-3.html", "report.2-of-3.json", "volumes.2-of-3.csv"}) {
    EXPECT_TRUE(fs::exists(options_.folder / file)) << file;
  }
  EXPECT_FALSE(fs::exists(options_.folder / "report.json"));
}

TEST_F(InferenceRun, OfNoCasesIsAReport) {
  make_folders(folder_.path() / "cases");
  const auto summary = run();
  EXPECT_EQ(summary.done + summary.failed + summary.kept, 0);
  EXPECT_THAT(states(), IsEmpty());
}

}  // namespace
}  // namespace segmamba::engine
