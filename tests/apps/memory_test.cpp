// The programs where memory is short: from the least in which they start at all up to what they
// need, a run either does its work or ends with one clear line, and leaves nothing half-written.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "programs.h"
#include "segmamba/data/cache.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/io/volume.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

struct Limited : Outcome {
  std::int64_t peak_bytes = 0;  // held at once
};

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
    int status = 0;
    rusage usage{};
    ::wait4(child, &status, 0, &usage);
    Limited result;
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    result.out = read_file(folder_.path() / "out.txt");
    result.err = read_file(folder_.path() / "err.txt");
    result.peak_bytes = usage.ru_maxrss << 10;
    return result;
  }
  // Up to which a program does not even start: the system's loader ends it. To about a hundredth.
  std::int64_t least_of(const std::string& program) const {
    static std::map<std::string, std::int64_t> known;
    if (known.contains(program)) return known[program];
    const auto starts = [&](std::int64_t bytes) {
      return run_within(bytes, {program, "--version"}).exit_code == 0;
    };
    std::int64_t low = 0, high = std::int64_t{16} << 20;
    while (!starts(high)) low = std::exchange(high, 2 * high);
    while (high - low > high / 100) {
      const auto middle = low + (high - low) / 2;
      (starts(middle) ? high : low) = middle;
    }
    return known[program] = high;
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

  // From the least on, each time with more, until the work is done. SEGMAMBA_MEMORY_STEPS limits
  // for each doubling of what is there beyond the least, where that is set.
  void sweep(const std::vector<std::string>& words, const std::vector<std::string>& outputs) {
    const char* wanted = std::getenv("SEGMAMBA_MEMORY_STEPS");
    const double factor = wanted == nullptr ? 3 : std::exp2(1 / std::atof(wanted));
    const auto least = least_of(words[0]);
    std::int64_t refused = 0;
    for (auto more = static_cast<double>(least) / 64;; more *= factor) {
      ASSERT_LT(more, 1e11) << "it never ends well";
      for (const auto& output : outputs) fs::remove_all(folder_.path() / output);
      const auto outcome = run_within(least + static_cast<std::int64_t>(more), words);
      SCOPED_TRACE(concat(join(words, " "), " with ",
                          format_bytes(static_cast<std::uint64_t>(more)), " above its ",
                          format_bytes(static_cast<std::uint64_t>(least))));
      ASSERT_LT(outcome.exit_code, 128) << outcome.err;
      check_outputs();
      if (outcome.exit_code == 0) break;
      ++refused;
      // `check` lists what it finds as its result.
      EXPECT_THAT(outcome.out + outcome.err, Not(testing::IsEmpty()));
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
                                    "data.patch_size=[32,32,32]",
                                    "--max-memory",
                                    limit};
  };
  const auto free = run_within(0, command("100GB"));
  ASSERT_EQ(free.exit_code, 0) << free.err;
  const auto refused = run_within(0, command("1MB"));
  EXPECT_EQ(refused.exit_code, 3);
  const std::string before = "segmenting takes at least ";
  ASSERT_THAT(refused.err, HasSubstr(before));
  const auto from = refused.err.find(before) + before.size();
  const auto least = to_bytes(refused.err.substr(from, refused.err.find(" of this", from) - from));
  ASSERT_TRUE(least) << refused.err;
  const auto limit = *least * 11 / 10;
  ASSERT_LT(limit, free.peak_bytes) << "the limit changes nothing";
  const auto kept = run_within(0, command(concat(limit)));
  ASSERT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_LT(kept.peak_bytes, limit);
}

#endif

}  // namespace
}  // namespace segmamba
