#include "stop_signal.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

namespace segmamba::apps {
namespace {

// The wait status of a child that does `work`, which must exit itself.
int in_a_child(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(99);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(StopSignal, TheFirstIsNotedAndTheSecondEndsAtOnce) {
  const int first = in_a_child([] {
    stop_on({SIGUSR1, SIGTERM});
    if (stop_requested()) ::_exit(1);
    std::raise(SIGUSR1);
    ::_exit(stop_requested() ? stopped_exit_code() : 2);
  });
  ASSERT_TRUE(WIFEXITED(first));
  EXPECT_EQ(WEXITSTATUS(first), 128 + SIGUSR1);
  const int second = in_a_child([] {
    stop_on({SIGUSR1, SIGTERM});
    std::raise(SIGTERM);
    std::raise(SIGTERM);
  });
  ASSERT_TRUE(WIFSIGNALED(second));
  EXPECT_EQ(WTERMSIG(second), SIGTERM);
}

// Where the stack pointer is, the heap may be.
TEST(StopSignal, HandlersRunOnAStackOfTheirOwn) {
  const int status = in_a_child([] {
    stop_on({SIGUSR1});
    struct sigaction action {};
    stack_t stack{};
    if (::sigaction(SIGUSR1, nullptr, &action) != 0 || ::sigaltstack(nullptr, &stack) != 0) {
      ::_exit(1);
    }
    const bool is_used = (action.sa_flags & SA_ONSTACK) != 0 && (stack.ss_flags & SS_DISABLE) == 0;
    const bool is_large = stack.ss_size >= static_cast<std::size_t>(::sysconf(_SC_SIGSTKSZ));
    ::_exit(is_used && is_large ? 0 : 2);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace segmamba::apps
