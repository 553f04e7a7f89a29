#include "segmamba/core/append_file.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>

#include "segmamba/core/files.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

TEST(AppendFile, DropsALineThatItsWriterDidNotFinish) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "rows";
  for (const char* row : {"one\n", "tw", "three\n"}) {
    AppendFile file(path);
    file.drop_half_line();
    file.write(row);
  }
  EXPECT_EQ(read_file(path), "one\nthree\n");
  // Of a row longer than what is looked at in one piece, and where there is no whole one.
  for (const char* whole : {"one\n", ""}) {
    write_file_atomically(path, whole + std::string(10000, 'x'));
    AppendFile(path).drop_half_line();
    EXPECT_EQ(read_file(path), whole);
  }
}

TEST(AppendFile, TakesBackTheRowForWhichThereIsNoRoom) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "rows";
  AppendFile file(path);
  file.write("one\n");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{6, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto message = test::error_of([&] { file.write("three\n"); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, "cannot write " + path.string() + ": File too large");
  EXPECT_EQ(read_file(path), "one\n");
}

TEST(AppendFile, NamesWhatIsWrong) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(
      test::error_of([&] { AppendFile(folder.path() / "none/rows"); }),
      "cannot write " + (folder.path() / "none/rows").string() + ": No such file or directory");
  EXPECT_EQ(test::error_of([] { AppendFile("/dev/full").write("row"); }),
            "cannot write /dev/full: No space left on device");
}

}  // namespace
}  // namespace segmamba
