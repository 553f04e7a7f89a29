#include "segmamba/core/log.h"

#include <gmock/gmock.h>

#include <fstream>

#include "segmamba/core/files.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Log, TheFileHasEveryLineAndGoesOn) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "log";
  for (const char* line : {"first", "second"}) {
    open_log_file(path);
    log_debug(line);
    close_log_file();
  }
  const auto text = read_file(path);
  EXPECT_THAT(text, HasSubstr(" debug first\n"));
  EXPECT_THAT(text, EndsWith(" debug second\n"));
  EXPECT_EQ(
      test::error_of([&] { open_log_file(folder.path() / "none/log"); }),
      "cannot write " + (folder.path() / "none/log").string() + ": No such file or directory");
}

TEST(Log, TheHalfLineOfAKilledRunIsDropped) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "log";
  std::ofstream(path) << "whole\nhal";
  open_log_file(path);
  log_debug("next");
  close_log_file();
  EXPECT_THAT(read_file(path), AllOf(StartsWith("whole\n2"), EndsWith(" debug next\n")));
}

TEST(Log, AFileThatCannotBeWrittenIsGivenUpWithAWarning) {
  open_log_file("/dev/full");
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) log_debug("a line");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "warning: no more lines in the log file: cannot write /dev/full: No space left on "
            "device\n");
}

}  // namespace
}  // namespace segmamba
