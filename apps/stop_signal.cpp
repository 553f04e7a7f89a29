#include "stop_signal.h"

#include <csignal>

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

}  // namespace

void stop_on(std::initializer_list<int> signals) {
  for (const int signal : signals) std::signal(signal, request_stop);
}

const std::atomic<bool>& stop_requested() { return requested; }

int stopped_exit_code() { return 128 + last_signal; }

}  // namespace segmamba::apps
