// The programs as processes: data, training, inference and scores on tiny phantoms.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <thread>

#include "programs.h"
#include "segmamba/core/files.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/io/volume.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::line_count;
using test::Outcome;
using ::testing::AllOf;
using ::testing::HasSubstr;

class Pipeline : public test::Programs {
 protected:
  std::map<std::string, torch::Tensor> weights(const fs::path& run_folder) {
    return engine::load_checkpoint(folder_.path() / run_folder / "checkpoints/last.pt").model;
  }
};

TEST_F(Pipeline, TrainsSegmentsAndScores) {
  const Outcome trained = run(train_command({"--output", "run folder"}));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  for (const char* name :
       {"config.yaml", "split.yaml", "train.log", "metrics.csv", "events.jsonl", "tensorboard",
        "environment.json", "report.html", "checkpoints/last.pt", "checkpoints/previous.pt",
        "checkpoints/best.pt", "checkpoints/best.safetensors"}) {
    EXPECT_TRUE(fs::exists(folder_.path() / "run folder" / name)) << name;
  }
  // A header, 16 steps and the validations after 6, 12 and 16.
  EXPECT_EQ(line_count(read_file(folder_.path() / "run folder/metrics.csv")), 1 + 16 + 3);

  const std::vector<std::string> infer = {
      "segmamba-infer", "--checkpoint", "run folder/checkpoints/best.pt",
      "--input",        cases(),        "--output",
      "labels",         "--threads",    "1"};
  auto test_part = infer;
  for (const char* word : {"--split", "run folder/split.yaml", "--part", "test", "--pictures"}) {
    test_part.emplace_back(word);
  }
  const Outcome segmented = run(test_part);
  ASSERT_EQ(segmented.exit_code, 0) << segmented.err;
  std::int64_t count = 0;
  for (const auto& entry : fs::directory_iterator(folder_.path() / "labels")) {
    if (entry.path().extension() != ".gz") continue;
    const std::string file = entry.path().filename().string();
    const std::string name = file.substr(0, file.find('.'));
    const auto labels = io::read_labels(entry.path());
    const auto input = io::read_geometry(cases() / name / (name + "-t1n.nii.gz"));
    EXPECT_EQ(io::geometry_difference(labels.geometry, input, 0), "") << name;
    EXPECT_EQ(read_file(folder_.path() / "labels/pictures" / (name + ".png")).substr(1, 3), "PNG");
    ++count;
  }
  EXPECT_EQ(count, 1);

  const Outcome again = run(infer);
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("exists: add --overwrite, or --skip-existing"));
  auto rest = infer;
  rest.emplace_back("--skip-existing");
  ASSERT_EQ(run(rest).exit_code, 0);
  EXPECT_EQ(test::label_maps(folder_.path() / "labels").size(), 5U);

  const Outcome scored = run({"segmamba-eval", "--prediction", "labels", "--reference", cases(),
                              "--convention", "segmamba", "--output", "scores"});
  ASSERT_EQ(scored.exit_code, 0) << scored.err;
  // 5 cases, 3 regions, Dice and HD95 at least.
  EXPECT_GE(line_count(read_file(folder_.path() / "scores/cases.csv")), 1 + 5 * 3 * 2);
}

// Stopped five times at random moments, by both signals.
TEST_F(Pipeline, TerminatedTrainingResumesToTheSameWeights) {
  const std::vector<std::string> options = {"--set", "training.iterations=400",
                                            "--set", "training.ema_decay=0.9",
                                            "--set", "validation.every=50"};
  const auto command = [&](std::vector<std::string> more) {
    more.insert(more.end(), options.begin(), options.end());
    return train_command(more);
  };
  ASSERT_EQ(run(command({"--output", "whole"})).exit_code, 0);

  Random random(static_cast<std::uint64_t>(::getpid()));
  for (int stop = 0; stop < 5; ++stop) {
    const auto table = folder_.path() / "parts/metrics.csv";
    const auto rows_before = fs::exists(table) ? line_count(read_file(table)) : 1;
    const pid_t child = start(folder_.path(), command({"--output", "parts", "--resume"}));
    // Wait for the first step of this start, then for a random moment.
    for (int i = 0; i < 4000; ++i) {
      if (fs::exists(table) && line_count(read_file(table)) > rows_before) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random.integer(300)));
    ::kill(child, stop % 2 == 0 ? SIGTERM : SIGINT);
    const Outcome stopped = finish(folder_.path(), child);
    ASSERT_EQ(stopped.exit_code, stop % 2 == 0 ? 143 : 130) << stopped.err;
  }
  ASSERT_EQ(run(command({"--output", "parts", "--resume"})).exit_code, 0);
  const auto expected = weights("whole"), resumed = weights("parts");
  ASSERT_EQ(resumed.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(torch::equal(resumed.at(name), tensor)) << name;
  }
  // Those of the best validation too, which are averages.
  EXPECT_EQ(read_file(folder_.path() / "parts/checkpoints/best.safetensors"),
            read_file(folder_.path() / "whole/checkpoints/best.safetensors"));
}

// Waits until a run has made its first step.
void wait_for_a_step(const fs::path& run_folder) {
  const auto table = run_folder / "metrics.csv";
  for (int i = 0; i < 4000; ++i) {
    if (fs::exists(table) && line_count(read_file(table)) > 1) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

TEST_F(Pipeline, ARunIsTrainedAgainFromItsFolderAlone) {
  const std::vector<std::string> options = {"--set", "data.split_seed=5", "--set",
                                            "training.ema_decay=0.9"};
  auto first = options;
  first.insert(first.end(), {"--output", "first"});
  ASSERT_EQ(run(train_command(first)).exit_code, 0);
  // The folder may have moved.
  fs::rename(folder_.path() / "first", folder_.path() / "moved");
  const Outcome again =
      run({"segmamba-train", "--config", "moved", "--output", "again", "--device", "cpu"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const auto split_of = [this](const fs::path& name) {
    const auto text = read_file(folder_.path() / name / "split.yaml");
    return text.substr(text.find("train:"));
  };
  EXPECT_EQ(split_of("again"), split_of("moved"));
  const auto expected = weights("moved"), actual = weights("again");
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(torch::equal(actual.at(name), tensor)) << name;
  }
}

TEST_F(Pipeline, AWarningOfTheClusterSavesAndASecondSignalEndsAtOnce) {
  const std::vector<std::string> slow = {
      "--set", "model.dims=[16, 32]",          "--set", "model.depths=[1, 1]",
      "--set", "data.patch_size=[32, 32, 32]", "--set", "training.iterations=1000"};
  auto words = slow;
  words.insert(words.end(), {"--output", "warned"});
  pid_t child = start(folder_.path(), train_command(words));
  wait_for_a_step(folder_.path() / "warned");
  ::kill(child, SIGUSR1);
  const Outcome warned = finish(folder_.path(), child);
  EXPECT_EQ(warned.exit_code, 138) << warned.err;
  EXPECT_THAT(warned.err, HasSubstr("the same command with --resume goes on"));
  const auto iteration =
      engine::load_checkpoint(folder_.path() / "warned/checkpoints/last.pt").training.iteration;
  EXPECT_GT(iteration, 0);

  words = slow;
  words.insert(words.end(), {"--output", "twice", "--set", "data.patch_size=[32, 32, 32]", "--set",
                             "training.batch_size=40"});
  child = start(folder_.path(), train_command(words));
  // The first step takes seconds: the signals come in its midst.
  const auto events = folder_.path() / "twice/events.jsonl";
  for (int i = 0; i < 4000; ++i) {
    if (fs::exists(events) && read_file(events).find("\"start\"") != std::string::npos) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(child, SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ::kill(child, SIGTERM);
  EXPECT_EQ(finish(folder_.path(), child).exit_code, 1000 + SIGTERM);
  EXPECT_FALSE(fs::exists(folder_.path() / "twice/checkpoints/last.pt"));
}

// Two processes share each batch: the same updates up to the rounding of sums, on one folder.
TEST_F(Pipeline, TwoRanksTrainAsOne) {
  const auto losses = [this](const fs::path& name) {
    std::vector<double> values;
    for (const auto& line : split(read_file(folder_.path() / name / "metrics.csv"), '\n')) {
      const auto cells = split(line, ',');
      if (cells.size() > 2 && cells[0] != "iteration" && !cells[2].empty()) {
        values.push_back(std::stod(cells[2]));
      }
    }
    return values;
  };
  ASSERT_EQ(run(train_command({"--output", "one"})).exit_code, 0);
  const auto expected = losses("one");
  ASSERT_EQ(expected.size(), 16U);
  const Outcome shared = run(train_command({"--output", "shared", "--gpus", "2"}));
  ASSERT_EQ(shared.exit_code, 0) << shared.err;
  const auto all = losses("shared");
  ASSERT_EQ(all.size(), 16U);
  EXPECT_NEAR(all[0], expected[0], 1e-6);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_NEAR(all[i], expected[i], 2e-3) << i;

  // A run stops with all of its ranks, and may go on with another number of them.
  const pid_t child = start(folder_.path(), train_command({"--output", "stopped", "--gpus", "2",
                                                           "--set", "training.iterations=2000"}));
  wait_for_a_step(folder_.path() / "stopped");
  ::kill(child, SIGTERM);
  const Outcome stopped = finish(folder_.path(), child);
  EXPECT_EQ(stopped.exit_code, 143) << stopped.err;
  const auto done =
      engine::load_checkpoint(folder_.path() / "stopped/checkpoints/last.pt").training.iteration;
  EXPECT_GT(done, 0);
  const Outcome alone =
      run(train_command({"--output", "stopped", "--resume", "--set",
                         concat("training.iterations=", done + 1), "--allow-config-change"}));
  EXPECT_EQ(alone.exit_code, 0) << alone.err;
  const Outcome odd =
      run(train_command({"--output", "odd", "--gpus", "2", "--set", "training.batch_size=3"}));
  EXPECT_EQ(odd.exit_code, 1);
  EXPECT_THAT(odd.err, HasSubstr("training.batch_size is 3"));
}

// Files that cannot grow stand for a full disk.
TEST_F(Pipeline, AFullDiskEndsWithOneLineAndTheLastCheckpoint) {
  ASSERT_EQ(run(train_command({"--output", "run", "--set", "training.iterations=6"})).exit_code, 0);
  const auto last = folder_.path() / "run/checkpoints/last.pt";
  const auto before = read_file(last);
  const auto limit = before.size() / 2;
  const pid_t child = start(folder_.path(),
                            train_command({"--output", "run", "--resume", "--allow-config-change",
                                           "--set", "training.iterations=20"}),
                            [limit] {
                              const rlimit largest{limit, limit};
                              ::setrlimit(RLIMIT_FSIZE, &largest);
                              ::signal(SIGXFSZ, SIG_IGN);
                            });
  const Outcome full = finish(folder_.path(), child);
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, HasSubstr("cannot write run/checkpoints/next.pt: File too large\n"));
  EXPECT_EQ(read_file(last), before);
  for (const auto& entry : fs::directory_iterator(folder_.path() / "run/checkpoints")) {
    EXPECT_FALSE(starts_with(entry.path().filename().string(), ".segmamba-tmp")) << entry.path();
  }

  // /dev/full: every write fails as on a full disk.
  fs::remove(folder_.path() / "run/events.jsonl");
  fs::create_symlink("/dev/full", folder_.path() / "run/events.jsonl");
  const Outcome events = run(train_command(
      {"--output", "run", "--resume", "--allow-config-change", "--set", "training.iterations=20"}));
  EXPECT_EQ(events.exit_code, 1);
  EXPECT_THAT(events.err, HasSubstr("events.jsonl: No space left on device"));
  EXPECT_EQ(read_file(last), before);
}

TEST_F(Pipeline, ACacheGivesTheWeightsThatPreparingInMemoryGives) {
  ASSERT_EQ(run(train_command({"--output", "memory"})).exit_code, 0);
  const Outcome prepared =
      run({"segmamba-data", "prepare", "--config", (shared_->path() / "tiny.yaml").string(),
           "--set", "data.root=" + cases().string(), "--output", "cache"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  ASSERT_EQ(run(train_command({"--output", "mapped", "--set", "data.cache=cache", "--set",
                               "training.workers=3"}))
                .exit_code,
            0);
  const auto expected = weights("memory"), actual = weights("mapped");
  for (const auto& [name, value] : expected) {
    EXPECT_TRUE(torch::equal(value, actual.at(name))) << name;
  }
  // Another recipe than the cache's is refused.
  const Outcome other = run(train_command({"--output", "other", "--set", "data.cache=cache",
                                           "--set", "preprocess.recipe=upstream-code"}));
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("made with other settings"));
}

TEST_F(Pipeline, PresetsTrain) {
  for (const std::string preset : {"paper", "upstream-code", "nnunet-brats", "small-gpu"}) {
    const Outcome outcome = run({"segmamba-train",
                                 "--config",
                                 concat(SEGMAMBA_SOURCE_DIR, "/configs/", preset, ".yaml"),
                                 "--device",
                                 "cpu",
                                 "--output",
                                 preset,
                                 "--set",
                                 "data.root=" + cases().string(),
                                 "--set",
                                 "model.dims=[4, 8, 8]",
                                 "--set",
                                 "model.depths=[1, 1, 1]",
                                 "--set",
                                 "model.hidden_size=16",
                                 "--set",
                                 "data.patch_size=[16, 16, 16]",
                                 "--set",
                                 "training.iterations=6",
                                 "--set",
                                 "training.threads=1"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(fs::exists(folder_.path() / preset / "checkpoints/best.pt"));
  }
}

TEST_F(Pipeline, ComparesRuns) {
  ASSERT_EQ(run(train_command({"--output", "first"})).exit_code, 0);
  ASSERT_EQ(run(train_command({"--output", "second", "--set", "training.iterations=3"})).exit_code,
            0);
  const Outcome compared = run({"segmamba-train", "--compare", "first", "second"});
  ASSERT_EQ(compared.exit_code, 0) << compared.err;
  EXPECT_THAT(compared.out, HasSubstr("| 16 of 16 "));
  EXPECT_THAT(compared.out, HasSubstr("| 3 of 3 "));
  EXPECT_THAT(compared.out, ::testing::EndsWith("| config              | first | second |\n"
                                                "|---------------------|-------|--------|\n"
                                                "| training.iterations | 16    | 3      |\n"));
  const Outcome mistaken = run({"segmamba-train", "--compare", "first", "nowhere"});
  EXPECT_EQ(mistaken.exit_code, 1);
  EXPECT_EQ(mistaken.err, "segmamba-train: nowhere is no run folder: it holds no config.yaml\n");
}

// One channel and three classes in nnU-Net's layout, with labels in another order.
TEST_F(Pipeline, OtherLayoutsTrainAndSegment) {
  const auto images = folder_.path() / "Dataset007/imagesTr";
  const auto labels = folder_.path() / "Dataset007/labelsTr";
  fs::create_directories(images);
  fs::create_directories(labels);
  for (const auto& entry : fs::directory_iterator(cases())) {
    const auto name = entry.path().filename().string();
    fs::copy_file(entry.path() / (name + "-t2f.nii.gz"), images / (name + "_0000.nii.gz"));
    auto map = io::read_labels(entry.path() / (name + "-seg.nii.gz"));
    for (auto& label : map.voxels) label = label == 0 ? 0 : label == 2 ? 1 : 2;
    io::write_labels(labels / (name + ".nii.gz"), map);
  }
  write_file_atomically(folder_.path() / "Dataset007/dataset.json",
                        R"({"channel_names": {"0": "FLAIR"}, "numTraining": 5, "file_ending":
".nii.gz", "labels": {"background": 0, "peritumoral edema": 1, "core": 2}})");
  const std::vector<std::string> more = {"--output", "run",
                                         "--set",    "data.root=Dataset007",
                                         "--set",    "data.channels=[t2f]",
                                         "--set",    "data.classes=[background, core, oedema]",
                                         "--set",    "model.in_channels=1",
                                         "--set",    "model.out_channels=3"};
  const Outcome trained = run(train_command(more));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const Outcome segmented = run({"segmamba-infer", "--checkpoint", "run/checkpoints/last.pt",
                                 "--input", "Dataset007", "--output", "labels", "--no-tta"});
  ASSERT_EQ(segmented.exit_code, 0) << segmented.err;
  EXPECT_EQ(test::label_maps(folder_.path() / "labels").size(), 5U);
  const Outcome mistaken = run(train_command({"--output", "x", "--set", "data.root=Dataset007"}));
  EXPECT_EQ(mistaken.exit_code, 1);
  EXPECT_EQ(line_count(mistaken.err), 1) << mistaken.err;
  EXPECT_THAT(mistaken.err, HasSubstr("dataset.json"));
}

TEST_F(Pipeline, MistakesGetOneClearLine) {
  const Outcome unknown_key = run(train_command({"--set", "training.batchsize=4"}));
  EXPECT_EQ(unknown_key.exit_code, 1);
  EXPECT_EQ(unknown_key.err,
            "segmamba-train: --set training.batchsize=4: unknown key training.batchsize; did you "
            "mean batch_size?\n");

  const Outcome no_data = run(train_command({"--set", "data.root=nowhere", "--output", "run"}));
  EXPECT_EQ(no_data.exit_code, 1);
  EXPECT_THAT(no_data.err, AllOf(HasSubstr("nowhere"), HasSubstr("segmamba-train: ")));
  EXPECT_EQ(line_count(no_data.err), 1);

  fs::create_directories(folder_.path() / "used");
  write_file_atomically(folder_.path() / "used/notes.txt", std::string("mine"));
  const Outcome used = run(train_command({"--output", "used"}));
  EXPECT_EQ(used.exit_code, 1);
  EXPECT_EQ(used.err,
            "segmamba-train: used is not empty: add --resume to continue the run in it, "
            "--overwrite to start anew, or take another folder\n");

  write_file_atomically(folder_.path() / "broken.pt", std::string("PK no archive"));
  const Outcome broken = run(
      {"segmamba-infer", "--checkpoint", "broken.pt", "--input", cases(), "--output", "labels"});
  EXPECT_EQ(broken.exit_code, 1);
  EXPECT_THAT(broken.err, HasSubstr("broken.pt"));
  EXPECT_EQ(line_count(broken.err), 1);
  EXPECT_FALSE(fs::exists(folder_.path() / "labels"));
}

TEST_F(Pipeline, AMistakeRemovesNoEarlierRun) {
  ASSERT_EQ(run(train_command({"--output", "run", "--set", "training.iterations=2"})).exit_code, 0);
  for (const char* mistake :
       {"data.root=nowhere", "data.split=nowhere.yaml", "data.cache=nowhere",
        "data.patch_size=[33,33,33]", "model.init_from=nowhere.pt", "model.freeze=[nothing]",
        "training.recompute=[nothing]", "training.graph=true", "training.precision=tf32",
        "validation.best_metric=dice_foo"}) {
    const Outcome outcome =
        run(train_command({"--output", "run", "--overwrite", "--set", mistake}));
    EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
    EXPECT_TRUE(fs::exists(folder_.path() / "run/checkpoints/last.pt")) << mistake;
    EXPECT_EQ(run(train_command({"--output", "new", "--set", mistake})).exit_code, 1);
    EXPECT_FALSE(fs::exists(folder_.path() / "new")) << mistake;
  }
}

TEST_F(Pipeline, WhatOverwritingWouldRemoveIsNoInput) {
  ASSERT_EQ(run(train_command({"--output", "run", "--set", "training.iterations=2"})).exit_code, 0);
  const auto is_refused = [&](const std::vector<std::string>& words, const std::string& key) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("segmamba-train: " + key + " is "),
                                   HasSubstr("which --overwrite removes with the run in run")));
    EXPECT_EQ(line_count(outcome.err), 1) << outcome.err;
    EXPECT_TRUE(fs::exists(folder_.path() / "run/checkpoints/last.pt"));
  };
  is_refused(
      {"segmamba-train", "--config", "run", "--output", "run", "--overwrite", "--device", "cpu"},
      "data.split");
  is_refused(train_command({"--output", "run", "--overwrite", "--set",
                            "model.init_from=run/checkpoints/last.pt"}),
             "model.init_from");
}

TEST_F(Pipeline, ARunWithoutItsCheckpointsDoesNotBeginAnew) {
  const std::vector<std::string> set = {"--output",
                                        "run",
                                        "--set",
                                        "training.iterations=9",
                                        "training.checkpoint_every=2",
                                        "training.max_skipped_steps=1"};
  ASSERT_EQ(run(train_command(set)).exit_code, 0);
  const auto metrics = read_file(folder_.path() / "run/metrics.csv");
  fs::remove_all(folder_.path() / "run/checkpoints");
  const Outcome lost = run({"segmamba-train", "--resume", "--output", "run", "--device", "cpu"});
  EXPECT_EQ(lost.exit_code, 1);
  EXPECT_THAT(lost.err, HasSubstr("metrics.csv tells of 9 iterations, but there is no checkpoint"));
  EXPECT_EQ(read_file(folder_.path() / "run/metrics.csv"), metrics);
}

TEST_F(Pipeline, UsageErrorsExitWithTwo) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"segmamba-train", "--no-such-option"},
        {"segmamba-train"},
        {"segmamba-infer", "--input", "x"},
        {"segmamba-data"},
        {"segmamba-data", "phantm"},
        {"segmamba-data", "phantom", "--output", "x", "--seed", "-1"},
        {"segmamba-data", "phantom", "--output", "x", "--profile", "brats2099"},
        {"segmamba-data", "phantom", "--output", "x", "--conventions", "int61"},
        {"segmamba-data", "prepare", "--output", "x"},
        train_command({"--resume", "--overwrite"}),
        train_command({"--set", "no-assignment"})}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 2) << join(words, " ") << "\n" << outcome.err;
    EXPECT_EQ(line_count(outcome.err), 1) << outcome.err;
  }
}

TEST_F(Pipeline, PrintedConfigReadsBack) {
  const Outcome printed = run(train_command({"--set", "training.seed=7", "--print-config"}));
  ASSERT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_THAT(printed.out, HasSubstr("  seed: 7\n"));
  write_file_atomically(folder_.path() / "again.yaml", printed.out);
  const Outcome again = run({"segmamba-train", "--config", "again.yaml", "--print-config"});
  EXPECT_EQ(again.out, printed.out);
  EXPECT_THAT(run({"segmamba-train", "--help-config"}).out, HasSubstr("learning_rate: 0.01\n"));
}

TEST_F(Pipeline, DryRunTellsOfTheRunAndWritesNothing) {
  const Outcome outcome = run(train_command({"--output", "run", "--dry-run"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("training.iterations "), HasSubstr("  together "),
                                 HasSubstr("  the whole run ")));
  EXPECT_FALSE(fs::exists(folder_.path() / "run"));
}

}  // namespace
}  // namespace segmamba
