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
#include <functional>
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

// A control group with a limit of memory, as a container or a job has; where the system lets us.
class MemoryGroup {
 public:
  MemoryGroup() {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
      const auto parts = split(line, ':');
      if (parts.size() < 3) continue;
      const bool is_second = parts[1].empty();
      if (!is_second && parts[1] != "memory") continue;
      const auto root = is_second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
      folder_ = concat(root, parts[2], "/segmamba-test-", ::getpid());
      limit_file_ = folder_ / (is_second ? "memory.max" : "memory.limit_in_bytes");
      std::error_code error;
      if (fs::create_directory(folder_, error) && fs::exists(limit_file_) && set_limit(1 << 30))
        return;
      fs::remove(folder_, error);
      folder_.clear();
    }
  }
  ~MemoryGroup() {
    if (exists()) ::rmdir(folder_.c_str());
  }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;

  bool exists() const { return !folder_.empty(); }
  bool set_limit(std::int64_t bytes) const {
    std::ofstream file(limit_file_);
    return static_cast<bool>(file << bytes << std::flush);
  }
  // Has this process join it. Throws nothing: it is for a child that is about to begin.
  void join() const { std::ofstream(folder_ / "cgroup.procs") << ::getpid(); }

 private:
  fs::path folder_, limit_file_;
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
    return run_after(words, [bytes] {
      const rlimit limit{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
      if (bytes > 0) ::setrlimit(RLIMIT_AS, &limit);
    });
  }
  Limited run_after(const std::vector<std::string>& words,
                    const std::function<void()>& in_child) const {
    const auto child = start(folder_.path(), words, in_child);
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

class InferenceInLimits : public ShortMemory {
 protected:
  void SetUp() override {
    ShortMemory::SetUp();
    ASSERT_EQ(run({"segmamba-data", "phantom", "--output", "large", "--cases", "1", "--size", "80"})
                  .exit_code,
              0);
    const auto refused = run_within(0, command("refused", "1MB"));
    ASSERT_EQ(refused.exit_code, 3);
    const auto bytes_after = [&](const std::string& words, const std::string& next) {
      const auto from = refused.err.find(words) + words.size();
      return to_bytes(refused.err.substr(from, refused.err.find(next, from) - from)).value_or(0);
    };
    const auto least = bytes_after("segmenting takes at least ", " of this machine's memory");
    before_ = bytes_after("machine's memory (", " of it before it starts");
    ASSERT_GT(before_, 0) << refused.err;
    ASSERT_GT(least, before_) << refused.err;
    limit_ = least + (least - before_) / 20;  // what is said is rounded
    own_before_ = refused.own_bytes;
    const auto free = run_within(0, command("free", "100GB"));
    ASSERT_EQ(free.exit_code, 0) << free.err;
    ASSERT_GT(free.own_bytes - own_before_, limit_ - before_) << "the limit changes nothing";
  }

  static std::vector<std::string> command(const std::string& output, const std::string& limit) {
    std::vector<std::string> words = {"segmamba-infer",
                                      "--checkpoint",
                                      checkpoint(),
                                      "--input",
                                      "large",
                                      "--output",
                                      output,
                                      "--device",
                                      "cpu",
                                      "--threads",
                                      "1",
                                      "--no-tta",
                                      "--probabilities",
                                      "--no-report",
                                      "--set",
                                      "inference.sw_batch_size=64",
                                      "data.patch_size=[16,16,16]"};
    if (!limit.empty()) words.insert(words.end(), {"--max-memory", limit});
    return words;
  }

  // Bytes: what is in the process before it segments, the same without files, and a limit that is
  // just enough.
  std::int64_t before_ = 0, own_before_ = 0, limit_ = 0;
};

// What --max-memory says is needed is enough, and is kept.
TEST_F(InferenceInLimits, IsWithinWhatItIsGiven) {
  const auto kept = run_within(0, command("kept", concat(limit_)));
  ASSERT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_LT(kept.own_bytes - own_before_, limit_ - before_);
}

// The system would end a program that takes more than its container has.
TEST_F(InferenceInLimits, IsWithinWhatItsContainerHas) {
  const MemoryGroup group;
  if (!group.exists()) GTEST_SKIP() << "no control group with a limit can be made here";
  const auto run_in_group = [&](std::int64_t limit) {
    EXPECT_TRUE(group.set_limit(limit));
    return run_after(command("in group", ""), [&] { group.join(); });
  };
  const auto refused = run_in_group(before_ + (limit_ - before_) / 2);
  EXPECT_EQ(refused.exit_code, 3) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("segmenting takes at least "));
  fs::remove_all(folder_.path() / "in group");
  const auto kept = run_in_group(limit_);
  EXPECT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_THAT(kept.err, HasSubstr("this container or job may hold "));
}

#endif

}  // namespace
}  // namespace segmamba
