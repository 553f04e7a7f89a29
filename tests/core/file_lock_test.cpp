#include "segmamba/core/file_lock.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(FileLock, IsHeldByOneAndLeavesNoFile) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "lock";
  {
    FileLock first(path), second(path);
    EXPECT_TRUE(first.acquire(false));
    EXPECT_FALSE(second.acquire(false));
  }
  EXPECT_FALSE(fs::exists(path));
  FileLock again(path);
  EXPECT_TRUE(again.acquire(false));
}

// Processes that wait, take it and remove its file all the time: what they guard stays in order.
TEST(FileLock, OfManyThatWaitOneHasIt) {
  const test::TemporaryFolder folder;
  const auto counter = folder.path() / "counter";
  write_file_atomically(counter, "0");
  constexpr int kProcesses = 4, kTimes = 10;
  for (int process = 0; process < kProcesses; ++process) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child != 0) continue;
    bool is_held = true;
    for (int i = 0; i < kTimes; ++i) {
      FileLock lock(folder.path() / "lock");
      is_held = lock.acquire(true) && is_held;
      write_file_atomically(counter, concat(*to_integer(read_file(counter)) + 1));
    }
    ::_exit(is_held ? 0 : 1);
  }
  for (int process = 0; process < kProcesses; ++process) {
    int status = 0;
    ASSERT_GT(::wait(&status), 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(read_file(counter), concat(kProcesses * kTimes));
}

TEST(FolderLock, NamesWhoHoldsIt) {
  const test::TemporaryFolder folder;
  const auto used = folder.path() / "new/folder";
  const FolderLock lock(used);
  EXPECT_THAT(test::error_of([&] { FolderLock second(used); }),
              MatchesRegex(concat(used.string(), " is in use by process ", ::getpid(),
                                  " on [^ ]+ since 20..-..-..T..:..:..Z: wait until it has ended, "
                                  "or give another folder")));
}

TEST(FolderLock, IsOfOneOrOfItsParts) {
  const test::TemporaryFolder folder;
  const auto refused = [&](const std::string& part) {
    return test::error_of([&] { FolderLock second(folder.path(), part); });
  };
  {
    const FolderLock whole(folder.path());
    EXPECT_THAT(refused("1-of-2"), HasSubstr("is in use by process "));
  }
  {
    const FolderLock part(folder.path(), "1-of-2");
    {
      const FolderLock other(folder.path(), "2-of-2");
      EXPECT_THAT(refused("1-of-2"), HasSubstr("is in use by process "));
      EXPECT_THAT(refused(""), HasSubstr("is in use by shares, the latest of them process "));
    }
    EXPECT_THAT(refused(""), HasSubstr("is in use by shares"));  // of which one is left
    EXPECT_EQ(refused("2-of-2"), "");
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  write_file_atomically(folder.path() / ".segmamba-lock.2-of-3", "of a killed process");
  EXPECT_EQ(refused(""), "");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(FolderLock, EndsWithAKilledProcess) {
  const test::TemporaryFolder folder;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const FolderLock lock(folder.path());
    if (::write(ready[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_THAT(test::error_of([&] { FolderLock second(folder.path()); }),
              HasSubstr(concat("process ", child, " on ")));
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(test::error_of([&] { FolderLock second(folder.path()); }), "");
  ::close(ready[0]);
  ::close(ready[1]);
}

}  // namespace
}  // namespace segmamba
