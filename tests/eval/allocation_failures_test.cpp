// Every allocation of the torch-free rooms fails once: the failure reaches the caller as an
// exception, also out of threads, and leaves no half-written file behind. Where a library beneath
// takes memory in a destructor, the process ends with one line. A program of its own, because it
// replaces operator new.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>

#include "scene.h"
#include "segmamba/core/config.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/last_words.h"
#include "segmamba/core/log.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/data/batch_loader.h"
#include "segmamba/data/cache.h"
#include "segmamba/data/check.h"
#include "segmamba/data/phantom.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/data/split.h"
#include "segmamba/eval/analysis.h"
#include "segmamba/eval/evaluate.h"
#include "segmamba/eval/report.h"
#include "segmamba/io/volume.h"
#include "segmamba/metrics/score.h"
#include "support/temporary_folder.h"

namespace {

enum class Failing { kOnce, kFromThenOn };

// Counts down to the allocation that fails; far below 0 where none shall.
constexpr std::int64_t kNever = INT64_MIN / 2;
std::atomic<std::int64_t> allocations_left{kNever};
std::atomic<bool> fails_from_then_on{false};

bool is_refused() {
  if (allocations_left.load(std::memory_order_relaxed) < kNever / 2) return false;
  const auto left = allocations_left.fetch_sub(1);
  return fails_from_then_on ? left <= 0 : left == 0;
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (is_refused()) throw std::bad_alloc();
  const auto rounded = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  void* memory = alignment <= alignof(std::max_align_t) ? std::malloc(rounded)
                                                        : std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The other forms of the library come down to these.
void* operator new(std::size_t bytes) { return allocate(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
// The C++ library has this one call the first, AddressSanitizer does not. std::stable_sort does
// with what it gets.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return allocate(bytes, 1);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace segmamba {
namespace {

namespace fs = std::filesystem;

class AllocationFailures : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kError);
    set_thread_count(3);
  }
  void TearDown() override { set_log_level(LogLevel::kInfo); }
  static void TearDownTestSuite() {
    if (is_every()) std::printf("%lld allocations failed\n", static_cast<long long>(tries_));
  }

  struct Outcome {
    bool was_reached = false;  // the allocation that was to fail
    bool threw = false;
  };
  // With the allocation after `before` others failing. Nothing of GoogleTest may happen meanwhile.
  template <class Action>
  static Outcome run(Action& action, std::int64_t before, Failing failing) {
    Outcome outcome;
    fails_from_then_on = failing == Failing::kFromThenOn;
    allocations_left = before;
    try {
      action();
    } catch (const std::bad_alloc&) {
      outcome.threw = true;
    } catch (const Error&) {
      outcome.threw = true;
    }
    const auto left = allocations_left.exchange(kNever);
    outcome.was_reached = left < 0;
    return outcome;
  }

  // The next to fail after `before` others: first every one, then always one in so many; all of
  // them where SEGMAMBA_EVERY_ALLOCATION is set.
  static std::int64_t next(std::int64_t before, std::int64_t exact) {
    ++tries_;
    return before + 1 + (is_every() ? 0 : before / exact);
  }
  static bool is_every() { return std::getenv("SEGMAMBA_EVERY_ALLOCATION") != nullptr; }

  // Lets the allocations of `action` fail until it is through. `after` is called after each try.
  // Returns how many tries ended with an exception.
  template <class Action, class After>
  static std::int64_t fail_each(Action action, Failing failing, const After& after) {
    std::int64_t thrown = 0;
    for (std::int64_t before = 0;; before = next(before, 20)) {
      const auto outcome = run(action, before, failing);
      after();
      if (!outcome.was_reached) {
        EXPECT_FALSE(outcome.threw) << "after " << before << " allocations";
        return thrown;
      }
      thrown += outcome.threw ? 1 : 0;
    }
  }
  template <class Action>
  static void expect_failures(Action action) {
    action();  // what is made once and kept
    for (const auto failing : {Failing::kOnce, Failing::kFromThenOn}) {
      EXPECT_GT(fail_each(action, failing, [] {}), 3);
    }
  }

  // The same in processes of their own: nlohmann's JSON takes memory in its destructor (and is
  // broken where a null gets no memory for its first key, so that objects begin as one), libstdc++
  // does where it lists a folder and promises not to throw. What fails there ends the process,
  // which must be by explain_ends(). Returns what `action` gave the sum of, where it came through.
  template <class Action>
  static std::int64_t expect_failures_apart(
      const fs::path& errors, Action action, const std::function<void()>& after = [] {}) {
    std::int64_t sum = 0;
    for (const auto failing : {Failing::kOnce, Failing::kFromThenOn}) {
      for (std::int64_t before = 0;; before = next(before, 5)) {
        const pid_t child = fork();
        if (child == 0) {
          ::dup2(::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
          explain_ends("test");
          std::int64_t result = 0;
          auto counted = [&] { result = action(); };
          const auto outcome = run(counted, before, failing);
          ::_exit(!outcome.was_reached ? kThrough
                                       : std::min<int>(static_cast<int>(result), 9) + 10);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        after();
        EXPECT_TRUE(WIFEXITED(status))
            << "signal " << WTERMSIG(status) << " where allocation " << before
            << (failing == Failing::kOnce ? " fails: " : " and all later ones fail: ")
            << read_file(errors);
        const int code = WIFEXITED(status) ? WEXITSTATUS(status) : kThrough;
        if (code == kThrough) break;
        if (code == 1) {
          EXPECT_THAT(read_file(errors),
                      ::testing::MatchesRegex("test: [^\n]*out of memory[^\n]*\n"));
        } else {
          EXPECT_GE(code, 10);
          sum += code - 10;
        }
      }
    }
    return sum;
  }
  static constexpr int kThrough = 2;

  // No file but those of `names`.
  static void expect_files(const fs::path& folder, const std::vector<std::string>& names) {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_directory()) continue;
      EXPECT_THAT(names, ::testing::Contains(entry.path().filename().string()));
    }
  }

  static void make_cases(const fs::path& folder) {
    data::write_phantoms(folder, {.cases = 2, .size = {32, 32, 32}, .seed = 4});
  }
  static data::Dataset dataset(const fs::path& folder) {
    data::DatasetConfig config;
    config.root = folder.string();
    return data::open_dataset(config, data::Labels::kRequired);
  }

  inline static std::int64_t tries_ = 0;
  test::TemporaryFolder folder_;
};

TEST_F(AllocationFailures, OfVolumes) {
  const auto labels = eval::testing::tumour();
  for (const auto* name : {"labels.nii", "labels.nii.gz"}) {
    const auto path = folder_.path() / name;
    expect_failures([&] { io::write_labels(path, labels); });
    expect_failures([&] { io::read_labels(path); });
    expect_failures([&] { io::read_image(path); });
    EXPECT_EQ(io::read_labels(path).voxels, labels.voxels);
  }
  expect_files(folder_.path(), {"labels.nii", "labels.nii.gz"});
}

// What is there stays, or the new is there whole.
TEST_F(AllocationFailures, LeaveNoHalfOfAFile) {
  const auto old_labels = eval::testing::tumour(), new_labels = eval::testing::tumour(2);
  const auto path = folder_.path() / "labels.nii.gz";
  io::write_labels(path, old_labels);
  for (const auto failing : {Failing::kOnce, Failing::kFromThenOn}) {
    fail_each([&] { io::write_labels(path, new_labels); }, failing,
              [&] {
                const auto voxels = io::read_labels(path).voxels;
                EXPECT_TRUE(voxels == old_labels.voxels || voxels == new_labels.voxels);
                expect_files(folder_.path(), {"labels.nii.gz"});
              });
  }
}

// A stream keeps to itself that there was no memory, unless it is told otherwise.
TEST_F(AllocationFailures, CutNoText) {
  const std::string part(100, 'a');
  const std::vector<std::string> parts(5, part);
  const auto whole = concat(part, 17, part, 0.5, part);
  const auto joined = join(parts, ", ");
  std::int64_t cut = 0;
  for (const auto failing : {Failing::kOnce, Failing::kFromThenOn}) {
    const auto texts = [&] {
      if (concat(part, 17, part, 0.5, part) != whole || join(parts, ", ") != joined) ++cut;
    };
    EXPECT_GT(fail_each(texts, failing, [] {}), 3);
  }
  EXPECT_EQ(cut, 0);
}

TEST_F(AllocationFailures, OfTexts) {
  const std::string yaml = "root: x\nclasses: [background, \"a\", b]\nlabel_map: [1=a, 2=b]\n";
  expect_failures([&] {
    data::DatasetConfig config;
    ConfigDocument::from_text(yaml, "test").read(config);
  });
  expect_failures_apart(folder_.path() / "errors", [] {
    parse_json(R"({"a": [1, 2, {"b": "text"}], "c": null})", "test");
    return 0;
  });
  fs::remove(folder_.path() / "errors");
  expect_failures([] { parse_csv("case,t1c\n\"a, b\",c.nii\n", "test"); });
  const auto path = folder_.path() / "split.yaml";
  const data::Split split{{"case-1", "case-2"}, {"case-3"}, {}};
  expect_failures([&] { data::write_split(path, split, "test"); });
  expect_failures([&] { data::read_split(path); });
  expect_files(folder_.path(), {"split.yaml"});
}

TEST_F(AllocationFailures, OfCases) {
  make_cases(folder_.path() / "cases");
  const auto set = dataset(folder_.path() / "cases");
  expect_failures_apart(folder_.path() / "errors", [&] {
    dataset(folder_.path() / "cases");
    return 0;
  });
  data::PreprocessConfig config;
  config.spacing = {1.5, 1.5, 1.5};
  expect_failures([&] { data::prepare_case(data::read_case(set, set.cases[0]), config); });
}

// Short memory makes no case a failed one, and what is prepared stays.
TEST_F(AllocationFailures, OfTheCache) {
  make_cases(folder_.path() / "cases");
  const auto set = dataset(folder_.path() / "cases");
  const auto cache = folder_.path() / "cache";
  const auto build = [&]() -> std::int64_t {
    return std::ssize(data::build_cache(set, {}, cache).failed);
  };
  const auto path_of = [&](const data::Case& item) { return cache / (item.name + ".case"); };
  const auto errors = folder_.path() / "errors";
  const auto check_and_remove = [&] {
    for (const auto& item : set.cases) {
      if (fs::exists(path_of(item))) data::map_prepared(path_of(item));  // throws where it is none
    }
    fs::remove_all(cache);
  };
  EXPECT_EQ(expect_failures_apart(errors, build, check_and_remove), 0);
  build();
  const auto check_all = [&] {
    for (const auto& item : set.cases) data::map_prepared(path_of(item));
  };
  EXPECT_EQ(expect_failures_apart(errors, build, check_all), 0);
}

TEST_F(AllocationFailures, OfTheLoadersThreads) {
  make_cases(folder_.path());
  const auto set = dataset(folder_.path());
  data::PatchOptions options;
  options.size = {16, 16, 16};
  options.augment.rotation.probability = 0.5;
  options.augment.noise.probability = 0.5;
  options.max_bad_cases = 1;
  std::size_t bad_cases = 0;  // short memory makes no case a bad one
  for (const std::int64_t workers : {0, 2}) {
    expect_failures([&] {
      data::CaseStore store(set, {}, std::uint64_t{1} << 30);
      data::PatchSource source(store, options);
      data::BatchLoader loader(source, {.batch_size = 2, .workers = workers}, 0, 4);
      for (int i = 0; i < 4; ++i) loader.next();
      bad_cases += source.take_bad_cases().size();
    });
  }
  EXPECT_EQ(bad_cases, 0);
}

TEST_F(AllocationFailures, OfScores) {
  const auto prediction = eval::testing::tumour(1), reference = eval::testing::tumour();
  expect_failures([&] {
    metrics::score_case({prediction.voxels,
                         reference.voxels,
                         {reference.geometry.size, reference.geometry.spacing}},
                        metrics::brats_regions(), metrics::conventions());
  });
}

TEST_F(AllocationFailures, OfAnEvaluation) {
  eval::testing::write_data_set(folder_.path());
  eval::EvaluateOptions options;
  options.methods = {{"prediction", folder_.path() / "prediction"}};
  options.reference = folder_.path() / "reference";
  options.conventions = {metrics::find_convention("segmamba"),
                         metrics::find_convention("brats2023")};
  options.pictures = true;
  const auto scores = folder_.path() / "scores";
  // How many cases could not be scored, and are marked.
  const auto evaluate = [&]() -> std::int64_t {
    const auto evaluation = eval::evaluate(options, eval::plan_evaluation(options));
    eval::write_reports(evaluation, eval::analyse(evaluation, {100, 1, 2}), scores, true);
    return std::ssize(evaluation.problems);
  };
  evaluate();
  EXPECT_GT(expect_failures_apart(folder_.path() / "errors", evaluate), 0);
}

TEST_F(AllocationFailures, OfACheck) {
  make_cases(folder_.path() / "cases");
  data::DataConfig config;
  config.root = (folder_.path() / "cases").string();
  const auto check = [&]() -> std::int64_t {
    const auto report = data::check_dataset(config, {.threads = 2});
    report.to_html();
    return std::ssize(report.findings);
  };
  // Which of the sampled allocations are those of a file that is read is a matter of threads.
  std::int64_t told = 0;
  for (int i = 0; i < 20 && told == 0; ++i) {
    told = expect_failures_apart(folder_.path() / "errors", check);
  }
  EXPECT_GT(told, 0);
}

}  // namespace
}  // namespace segmamba
