#include "segmamba/core/files.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator{}));
}

TEST(Files, WritesAndReadsBack) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "a file.txt";
  const std::string content("line\n\0binary", 12);
  write_file_atomically(path, content);
  EXPECT_EQ(read_file(path), content);
  write_file_atomically(path, "new");
  EXPECT_EQ(read_file(path), "new");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(Files, FailedWriteKeepsTheOldFileAndLeavesNothing) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "case.nii.gz";
  write_file_atomically(path, "old");
  EXPECT_THROW(write_file_atomically(path,
                                     [](const fs::path& temporary) {
                                       EXPECT_TRUE(ends_with(temporary.string(), ".nii.gz"));
                                       std::ofstream(temporary) << "half";
                                       throw Error("interrupted");
                                     }),
               Error);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(Files, ErrorsNameTheFile) {
  const test::TemporaryFolder folder;
  const auto message = [](const auto& action) -> std::string {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const fs::path missing = folder.path() / "no" / "file";
  EXPECT_EQ(message([&] { read_file(missing); }),
            "cannot read " + missing.string() + ": No such file or directory");
  EXPECT_EQ(message([&] { write_file_atomically(missing, "x"); }),
            "cannot write " + missing.string() + ": No such file or directory");
  EXPECT_EQ(message([&] { read_file(folder.path()); }),
            "cannot read " + folder.path().string() + ": is a folder");
  const fs::path large = folder.path() / "large";
  write_file_atomically(large, std::string(2048, 'x'));
  EXPECT_EQ(
      message([&] { read_file(large, 1024); }),
      "cannot read " + large.string() + ": 2.0 KiB is more than the 1.0 KiB such a file may have");
  EXPECT_THAT(message([&] { make_folders(large); }), ::testing::HasSubstr("a file has that name"));
}

TEST(Files, StaleTemporariesOfDeadProcessesAreRemoved) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "last.pt";
  write_file_atomically(path, "good");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    write_file_atomically(path, [](const fs::path& temporary) {
      std::ofstream(temporary) << "half" << std::flush;
      _exit(0);  // as a kill in the middle of writing
    });
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(read_file(path), "good");
  EXPECT_EQ(entries(folder.path()), 2u);
  write_file_atomically(folder.path() / ".segmamba-tmp-notes", "not ours");
  remove_stale_temporaries(folder.path());
  EXPECT_EQ(entries(folder.path()), 2u);
  EXPECT_EQ(read_file(path), "good");
}

}  // namespace
}  // namespace segmamba
