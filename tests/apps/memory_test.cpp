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
#include <set>
#include <thread>
#include <utility>

#include "programs.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/core/yaml.h"
#include "segmamba/data/cache.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/run_history.h"
#include "segmamba/io/volume.h"
#include "segmamba/nn/weights.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

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

// Whether a line tells that memory is short, in whosever words.
bool tells_of_short_memory(const std::string& line) {
  const auto words = to_lower(line);
  const auto says = [&](const char* phrase) { return words.find(phrase) != std::string::npos; };
  return says("out of memory") || says("not enough memory") ||  // ours; OpenMP's, libpng's
         says("allocate memory") ||                 // the system "cannot", LibTorch "can't"
         says("insufficient memory") ||             // zlib's, told by libpng
         says("resource temporarily unavailable");  // the system's of a thread, for want of a stack
}

// ---- Files to their end: what reads one throws where it is not whole ----------------------------

void read_end(const fs::path& path, std::string_view end) {
  if (!ends_with(read_file(path), end)) throw Error(path.string() + ": has no end");
}

void read_lines_of_json(const fs::path& path) {
  auto lines = split(read_file(path), '\n');
  lines.pop_back();  // the row that was being written, or nothing
  for (const auto& line : lines) parse_json(line, path.string());
}

void read_table(const fs::path& path) {
  if (path.filename() == "metrics.csv") {
    engine::read_history(path);  // which passes over half a row at the end
  } else {
    read_csv(path);
  }
}

using Read = std::function<void(const fs::path&)>;

// By the end of a file's name. Of others nothing can be half: text for people, TensorBoard's rows.
const std::vector<std::pair<std::string, Read>>& readers() {
  static const std::string png_end("\0\0\0\0IEND\xae\x42\x60\x82", 12);
  static const std::vector<std::pair<std::string, Read>> all = {
      {".pt", [](const fs::path& path) { engine::load_checkpoint(path); }},
      {".safetensors", [](const fs::path& path) { nn::read_safetensors(path); }},
      {".nii.gz", [](const fs::path& path) { io::read_images(path); }},
      {".case", [](const fs::path& path) { data::map_prepared(path); }},
      {".json", [](const fs::path& path) { read_json(path); }},
      {".jsonl", read_lines_of_json},
      {".csv", read_table},
      {".yaml", [](const fs::path& path) { yaml_values(read_file(path), path.string()); }},
      {".html", [](const fs::path& path) { read_end(path, "</html>\n"); }},
      {".png", [](const fs::path& path) { read_end(path, png_end); }}};
  return all;
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
      if (!entry.is_regular_file() || starts_with(name, ".")) continue;
      for (const auto& [suffix, read] : readers()) {
        if (!ends_with(name, suffix)) continue;
        EXPECT_NO_THROW(read(entry.path())) << entry.path();
      }
    }
  }

  // What there is of the outputs; for the files of TensorBoard, whose names are times, the folder.
  std::set<std::string> files_of(const std::vector<std::string>& outputs) const {
    std::set<std::string> names;
    const auto add = [&](const fs::path& path) {
      names.insert(fs::relative(path, folder_.path()).string());
    };
    for (const auto& output : outputs) {
      const auto path = folder_.path() / output;
      if (fs::is_regular_file(path)) add(path);
      if (!fs::is_directory(path)) continue;
      for (const auto& entry : fs::recursive_directory_iterator(path)) {
        if (!entry.is_regular_file()) continue;
        const auto folder = entry.path().parent_path();
        add(folder.filename() == "tensorboard" ? folder : entry.path());
      }
    }
    return names;
  }

  // A program that was told to be quiet ends with one line that tells of short memory, or goes on
  // and has such a line for each case that it loses.
  static void expect_told(const std::string& program, const Outcome& outcome) {
    std::int64_t told = 0, ends = 0;
    for (const auto& line : split(outcome.err, '\n')) {
      const bool tells = tells_of_short_memory(line);
      if (tells) ++told;
      if (line.empty() || starts_with(line, "warning: ")) continue;
      if (starts_with(line, "[W")) continue;  // a warning of LibTorch's
      const bool is_end = starts_with(line, program + ": ");
      if (is_end) ++ends;
      // OpenMP's library ends the process itself.
      EXPECT_TRUE(is_end || starts_with(line, "error: ") || starts_with(line, "libgomp: ")) << line;
      // This one says what comes of it where warnings have told of every case.
      EXPECT_TRUE(tells || ends_with(line, ": no case can be scored")) << line;
    }
    // `check` lists what it finds as its result.
    for (const auto& line : split(outcome.out, '\n')) {
      if (!starts_with(line, "error ")) continue;
      EXPECT_TRUE(tells_of_short_memory(line)) << line;
      ++told;
    }
    EXPECT_GE(told, 1) << outcome.out << outcome.err;
    EXPECT_LE(ends, 1) << outcome.err;
  }

  // From the least on, each time with four times as much beyond it, until the work is done; or with
  // SEGMAMBA_MEMORY_STEPS limits for each doubling, where that is set.
  void sweep(const std::vector<std::string>& words, const std::vector<std::string>& outputs) {
    const char* wanted = std::getenv("SEGMAMBA_MEMORY_STEPS");
    const double factor = wanted == nullptr ? 4 : std::exp2(1 / std::atof(wanted));
    auto quiet = words;
    quiet.emplace_back("-q");
    const auto free = run(quiet);
    ASSERT_EQ(free.exit_code, 0) << free.err;
    check_outputs();
    const auto expected = files_of(outputs);
    ASSERT_FALSE(expected.empty());
    const auto least = least_of(words[0]);
    std::int64_t refused = 0;
    for (auto more = static_cast<double>(least) / 64;; more *= factor) {
      ASSERT_LT(more, 1e11) << "it never ends well";
      for (const auto& output : outputs) fs::remove_all(folder_.path() / output);
      const auto outcome = run_within(least + static_cast<std::int64_t>(more), quiet);
      SCOPED_TRACE(concat(join(quiet, " "), " with ",
                          format_bytes(static_cast<std::uint64_t>(more)), " above its ",
                          format_bytes(static_cast<std::uint64_t>(least))));
      check_outputs();
      EXPECT_THAT(outcome.err, Not(HasSubstr("left out")));  // no case is a bad one for it
      if (outcome.exit_code == 0) {
        auto made = files_of(outputs);
        // The page of a training, which tells what its other files hold, may cost a warning alone.
        if (outcome.err.find("warning: no report: ") != std::string::npos) {
          made.insert("run/report.html");
        }
        EXPECT_EQ(made, expected) << outcome.err;
        break;
      }
      ++refused;
      ASSERT_THAT(outcome.exit_code, AnyOf(1, 3)) << outcome.err;
      expect_told(words[0], outcome);
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

TEST_F(ShortMemory, OfTrainingFromACache) {
  const auto cache = concat("data.cache=", (shared_->path() / "cache").string());
  ASSERT_EQ(run({"segmamba-data", "prepare", "--config", (shared_->path() / "tiny.yaml").string(),
                 "--set", "data.root=" + cases().string(), "--output",
                 (shared_->path() / "cache").string()})
                .exit_code,
            0);
  sweep(train_command({"--output", "run", "--set", "training.iterations=3", "training.workers=2",
                       "training.threads=2", "validation.every=3", cache}),
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
    const auto bytes_after = [](const Outcome& outcome, const std::string& words) {
      const auto from = outcome.err.find(words) + words.size();
      return to_bytes(outcome.err.substr(from, outcome.err.find(" of", from) - from)).value_or(0);
    };
    const auto unread = run_within(0, command("refused", "1MB"));
    ASSERT_EQ(unread.exit_code, 3);
    const auto to_read = bytes_after(unread, "to read its images takes at least ");
    ASSERT_GT(to_read, 0) << unread.err;
    const auto refused = run_within(0, command("refused", concat(to_read + to_read / 100)));
    ASSERT_EQ(refused.exit_code, 3);
    const auto least = bytes_after(refused, "segmenting takes at least ");
    before_ = bytes_after(refused, "machine's memory (");
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
  EXPECT_THAT(refused.err, AnyOf(HasSubstr("segmenting takes at least "),
                                 HasSubstr("to read its images takes at least ")));
  fs::remove_all(folder_.path() / "in group");
  const auto kept = run_in_group(limit_);
  EXPECT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_THAT(kept.err, HasSubstr("this container or job may hold "));
}

// By the headers of its files, before anything is taken.
TEST_F(ShortMemory, ImagesBeyondTheLimitAreNotRead) {
  ASSERT_EQ(run({"segmamba-data", "phantom", "--output", "zeros", "--cases", "1", "--size", "32"})
                .exit_code,
            0);
  constexpr std::int64_t kSize = 320;
  const io::LabelMap zeros{{.size = {kSize, kSize, kSize}},
                           std::vector<std::uint8_t>(kSize * kSize * kSize)};
  const auto file = folder_.path() / "zeros.nii.gz";
  io::write_labels(file, zeros);
  std::vector<fs::path> images;
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path() / "zeros")) {
    const bool is_image = entry.is_regular_file() && ends_with(entry.path().string(), ".nii.gz");
    if (is_image) images.push_back(entry.path());
  }
  ASSERT_GE(images.size(), 4U);
  for (const auto& image : images) fs::copy_file(file, image, fs::copy_options::overwrite_existing);
  constexpr std::int64_t kLimit = 350 << 20;
  const auto refused =
      run_within(0, {"segmamba-infer", "--checkpoint", checkpoint(), "--input", "zeros", "--output",
                     "out", "--device", "cpu", "--threads", "1", "--max-memory", concat(kLimit)});
  EXPECT_EQ(refused.exit_code, 3) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("to read its images takes at least 1."));
  EXPECT_LT(refused.own_bytes, kLimit);
}

using LoaderInLimits = ShortMemory;

// data.memory_gb bounds the cases that a training keeps between patches.
TEST_F(LoaderInLimits, KeepsWhatItsBudgetAllows) {
  ASSERT_EQ(run({"segmamba-data", "phantom", "--output", "many", "--cases", "24", "--size", "64"})
                .exit_code,
            0);
  const auto trained_with = [&](const std::string& gigabytes) {
    auto trained =
        run_within(0, {"segmamba-train", "--config", (shared_->path() / "tiny.yaml").string(),
                       "--device", "cpu", "--output", "run " + gigabytes, "--set", "data.root=many",
                       "data.memory_gb=" + gigabytes, "training.iterations=120",
                       "training.batch_size=1", "validation.every=0"});
    EXPECT_EQ(trained.exit_code, 0) << trained.err;
    return trained;
  };
  // 17 cases of about 1.4 MB once they are cropped; one fits into a thousandth of a GiB at most.
  constexpr std::int64_t kOfManyCases = 15 << 20;
  EXPECT_LT(trained_with("0.001").own_bytes, trained_with("4").own_bytes - kOfManyCases);
}

#endif

}  // namespace
}  // namespace segmamba
