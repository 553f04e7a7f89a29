#include "segmamba/core/files.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "segmamba/core/error.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
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

// Lines that end before, at and behind the borders of blocks, and some that are longer.
TEST(Files, GivesWholeLinesAlone) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "rows";
  std::vector<std::string> expected;
  for (const std::size_t length : {0, 1, 65'534, 0, 65'535, 65'536, 3, 200'000, 65'537, 2}) {
    expected.emplace_back(length, static_cast<char>('a' + expected.size()));
  }
  for (const char* half : {"", "half a line"}) {
    write_file_atomically(path, concat(join(expected, "\n"), "\n", half));
    std::vector<std::string> lines;
    read_whole_lines(path, [&](std::string_view line) { lines.emplace_back(line); });
    EXPECT_EQ(lines, expected);
  }
  write_file_atomically(path, "");
  read_whole_lines(path, [&](std::string_view line) { FAIL() << line; });
  const auto missing = folder.path() / "none";
  EXPECT_EQ(test::error_of([&] { read_whole_lines(missing, [](std::string_view) {}); }),
            concat("cannot read ", missing.string(), ": No such file or directory"));
}

TEST(Files, FailedWriteKeepsTheOldFileAndLeavesNothing) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "case.nii.gz";
  write_file_atomically(path, "old");
  EXPECT_THROW(write_file_atomically(path,
                                     [](OutputFile& file) {
                                       file.write(std::string(100000, 'h'));
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
    write_file_atomically(path, [](OutputFile& file) {
      file.write(std::string(100000, 'h'));
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

// Of a temporary file that this process has not made and that has its host, its number and, where
// `same_start`, its start.
fs::path temporary_of_this_process(const fs::path& folder, bool same_start) {
  fs::path made;
  try {
    write_file_atomically(folder / "name", [&](OutputFile&) {
      made = fs::directory_iterator(folder)->path();
      throw Error("its name is known");
    });
  } catch (const Error&) {
  }
  auto parts = split(made.filename().string(), '-');  // "", "segmamba", "tmp", host, process, start
  if (!same_start) parts.at(4) += "1";
  parts.at(5) = "999";
  std::ofstream(folder / join(parts, "-")) << "half";
  return folder / join(parts, "-");
}

// In a container the program often has the same number each time it is started.
TEST(Files, AnEarlierProcessOfTheSameNumberIsDead) {
  const test::TemporaryFolder folder;
  const auto living = temporary_of_this_process(folder.path(), true);
  remove_stale_temporaries(folder.path());
  EXPECT_TRUE(fs::remove(living));
  const auto dead = temporary_of_this_process(folder.path(), false);
  remove_stale_temporaries(folder.path());
  EXPECT_FALSE(fs::exists(dead));
}

// A job that goes on in another container or on another node cannot ask for the earlier process.
TEST(Files, TemporariesOfOtherHostsAreDeadAfterADay) {
  const test::TemporaryFolder folder;
  const auto made = temporary_of_this_process(folder.path(), true);
  auto parts = split(made.filename().string(), '-');
  parts.at(2) = "0badcafe";
  const auto foreign = folder.path() / join(parts, "-");
  fs::rename(made, foreign);
  const auto now = fs::file_time_type::clock::now();
  for (const int hours : {0, 23}) {
    fs::last_write_time(foreign, now - std::chrono::hours(hours));
    remove_stale_temporaries(folder.path());
    EXPECT_TRUE(fs::exists(foreign)) << hours;
  }
  fs::last_write_time(foreign, now - std::chrono::hours(25));
  remove_stale_temporaries(folder.path());
  EXPECT_FALSE(fs::exists(foreign));
}

// Containers may have the name of their machine, and see no process of it.
TEST(Files, TemporariesOfAnotherNamespaceOfProcessesAreNotTakenForDead) {
  const test::TemporaryFolder folder;
  const auto living = temporary_of_this_process(folder.path(), true);
  constexpr int kNotAllowed = 2;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWPID) != 0) ::_exit(kNotAllowed);
    const pid_t first_of_namespace = ::fork();
    if (first_of_namespace == 0) {
      remove_stale_temporaries(folder.path());
      ::_exit(0);
    }
    ::waitpid(first_of_namespace, nullptr, 0);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WEXITSTATUS(status) == kNotAllowed) GTEST_SKIP() << "no namespace can be made here";
  EXPECT_TRUE(fs::exists(living));
}

TEST(Files, TheFirstWriteIntoAFolderCleansIt) {
  const test::TemporaryFolder folder, other;
  const auto stale = temporary_of_this_process(other.path(), false);
  fs::rename(stale, folder.path() / stale.filename());
  write_file_atomically(folder.path() / "file", "content");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(Files, LongNamesAreWritten) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / std::string(255, 'n');
  write_file_atomically(path, "content");
  EXPECT_EQ(read_file(path), "content");
}

TEST(Files, CopiesAreWholeAndOfTheirOwn) {
  const test::TemporaryFolder folder;
  const fs::path first = folder.path() / "first", second = folder.path() / "second";
  const std::string large(3 << 20, 'x');
  write_file_atomically(first, large);
  copy_file_atomically(first, second);
  copy_file_atomically(first, second);  // by now two names of one file
  EXPECT_EQ(entries(folder.path()), 2u);
  write_file_atomically(first, "new");
  EXPECT_EQ(read_file(second), large);
  // Between file systems there are no links.
  copy_file_atomically("/proc/self/status", second);
  EXPECT_THAT(read_file(second), ::testing::HasSubstr("VmRSS:"));
  EXPECT_EQ(test::error_of([&] { copy_file_atomically(folder.path() / "none", second); }),
            "cannot read " + (folder.path() / "none").string() + ": No such file or directory");
  EXPECT_EQ(entries(folder.path()), 2u);
}

}  // namespace
}  // namespace segmamba
