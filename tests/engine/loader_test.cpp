#include <gmock/gmock.h>

#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/data/phantom.h"
#include "segmamba/engine/batch_loader.h"
#include "segmamba/engine/run_folder.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

class Loader : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryFolder;
    data::write_phantoms(folder_->path(), {.cases = 3, .size = {32, 32, 32}, .seed = 5});
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static std::vector<data::Case> cases() {
    return data::find_cases(folder_->path(), data::kBratsChannels, /*need_labels=*/true);
  }
  static BatchOptions options() {
    BatchOptions options;
    options.patch_size = {16, 16, 16};
    options.batch_size = 2;
    options.seed = 11;
    return options;
  }
  static test::TemporaryFolder* folder_;
};
test::TemporaryFolder* Loader::folder_ = nullptr;

TEST_F(Loader, BatchesDoNotDependOnWorkersOrMemory) {
  CaseStore in_memory(cases(), 1 << 30, 4);
  CaseStore from_disk(cases(), 0, 4);
  BatchLoader alone(in_memory, options(), 0, 6, 0);
  BatchLoader shared(from_disk, options(), 0, 6, 3);
  BatchLoader later(in_memory, options(), 4, 6, 1);
  for (int i = 0; i < 6; ++i) {
    const auto expected = alone.next(), actual = shared.next();
    EXPECT_EQ(expected.shape, (std::array<std::int64_t, 5>{2, 4, 16, 16, 16}));
    EXPECT_EQ(expected.images, actual.images) << "batch " << i;
    EXPECT_EQ(expected.labels, actual.labels) << "batch " << i;
    if (i >= 4) {
      EXPECT_EQ(expected.images, later.next().images) << "batch " << i;
    }
  }
}

TEST_F(Loader, EveryBatchIsNew) {
  CaseStore store(cases(), 1 << 30, 4);
  std::set<std::vector<float>> seen;
  for (int i = 0; i < 8; ++i) seen.insert(make_batch(store, options(), i).images);
  EXPECT_EQ(seen.size(), 8U);
}

TEST_F(Loader, ErrorsOfWorkersReachTheCaller) {
  auto broken = cases();
  for (auto& item : broken) item.images[1] = folder_->path() / "missing.nii.gz";
  CaseStore store(std::move(broken), 0, 4);
  BatchLoader loader(store, options(), 0, 4, 2);
  EXPECT_THROW(loader.next(), Error);
}

TEST_F(Loader, LabelsBeyondTheModelAreRefused) {
  CaseStore store(cases(), 0, 2);
  EXPECT_THAT([&] { store.get(0); }, ::testing::ThrowsMessage<Error>(::testing::HasSubstr(
                                         "needs model.out_channels of at least")));
}

TEST(RunFolder, RefusesAUsedFolderAndOverwritesOnlyItsOwnFiles) {
  const test::TemporaryFolder folder;
  const auto run = RunFolder::prepare(folder.path() / "run", StartMode::kNew);
  EXPECT_TRUE(std::filesystem::is_directory(run.checkpoints()));
  for (const auto& path : {run.config(), run.last_checkpoint(), run.path / "notes.txt"}) {
    write_file_atomically(path, "x");
  }
  EXPECT_THROW(RunFolder::prepare(run.path, StartMode::kNew), Error);
  RunFolder::prepare(run.path, StartMode::kResume);
  EXPECT_TRUE(std::filesystem::exists(run.last_checkpoint()));
  RunFolder::prepare(run.path, StartMode::kOverwrite);
  EXPECT_FALSE(std::filesystem::exists(run.last_checkpoint()));
  EXPECT_FALSE(std::filesystem::exists(run.config()));
  EXPECT_TRUE(std::filesystem::exists(run.path / "notes.txt"));
}

}  // namespace
}  // namespace segmamba::engine
