#include "segmamba/data/batch_loader.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/data/phantom.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

struct Copy {
  std::vector<float> images;
  std::vector<std::uint8_t> labels;
  bool operator==(const Copy&) const = default;
};
Copy copy(const Batch& batch) {
  return {{batch.images.begin(), batch.images.end()}, {batch.labels.begin(), batch.labels.end()}};
}

class LoaderTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryFolder;
    write_phantoms(folder_->path(), {.cases = 3, .size = {32, 32, 32}, .seed = 5});
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  static Dataset dataset() {
    DatasetConfig config;
    config.root = folder_->path().string();
    return open_dataset(config, Labels::kRequired);
  }
  static PatchOptions options() {
    PatchOptions options;
    options.size = {16, 16, 16};
    options.seed = 11;
    options.augment.rotation.probability = 0.5;
    options.augment.noise.probability = 0.5;
    return options;
  }
  static test::TemporaryFolder* folder_;
};
test::TemporaryFolder* LoaderTest::folder_ = nullptr;

TEST_F(LoaderTest, BatchesDoNotDependOnWorkersOrMemory) {
  CaseStore in_memory(dataset(), {}, std::uint64_t{1} << 30),
      from_disk(dataset(), {}, std::uint64_t{0});
  PatchSource kept(in_memory, options()), read_again(from_disk, options());
  BatchLoader alone(kept, {.batch_size = 2}, 0, 12);
  BatchLoader shared(read_again, {.batch_size = 2, .workers = 3}, 0, 12);
  BatchLoader many(kept, {.batch_size = 2, .workers = 9}, 0, 12);
  BatchLoader later(kept, {.batch_size = 2, .workers = 1}, 4, 12);
  std::set<std::vector<float>> seen;
  for (int i = 0; i < 12; ++i) {
    const auto& batch = alone.next();
    EXPECT_EQ(batch.shape, (std::array<std::int64_t, 5>{2, 4, 16, 16, 16}));
    const auto expected = copy(batch);
    EXPECT_EQ(copy(shared.next()), expected) << "batch " << i;
    EXPECT_EQ(copy(many.next()), expected) << "batch " << i;
    if (i >= 4) {
      EXPECT_EQ(copy(later.next()), expected) << "batch " << i;
    }
    seen.insert(expected.images);
  }
  EXPECT_EQ(seen.size(), 12U);
  EXPECT_THROW(alone.next(), Error);
}

TEST_F(LoaderTest, RanksTogetherSeeWhatOneWouldSee) {
  CaseStore store(dataset(), {}, std::uint64_t{1} << 30);
  PatchSource source(store, options());
  BatchLoader whole(source, {.batch_size = 6}, 2, 5);
  std::vector<std::unique_ptr<BatchLoader>> ranks;
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    ranks.push_back(std::make_unique<BatchLoader>(
        source, LoaderOptions{.batch_size = 2, .rank = rank, .ranks = 3, .workers = rank}, 2, 5));
  }
  for (int i = 0; i < 3; ++i) {
    Copy joined;
    for (auto& rank : ranks) {
      const auto part = copy(rank->next());
      joined.images.insert(joined.images.end(), part.images.begin(), part.images.end());
      joined.labels.insert(joined.labels.end(), part.labels.begin(), part.labels.end());
    }
    EXPECT_EQ(joined, copy(whole.next()));
  }
}

TEST_F(LoaderTest, BatchesLieInTheMemoryThatWasGiven) {
  CaseStore store(dataset(), {}, std::uint64_t{1} << 30);
  PatchSource source(store, options());
  std::vector<std::shared_ptr<std::vector<char>>> blocks;
  const auto allocate = [&](std::size_t bytes) -> std::shared_ptr<void> {
    blocks.push_back(std::make_shared<std::vector<char>>(bytes));
    return {blocks.back(), blocks.back()->data()};
  };
  BatchLoader loader(source, {.batch_size = 2, .workers = 4, .allocate = allocate}, 0, 20);
  EXPECT_EQ(blocks.size(), 4U / 2 + 3);  // bounded, whatever the length of the run
  EXPECT_EQ(BatchLoader::batches_held({.batch_size = 2, .workers = 4}), std::ssize(blocks));
  EXPECT_EQ(BatchLoader::batches_held({.batch_size = 2, .workers = 0}), 1);
  for (int i = 0; i < 20; ++i) {
    const auto* first = reinterpret_cast<const char*>(loader.next().images.data());
    EXPECT_TRUE(std::any_of(blocks.begin(), blocks.end(),
                            [&](const auto& block) { return block->data() == first; }));
  }
}

TEST_F(LoaderTest, TheStoreKeepsNoMoreThanItsBudget) {
  const auto bytes_of = [](const PreparedCase& item) {
    return item.image.size_bytes() + item.labels.size();
  };
  CaseStore none(dataset(), {}, std::uint64_t{0});
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < none.size(); ++i) all += bytes_of(*none.get(i));
  for (const std::uint64_t budget : {std::uint64_t{0}, all / 2, all - 1, all}) {
    CaseStore store(dataset(), {}, budget);
    std::vector<std::weak_ptr<const PreparedCase>> given;
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t i = 0; i < store.size(); ++i) given.push_back(store.get(i));
    }
    std::set<const PreparedCase*> kept;
    std::uint64_t held = 0;
    for (const auto& item : given) {
      const auto alive = item.lock();
      if (alive && kept.insert(alive.get()).second) held += bytes_of(*alive);
    }
    EXPECT_LE(held, budget);
    EXPECT_EQ(kept.empty(), budget == 0);
    EXPECT_EQ(kept.size() == store.size(), budget == all);
  }
}

TEST_F(LoaderTest, ABatchStaysUntilTheNextIsAskedFor) {
  CaseStore store(dataset(), {}, std::uint64_t{1} << 30);
  PatchSource source(store, options());
  BatchLoader loader(source, {.batch_size = 1, .workers = 3}, 0, 40);
  for (int i = 0; i < 40; ++i) {
    const auto& batch = loader.next();
    const auto before = copy(batch);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EXPECT_EQ(copy(batch), before);
  }
}

// Six different cases, two of them damaged.
class BadCaseTest : public LoaderTest {
 protected:
  static std::string name_of(int i) { return "BraTS-GLI-9000" + std::to_string(i) + "-000"; }
  void SetUp() override {
    set_log_level(LogLevel::kError);
    write_phantoms(root_.path(), {.cases = 6, .size = {32, 32, 32}, .seed = 8});
    damage(name_of(2), "t1c");
    damage(name_of(4), "seg");
  }
  void damage(const std::string& name, const std::string& channel) {
    const auto path = root_.path() / name / (name + "-" + channel + ".nii.gz");
    std::string content = read_file(path);
    content.resize(content.size() / 2);
    write_file_atomically(path, content);
  }
  Dataset damaged() const {
    DatasetConfig config;
    config.root = root_.path().string();
    return open_dataset(config, Labels::kRequired);
  }
  test::TemporaryFolder root_;
};

TEST_F(BadCaseTest, AreNamedAndReplacedTheSameWayForAnyNumberOfWorkers) {
  auto bad_options = options();
  bad_options.max_bad_cases = 2;
  CaseStore store(damaged(), {}, std::uint64_t{1} << 30);
  PatchSource one(store, bad_options), other(store, bad_options);
  std::vector<std::string> named, named_by_other;
  BatchLoader alone(
      one, {.batch_size = 2, .on_bad_case = [&](const BadCase& bad) { named.push_back(bad.name); }},
      0, 10);
  BatchLoader shared(other,
                     {.batch_size = 2,
                      .workers = 4,
                      .on_bad_case =
                          [&](const BadCase& bad) {
                            EXPECT_THAT(bad.message, HasSubstr(bad.name));
                            named_by_other.push_back(bad.name);
                          }},
                     0, 10);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(copy(alone.next()), copy(shared.next())) << i;
  std::sort(named.begin(), named.end());
  std::sort(named_by_other.begin(), named_by_other.end());
  EXPECT_THAT(named, ::testing::ElementsAre(name_of(2), name_of(4)));
  EXPECT_EQ(named_by_other, named);
}

TEST_F(BadCaseTest, AResumedRunDrawsTheSameReplacements) {
  auto bad_options = options();
  bad_options.max_bad_cases = 2;
  CaseStore store(damaged(), {}, std::uint64_t{1} << 30);
  for (std::int64_t first = 0; first < 12; ++first) {
    PatchSource whole(store, bad_options), resumed(store, bad_options);
    for (std::int64_t sample = 0; sample < first; ++sample) whole.draw(sample);
    for (std::int64_t sample = first; sample < 24; ++sample) {
      EXPECT_EQ(whole.draw(sample).item->name, resumed.draw(sample).item->name) << sample;
    }
  }
}

TEST_F(BadCaseTest, EndTheRunAboveTheLimit) {
  auto bad_options = options();
  bad_options.max_bad_cases = 1;
  CaseStore store(damaged(), {}, std::uint64_t{1} << 30);
  PatchSource source(store, bad_options);
  BatchLoader loader(source, {.batch_size = 2, .workers = 2}, 0, 10);
  EXPECT_THAT(
      [&] {
        for (int i = 0; i < 10; ++i) loader.next();
      },
      ::testing::ThrowsMessage<Error>(
          ::testing::AllOf(HasSubstr("2 of 6 cases cannot be read (data.max_bad_cases is 1)"),
                           HasSubstr(name_of(2)), HasSubstr(name_of(4)))));
}

TEST_F(BadCaseTest, EndTheRunWhereNoCaseIsLeft) {
  for (int i = 0; i < 6; ++i) {
    if (i != 2) damage(name_of(i), "t1c");
  }
  auto bad_options = options();
  bad_options.max_bad_cases = 100;
  CaseStore store(damaged(), {}, std::uint64_t{1} << 30);
  PatchSource source(store, bad_options);
  BatchLoader loader(source, {.batch_size = 2, .workers = 2}, 0, 10);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT([&] { loader.next(); },
                ::testing::ThrowsMessage<Error>(HasSubstr("6 of 6 cases cannot be read")));
  }
  EXPECT_THROW(source.draw(7), Error);
}

}  // namespace
}  // namespace segmamba::data
