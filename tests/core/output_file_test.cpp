#include "segmamba/core/output_file.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <limits>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

TEST(OutputFile, HoldsPiecesOfAnySizeInTheirOrder) {
  const test::TemporaryFolder folder;
  std::string expected;
  {
    OutputFile file(folder.path() / "file", "file");
    for (const std::size_t size : {1U, 70000U, 65535U, 1U, 65536U, 0U, 3U, 200000U}) {
      const std::string piece(size, static_cast<char>('a' + expected.size() % 26));
      file.write(piece);
      expected += piece;
    }
    file.finish();
  }
  EXPECT_EQ(read_file(folder.path() / "file"), expected);
}

TEST(OutputFile, IsAStreamToo) {
  const test::TemporaryFolder folder;
  OutputFile file(folder.path() / "file", "file");
  OutputStream stream(file);
  stream << "one " << 2 << ' ' << 0.5 << std::string(100000, 'x');
  file.finish();
  EXPECT_EQ(read_file(folder.path() / "file"), "one 2 0.5" + std::string(100000, 'x'));
}

// A file that cannot grow stands for a full disk.
class NoRoom {
 public:
  explicit NoRoom(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~NoRoom() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  NoRoom(const NoRoom&) = delete;
  NoRoom& operator=(const NoRoom&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(OutputFile, FailuresNameTheFileThatAPersonKnowsAndTheReason) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(test::error_of([&] { OutputFile(folder.path() / "none/file", "its name"); }),
            "cannot write its name: No such file or directory");
  const NoRoom no_room(100000);
  const std::string message = "cannot write its name: File too large";
  // Within a large piece, at the end of small ones, and through a stream.
  EXPECT_EQ(test::error_of([&] {
              OutputFile(folder.path() / "large", "its name").write(std::string(200000, 'x'));
            }),
            message);
  EXPECT_EQ(test::error_of([&] {
              OutputFile file(folder.path() / "small", "its name");
              for (int i = 0; i < 13; ++i) file.write(std::string(10000, 'x'));
              file.finish();
            }),
            message);
  EXPECT_EQ(test::error_of([&] {
              OutputFile file(folder.path() / "stream", "its name");
              OutputStream(file) << std::string(200000, 'x');
            }),
            message);
}

}  // namespace
}  // namespace segmamba
