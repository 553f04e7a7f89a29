#include "segmamba/engine/run_folder.h"

#include <gmock/gmock.h>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

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
