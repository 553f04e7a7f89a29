#include "segmamba/core/last_words.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <vector>

#include "segmamba/core/files.h"
#include "segmamba/core/mapped_file.h"
#include "segmamba/core/text.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

// How a child ended that did `work`: its exit code, or 1000 + signal; and its standard error.
struct Ended {
  int code;
  std::string error;
};
template <class Work>
Ended in_a_child(const fs::path& folder, const Work& work) {
  const auto error = folder / "err.txt";
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open(error.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
    explain_ends("segmamba-test");
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), read_file(error)};
}

TEST(LastWords, OneLineNamesTheFileThatWasCutShort) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "a file.case";
  write_file_atomically(path, std::string(1 << 20, 'x'));
  const Ended ended = in_a_child(folder.path(), [&] {
    const MappedFile file(path);
    fs::resize_file(path, 4096);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        if (file.bytes().back() == std::byte{'y'}) ::_exit(2);
      });
    }
    for (auto& thread : threads) thread.join();
  });
  EXPECT_EQ(ended.code, 1);
  EXPECT_EQ(ended.error, "segmamba-test: cannot read " + path.string() +
                             ": it was cut short, or its disk failed, while it was in use\n");
}

TEST(LastWords, OtherBusErrorsEndAsTheyDo) {
  const test::TemporaryFolder folder;
  const Ended ended = in_a_child(folder.path(), [] { std::raise(SIGBUS); });
  EXPECT_EQ(ended.code, 1000 + SIGBUS);
  EXPECT_EQ(ended.error, "");
}

}  // namespace
}  // namespace segmamba
