// Programs that meet in one folder.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <regex>
#include <thread>

#include "scenarios.h"
#include "segmamba/core/file_lock.h"
#include "whole.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Call;
using test::Outcome;

// What the second is told: who has the folder, on which machine, and since when.
void expect_refused(const Outcome& outcome, const std::string& folder, pid_t holder) {
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, ::testing::ContainsRegex(concat(
                               "/", folder, " is in use by process ", holder, " on [^ ]+ since ",
                               "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z: wait until "
                               "it has ended, or give another folder\n")));
}

class Concurrency : public test::Scenarios {
 protected:
  // Both at once, each in a working folder of its own, since their streams go there.
  std::array<Outcome, 2> run_both(const std::vector<std::string>& first,
                                  const std::vector<std::string>& second) const {
    const std::array folders = {new_folder("first"), new_folder("second")};
    const std::array children = {start(folders[0], first), start(folders[1], second)};
    return {finish(folders[0], children[0]), finish(folders[1], children[1])};
  }
  // Waits for it.
  static bool appears(const fs::path& path) {
    for (int i = 0; i < 6000 && !fs::exists(path); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return fs::exists(path);
  }
};

struct Preparation {
  std::size_t made = 0, kept = 0;  // cases
};

// What a preparation says that it did; nothing where it says nothing, or that a case failed.
Preparation preparation_in(const std::string& text) {
  static const std::regex line("([0-9]+) cases prepared, ([0-9]+) were ready, 0 failed");
  std::smatch match;
  if (!std::regex_search(text, match, line)) return {};
  return {std::stoul(match[1]), std::stoul(match[2])};
}

TEST_F(Concurrency, TwoPreparationsOfOneCacheShareTheWork) {
  const auto cache = folder_.path() / "cache";
  auto words = with_output(preparation().words, cache);
  std::erase(words, "-q");  // so that they say what they did
  std::size_t made = 0;
  for (const Outcome& outcome : run_both(words, words)) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const auto own = preparation_in(outcome.err);
    EXPECT_EQ(own.made + own.kept, kFew) << outcome.err;
    made += own.made;
  }
  EXPECT_EQ(made, kFew);
  EXPECT_EQ(test::difference(test::contents(cache), undisturbed(preparation()).contents), "");
}

TEST_F(Concurrency, TwoTrainingsOnOneCacheEndAlike) {
  const auto cache = folder_.path() / "cache";
  must(run(with_output(preparation(cases().string()).words, cache)));
  const auto words = [&](const std::string& output) {
    return train_command({"--output", (folder_.path() / output).string(), "-q", "--set",
                          "data.cache=" + cache.string()});
  };
  for (const Outcome& outcome : run_both(words("one"), words("other"))) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  EXPECT_EQ(test::difference(test::contents(folder_.path() / "one"),
                             test::contents(folder_.path() / "other")),
            "");
}

TEST_F(Concurrency, ARunFolderIsOfOneProcessUntilItEnds) {
  const auto run_folder = folder_.path() / "run";
  const auto words = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--output", run_folder.string(), "-q"});
    return train_command(more);
  };
  const auto work = new_folder("work");
  Child holder(work, start(work, words({"--set", "training.iterations=100000"})));
  ASSERT_TRUE(appears(run_folder / "checkpoints/last.pt"));
  for (const char* mode : {"--resume", "--overwrite"}) {
    expect_refused(run(words({mode})), "run", holder.id());
  }
  holder.send(SIGKILL);
  EXPECT_EQ(holder.finish().exit_code, 1000 + SIGKILL);
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
    expect_refused(run(with_output(words, out)), "out", ::getpid());
    EXPECT_TRUE(fs::exists(out / ".segmamba-lock"));
    EXPECT_EQ(test::label_maps(out).size(), 0U);
  }
  must(run(words));
}

// The first is held amid its work, so that the second meets it there on any machine.
TEST_F(Concurrency, OfTwoInferencesInOneFolderTheSecondIsRefused) {
  const auto work = folder_for("first");
  const auto out = work / "out";
  const auto words = with_output(inference().words, out);
  const auto& expected = undisturbed(inference());
  const auto label_map =
      std::find_if(expected.writes.begin(), expected.writes.end(), [](const Call& call) {
        return call.name == "rename" && starts_with(call.known_name(), "BraTS-GLI-");
      });
  ASSERT_NE(label_map, expected.writes.end());
  Child first(work, start_with(work, words,
                               {.writes = out,
                                .action = "stop_after",
                                .at = label_map - expected.writes.begin() + 1}));
  ASSERT_TRUE(first.stops());
  expect_refused(run_in(new_folder("second"), words), "out", first.id());
  first.send(SIGCONT);
  const Outcome outcome = first.finish();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(test::difference(test::contents(out), expected.contents), "");
}

TEST_F(Concurrency, SharesOfAnInferenceMeetInOneFolder) {
  const auto together = folder_.path() / "together";
  auto first = with_output(inference().words, together), second = first;
  first.insert(first.end(), {"--shard", "1/2"});
  second.insert(second.end(), {"--shard", "2/2"});
  for (const Outcome& outcome : run_both(first, second)) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  // Each writes a report of its own.
  const auto label_maps = [](std::map<std::string, std::string> contents) {
    std::erase_if(contents, [](const auto& file) { return !ends_with(file.first, ".nii.gz"); });
    return contents;
  };
  EXPECT_EQ(test::difference(label_maps(test::contents(together)),
                             label_maps(undisturbed(inference()).contents)),
            "");
  const FolderLock of_a_share(together, "1-of-2");
  expect_refused(run(first), "together", ::getpid());
}

}  // namespace
}  // namespace segmamba
