// Programs that meet in one folder.
#include <gmock/gmock.h>

#include <array>
#include <chrono>
#include <csignal>
#include <thread>

#include "scenarios.h"
#include "segmamba/core/file_lock.h"
#include "whole.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using ::testing::AllOf;
using ::testing::HasSubstr;

class Concurrency : public test::Scenarios {
 protected:
  // Both at once, each in a working folder of its own, since their streams go there.
  std::array<Outcome, 2> run_both(const std::vector<std::string>& first,
                                  const std::vector<std::string>& second) const {
    const std::array folders = {new_folder("first"), new_folder("second")};
    const std::array children = {start(folders[0], first), start(folders[1], second)};
    return {finish(folders[0], children[0]), finish(folders[1], children[1])};
  }
  std::vector<std::string> with_output(std::vector<std::string> words, const fs::path& out) const {
    *(std::find(words.begin(), words.end(), "--output") + 1) = out.string();
    return words;
  }
  static void wait_for(const fs::path& path) {
    for (int i = 0; i < 6000 && !fs::exists(path); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ASSERT_TRUE(fs::exists(path)) << path;
  }
};

TEST_F(Concurrency, TwoPreparationsOfOneCacheShareTheWork) {
  const auto words = preparation().words;
  const auto alone = folder_.path() / "alone", shared_cache = folder_.path() / "cache";
  must(run(with_output(words, alone)));
  for (const Outcome& outcome :
       run_both(with_output(words, shared_cache), with_output(words, shared_cache))) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  EXPECT_EQ(test::difference(test::contents(shared_cache), test::contents(alone)), "");
}

TEST_F(Concurrency, TwoTrainingsOnOneCacheEndAsAlone) {
  auto prepare = preparation().words;
  prepare[5] = "data.root=" + cases().string();
  const auto cache = folder_.path() / "cache";
  must(run(with_output(prepare, cache)));
  const auto words = [&](const std::string& output) {
    return train_command({"--output", (folder_.path() / output).string(), "-q", "--set",
                          "data.cache=" + cache.string()});
  };
  must(run(words("alone")));
  for (const Outcome& outcome : run_both(words("one"), words("other"))) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  const auto expected = test::contents(folder_.path() / "alone");
  for (const char* output : {"one", "other"}) {
    EXPECT_EQ(test::difference(test::contents(folder_.path() / output), expected), "") << output;
  }
}

TEST_F(Concurrency, ARunFolderIsOfOneProcessUntilItEnds) {
  const auto run_folder = folder_.path() / "run";
  const auto words = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--output", run_folder.string(), "-q"});
    return train_command(more);
  };
  const auto work = new_folder("work");
  const pid_t holder = start(work, words({"--set", "training.iterations=100000"}));
  wait_for(run_folder / "checkpoints/last.pt");
  for (const char* mode : {"--resume", "--overwrite"}) {
    const Outcome second = run(words({mode, "--set", "training.iterations=100000"}));
    EXPECT_EQ(second.exit_code, 1);
    EXPECT_EQ(test::line_count(second.err), 1) << second.err;
    EXPECT_THAT(second.err, AllOf(HasSubstr(concat("run is in use by process ", holder, " on ")),
                                  HasSubstr("wait until it has ended, or give another folder")));
  }
  ::kill(holder, SIGKILL);
  EXPECT_EQ(finish(work, holder).exit_code, 1000 + SIGKILL);
  EXPECT_TRUE(fs::exists(run_folder / "checkpoints/last.pt"));
  // What a killed process leaves of its lock holds nobody up.
  EXPECT_TRUE(fs::exists(run_folder / ".segmamba-lock"));
  must(run(words({"--overwrite"})));
  EXPECT_FALSE(fs::exists(run_folder / ".segmamba-lock"));
}

TEST_F(Concurrency, TwoInferencesDoNotShareAFolder) {
  const auto words = inference().words;
  const auto out = folder_.path() / "out";
  {
    const FolderLock lock(out);
    const Outcome refused = run(words);
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_EQ(test::line_count(refused.err), 1) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr(concat("out is in use by process ", ::getpid(), " on ")));
    EXPECT_TRUE(fs::exists(out / ".segmamba-lock"));
    EXPECT_EQ(test::label_maps(out).size(), 0U);
  }
  must(run(words));
}

TEST_F(Concurrency, SharesOfAnInferenceMeetInOneFolder) {
  const auto words = inference().words;
  const auto alone = folder_.path() / "alone", together = folder_.path() / "together";
  must(run(with_output(words, alone)));
  auto first = with_output(words, together), second = first;
  first.insert(first.end(), {"--shard", "1/2"});
  second.insert(second.end(), {"--shard", "2/2"});
  for (const Outcome& outcome : run_both(first, second)) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  EXPECT_EQ(test::label_maps(together), test::label_maps(alone));
  for (const auto& name : test::label_maps(alone)) {
    EXPECT_EQ(read_file(together / (name + ".nii.gz")), read_file(alone / (name + ".nii.gz")));
  }
  const FolderLock of_a_share(together, "1-of-2");
  const Outcome refused = run(first);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("is in use by process "));
}

}  // namespace
}  // namespace segmamba
