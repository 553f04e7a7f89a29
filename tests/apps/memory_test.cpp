// The programs where memory is short: from the least in which they start at all up to what they
// need, a run either does its work or ends with one clear line, and leaves nothing half-written.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <thread>
#include <utility>

#include "programs.h"
#include "segmamba/data/cache.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/io/volume.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

struct Limited : Outcome {
  std::int64_t own_bytes = 0;      // the most at once, without the files of libraries
  std::int64_t address_bytes = 0;  // the most at once
};

// Takes in what a process has now.
void sample(pid_t process, Limited& result) {
  std::ifstream file(concat("/proc/", process, "/statm"));
  std::int64_t addresses = 0, resident = 0, of_files = 0;  // pages (proc(5))
  if (!(file >> addresses >> resident >> of_files)) return;
  const auto page = ::sysconf(_SC_PAGESIZE);
  result.own_bytes = std::max(result.own_bytes, (resident - of_files) * page);
  result.address_bytes = std::max(result.address_bytes, addresses * page);
}

class ShortMemory : public test::Programs {
 protected:
  static void SetUpTestSuite() {
    Programs::SetUpTestSuite();
    const Outcome trained =
        run_in(shared_->path(),
               {"segmamba-train", "--config", "tiny.yaml", "--device", "cpu", "--output", "run",
                "--set", "data.root=cases", "training.iterations=2", "validation.every=0"});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
  }
  static std::string checkpoint() { return (shared_->path() / "run/checkpoints/last.pt").string(); }

  // In so many bytes of address space; 0: as many as there are.
  Limited run_within(std::int64_t bytes, const std::vector<std::string>& words) const {
    const auto child = start(folder_.path(), words, [bytes] {
      const rlimit limit{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
      if (bytes > 0) ::setrlimit(RLIMIT_AS, &limit);
    });
    Limited result;
    siginfo_t ended{};
    while (::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid == 0) {
      sample(child, result);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    static_cast<Outcome&>(result) = finish(folder_.path(), child);
    return result;
  }
  // Up to which a program does not even start: the system's loader ends it. To about a fiftieth.
  std::int64_t least_of(const std::string& program) const {
    static std::map<std::string, std::int64_t> known;
    auto& least = known[program];
    if (least > 0) return least;
    std::int64_t low = 0;
    least = run_within(0, {program, "--version"}).address_bytes;
    while (least - low > least / 50) {
      const auto middle = low + (least - low) / 2;
      (run_within(middle, {program, "--version"}).exit_code == 0 ? least : low) = middle;
    }
    return least;
  }

  // Files that have their final name are whole.
  void check_outputs() const {
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) {
      const auto name = entry.path().filename().string();
      EXPECT_THAT(name, Not(HasSubstr(".segmamba-tmp-")));
      if (ends_with(name, ".nii.gz") && entry.path().parent_path().filename() == "labels") {
        io::read_labels(entry.path());
      }
      if (ends_with(name, ".pt") && name != "next.pt") engine::load_checkpoint(entry.path());
      if (ends_with(name, ".case")) data::map_prepared(entry.path());
    }
  }

  // From the least on, each time with four times as much beyond it, until the work is done; or with
  // SEGMAMBA_MEMORY_STEPS limits for each doubling, where that is set.
  void sweep(const std::vector<std::string>& words, const std::vector<std::string>& outputs) {
    const char* wanted = std::getenv("SEGMAMBA_MEMORY_STEPS");
    const double factor = wanted == nullptr ? 4 : std::exp2(1 / std::atof(wanted));
    const auto least = least_of(words[0]);
    std::int64_t refused = 0;
    for (auto more = static_cast<double>(least) / 64;; more *= factor) {
      ASSERT_LT(more, 1e11) << "it never ends well";
      for (const auto& output : outputs) fs::remove_all(folder_.path() / output);
      const auto outcome = run_within(least + static_cast<std::int64_t>(more), words);
      SCOPED_TRACE(concat(join(words, " "), " with ",
                          format_bytes(static_cast<std::uint64_t>(more)), " above its ",
                          format_bytes(static_cast<std::uint64_t>(least))));
      check_outputs();
      if (outcome.exit_code == 0) break;
      ++refused;
      ASSERT_THAT(outcome.exit_code, AnyOf(1, 3)) << outcome.err;
      // `check` lists what it finds as its result; OpenMP ends the process itself.
      EXPECT_THAT(outcome.err.empty() ? outcome.out : outcome.err,
                  AnyOf(HasSubstr(words[0] + ": "), StartsWith("libgomp: "), HasSubstr("memory")));
      EXPECT_THAT(outcome.err, Not(HasSubstr("terminate called")));
      EXPECT_THAT(outcome.err, Not(HasSubstr("std::bad_alloc")));
    }
    if (wanted != nullptr) {
      std::printf("%s %s: %lld limits refused\n", words[0].c_str(), words[1].c_str(),
                  static_cast<long long>(refused));
    }
  }
};

TEST_F(ShortMemory, OfTraining) {
  sweep(train_command({"--output", "run", "--set", "training.iterations=3", "training.workers=2",
                       "training.threads=2", "validation.every=3"}),
        {"run"});
}

TEST_F(ShortMemory, OfInference) {
  sweep({"segmamba-infer", "--checkpoint", checkpoint(), "--input", cases(), "--output", "labels",
         "--device", "cpu", "--threads", "2", "--no-tta"},
        {"labels"});
}

TEST_F(ShortMemory, OfImporting) {
  sweep({"segmamba-model", "import", "--from", checkpoint(), "--output", "weights.safetensors"},
        {"weights.safetensors"});
}

TEST_F(ShortMemory, OfData) {
  sweep({"segmamba-data", "phantom", "--output", "phantoms", "--cases", "2", "--size", "32"},
        {"phantoms"});
  sweep({"segmamba-data", "check", cases(), "--html", "check.html", "--threads", "2"},
        {"check.html"});
  sweep({"segmamba-data", "prepare", "--config", (shared_->path() / "tiny.yaml").string(), "--set",
         "data.root=" + cases().string(), "--output", "cache"},
        {"cache"});
  sweep({"segmamba-data", "preview", "--config", (shared_->path() / "tiny.yaml").string(), "--set",
         "data.root=" + cases().string(), "--output", "preview", "--count", "4"},
        {"preview"});
}

TEST_F(ShortMemory, OfScoring) {
  sweep({"segmamba-eval", "--prediction", cases(), "--reference", cases(), "--convention", "all",
         "--output", "scores", "--threads", "2"},
        {"scores"});
}

// What --max-memory says is needed is enough, and is kept.
TEST_F(ShortMemory, InferenceKeepsWithinWhatItIsGiven) {
  ASSERT_EQ(run({"segmamba-data", "phantom", "--output", "large", "--cases", "1", "--size", "80"})
                .exit_code,
            0);
  const auto command = [&](const std::string& limit) {
    return std::vector<std::string>{"segmamba-infer",
                                    "--checkpoint",
                                    checkpoint(),
                                    "--input",
                                    "large",
                                    "--output",
                                    "labels " + limit,
                                    "--device",
                                    "cpu",
                                    "--threads",
                                    "1",
                                    "--no-tta",
                                    "--probabilities",
                                    "--no-report",
                                    "--set",
                                    "inference.sw_batch_size=64",
                                    "data.patch_size=[16,16,16]",
                                    "--max-memory",
                                    limit};
  };
  const auto free = run_within(0, command("100GB"));
  ASSERT_EQ(free.exit_code, 0) << free.err;
  const auto refused = run_within(0, command("1MB"));
  EXPECT_EQ(refused.exit_code, 3);
  const auto bytes_after = [&](const std::string& words, const std::string& next) {
    const auto from = refused.err.find(words) + words.size();
    return to_bytes(refused.err.substr(from, refused.err.find(next, from) - from)).value_or(0);
  };
  const auto least = bytes_after("segmenting takes at least ", " of this machine's memory");
  const auto before = bytes_after("machine's memory (", " of it before it starts");
  ASSERT_GT(before, 0) << refused.err;
  ASSERT_GT(least, before) << refused.err;
  // What is said is rounded.
  const auto limit = least + (least - before) / 20;
  ASSERT_GT(free.own_bytes - refused.own_bytes, limit - before) << "the limit changes nothing";
  const auto kept = run_within(0, command(concat(limit)));
  ASSERT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_LT(kept.own_bytes - refused.own_bytes, limit - before);
}

#endif

}  // namespace
}  // namespace segmamba
