#include "stop_signal.h"

#include <array>
#include <csignal>
#include <cstddef>

namespace segmamba::apps {
namespace {

std::atomic<bool> requested = false;
std::atomic<int> last_signal = SIGTERM;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void request_stop(int signal) {
  last_signal = signal;
  requested = true;
  std::signal(signal, SIG_DFL);
}

// In oneDNN's matrix products, under many convolutions, the stack pointer points into a block of
// the heap, so that what the system lays on the stack for a handler overwrites what lies before the
// block (https://github.com/uxlfoundation/oneDNN/issues/4845, mended after the 3.10 of
// LibTorch 2.11). A signal for a process goes to its first thread.
void give_handlers_a_stack() {
  constexpr std::size_t kBytes = std::size_t{1} << 16;  // the registers of AMX take 11 KB
  alignas(64) static std::array<std::byte, kBytes> memory;
  stack_t stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  ::sigaltstack(&stack, nullptr);
}

}  // namespace

void stop_on(std::initializer_list<int> signals) {
  give_handlers_a_stack();
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  for (const int signal : signals) ::sigaction(signal, &action, nullptr);
}

const std::atomic<bool>& stop_requested() { return requested; }

int stopped_exit_code() { return 128 + last_signal; }

}  // namespace segmamba::apps
