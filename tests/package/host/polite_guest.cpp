// Runs the example as a guest in a program that has set itself up, and says what of the program's
// own state the library has changed. Prints nothing where that is nothing.
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <torch/torch.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <cfenv>
#include <clocale>
#include <csignal>
#include <exception>
#include <filesystem>
#include <iostream>
#include <locale>
#include <map>
#include <new>
#include <sstream>
#include <string>

int run_example(int argc, char** argv);

namespace {

using State = std::map<std::string, std::string>;

template <class Value>
std::string text(const Value& value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

std::string text(const sigset_t& set) {
  std::string signals;
  for (int signal = 1; signal < NSIG; ++signal) {
    if (sigismember(&set, signal) == 1) signals += text(signal) + " ";
  }
  return signals;
}

void add_signals(State& state) {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    if (sigaction(signal, nullptr, &action) != 0) continue;
    state["handler of signal " + text(signal)] =
        text(reinterpret_cast<void*>(action.sa_handler)) + " " + text(action.sa_flags);
  }
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  state["blocked signals"] = text(blocked);
}

void add_process(State& state) {
  for (char** variable = environ; *variable != nullptr; ++variable) {
    state["environment"] += std::string(*variable) + "\n";
  }
  state["working directory"] = std::filesystem::current_path().string();
  const mode_t mask = umask(0);
  umask(mask);
  state["umask"] = text(mask);
  state["priority"] = text(getpriority(PRIO_PROCESS, 0));
  for (const auto limit : {RLIMIT_AS, RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_STACK}) {
    rlimit value{};
    getrlimit(limit, &value);
    state["limit " + text(static_cast<int>(limit))] = text(value.rlim_cur);
  }
  cpu_set_t processors;
  sched_getaffinity(0, sizeof(processors), &processors);
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &processors)) state["processors of the main thread"] += text(i) + " ";
  }
  for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code closed;  // that of the iterator itself
    const auto target = std::filesystem::read_symlink(file, closed).string();
    if (target.find("/proc/") != 0) state["open files"] += target + "\n";
  }
}

void add_language(State& state) {
  state["C locale"] = std::setlocale(LC_ALL, nullptr);
  state["C++ locale"] = std::locale().name();
  state["format of std::cout"] = text(std::cout.flags()) + " " + text(std::cout.precision());
  state["terminate handler"] = text(reinterpret_cast<void*>(std::get_terminate()));
  state["new handler"] = text(reinterpret_cast<void*>(std::get_new_handler()));
  state["rounding"] = text(std::fegetround());
  state["floating-point control"] = text(_mm_getcsr() & ~static_cast<unsigned>(_MM_EXCEPT_MASK));
}

void add_torch(State& state) {
  state["LibTorch's threads"] = text(at::get_num_threads());
  state["LibTorch's gradients"] = text(at::GradMode::is_enabled());
  state["LibTorch's default type"] = text(torch::get_default_dtype());
  const auto& context = at::globalContext();
  state["LibTorch's determinism"] = text(context.deterministicAlgorithms());
  state["LibTorch's cuDNN search"] = text(context.benchmarkCuDNN());
  state["LibTorch's oneDNN"] = text(context.userEnabledMkldnn());
}

State state_of_process() {
  State state;
  add_signals(state);
  add_process(state);
  add_language(state);
  add_torch(state);
  return state;
}

}  // namespace

int main(int argc, char** argv) {
  // Not what a library would set by itself.
  std::signal(SIGINT, [](int) {});
  std::signal(SIGTERM, [](int) {});
  std::signal(SIGPIPE, [](int) {});
  std::setlocale(LC_ALL, "C.UTF-8");
  umask(027);
  std::cout << std::hex;
  at::set_num_threads(1);

  const State before = state_of_process();
  const int exit_code = run_example(argc, argv);
  const State after = state_of_process();
  if (exit_code != 0) return exit_code;
  int changes = 0;
  for (const auto& [name, value] : after) {
    const auto was = before.find(name);
    if (was != before.end() && was->second == value) continue;
    std::cout << name << ": was '" << (was == before.end() ? "" : was->second) << "', is '" << value
              << "'\n";
    ++changes;
  }
  return changes == 0 ? 0 : 3;
}
