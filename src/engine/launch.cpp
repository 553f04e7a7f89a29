#include "segmamba/engine/launch.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/distributed.h"

namespace segmamba::engine {
namespace {

using Clock = std::chrono::steady_clock;

// The ranks know who started them by this variable.
constexpr const char* kLauncher = "SEGMAMBA_LAUNCHER";
// For a rank to end by itself before it gets SIGTERM, and from that to SIGKILL.
constexpr auto kGrace = std::chrono::seconds(10);

constexpr std::array kPassedOn = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};

// A port that is free now; whoever wants it in the moment until rank 0 takes it makes that fail
// with a clear word.
std::uint16_t free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t size = sizeof(address);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  const bool found =
      ::bind(descriptor, plain, size) == 0 && ::getsockname(descriptor, plain, &size) == 0;
  ::close(descriptor);
  if (!found) throw Error(concat("found no free port for the ranks: ", std::strerror(errno)));
  return ntohs(address.sin_port);
}

struct Rank {
  pid_t process = -1;
  int output = -1;   // the end of its pipe that is read; none for rank 0
  std::string line;  // that is not complete yet
  bool running = true;
};

class Launch {
 public:
  Launch(std::int64_t count, std::vector<std::string> arguments);
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
  int run();

 private:
  void start(std::int64_t rank);
  [[noreturn]] void become(std::int64_t rank, int output);
  void wait();
  void take_signals();
  void stop_with_ranks();
  void take_output(std::size_t rank);
  void print_lines(std::size_t rank);
  void take_ends();
  void note_end(std::size_t rank, int status);
  void end_others(bool at_once);
  void press_on();
  void send_to_all(int signal);
  bool any_running() const;

  std::int64_t count_;
  std::vector<std::string> arguments_;
  std::uint16_t port_ = free_port();
  pid_t launcher_ = ::getpid();
  std::vector<Rank> ranks_;
  sigset_t taken_{}, before_{};
  void (*on_child_before_)(int) = SIG_DFL;
  int signals_ = -1;  // signalfd
  int exit_code_ = 0;
  bool failed_ = false;  // exit_code_ is that of a rank that failed
  bool ending_ = false, asked_ = false, killed_ = false;
  Clock::time_point ask_at_, kill_at_;  // by SIGTERM and by SIGKILL
};

Launch::Launch(std::int64_t count, std::vector<std::string> arguments)
    : count_(count), arguments_(std::move(arguments)) {
  // Taken from a descriptor instead of handlers: nothing is interrupted anywhere.
  ::sigemptyset(&taken_);
  for (const int signal : kPassedOn) ::sigaddset(&taken_, signal);
  ::sigaddset(&taken_, SIGTSTP);
  ::sigaddset(&taken_, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &taken_, &before_);
  // Ignored, as some parents leave it, the system would neither signal nor keep how a rank ended.
  on_child_before_ = ::signal(SIGCHLD, SIG_DFL);
  signals_ = ::signalfd(-1, &taken_, SFD_CLOEXEC | SFD_NONBLOCK);
}

Launch::~Launch() {
  send_to_all(SIGKILL);
  for (auto& rank : ranks_) {
    if (rank.running) ::waitpid(rank.process, nullptr, 0);
    if (rank.output >= 0) ::close(rank.output);
  }
  ::close(signals_);
  ::signal(SIGCHLD, on_child_before_);
  ::sigprocmask(SIG_SETMASK, &before_, nullptr);
}

void Launch::start(std::int64_t rank) {
  std::array<int, 2> ends = {-1, -1};
  if (rank > 0 && ::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw Error(concat("cannot start rank ", rank, ": ", std::strerror(errno)));
  }
  const pid_t process = ::fork();
  if (process == 0) become(rank, ends[1]);
  if (ends[1] >= 0) ::close(ends[1]);
  if (process < 0) throw Error(concat("cannot start rank ", rank, ": ", std::strerror(errno)));
  if (rank > 0) ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  ranks_.push_back({process, ends[0], "", true});
}

void Launch::become(std::int64_t rank, int output) {
  // A group of its own: what a terminal sends to the group of this process reaches the ranks once,
  // through this process.
  ::setpgid(0, 0);
  ::signal(SIGTTOU, SIG_IGN);  // such a group may still print on the terminal
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launcher_) ::_exit(1);  // it ended before the line above
  ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  if (output >= 0) {
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
  }
  const auto set = [](const char* name, const auto& value) {
    ::setenv(name, concat(value).c_str(), 1);
  };
  set(kLauncher, launcher_);
  set("RANK", rank);
  set("LOCAL_RANK", rank);
  set("WORLD_SIZE", count_);
  set("LOCAL_WORLD_SIZE", count_);
  set("MASTER_ADDR", "127.0.0.1");
  set("MASTER_PORT", port_);
  std::vector<char*> line;
  for (auto& argument : arguments_) line.push_back(argument.data());
  line.push_back(nullptr);
  ::execv("/proc/self/exe", line.data());
  std::perror("cannot start a rank");
  ::_exit(1);
}

int Launch::run() {
  for (std::int64_t rank = 0; rank < count_; ++rank) start(rank);
  while (any_running()) {
    wait();
    take_signals();
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) take_output(rank);
    take_ends();
    press_on();
  }
  return exit_code_;
}

void Launch::wait() {
  std::vector<pollfd> waiting = {{signals_, POLLIN, 0}};
  for (const auto& rank : ranks_) waiting.push_back({rank.output, POLLIN, 0});
  constexpr int kUntilTheGraceIsOver = 200, kForever = -1;  // ms
  ::poll(waiting.data(), waiting.size(), ending_ && !killed_ ? kUntilTheGraceIsOver : kForever);
}

void Launch::take_signals() {
  signalfd_siginfo signal{};
  while (::read(signals_, &signal, sizeof(signal)) == sizeof(signal)) {
    const auto number = static_cast<int>(signal.ssi_signo);
    if (number == SIGTSTP) stop_with_ranks();
    if (number != SIGTSTP && number != SIGCHLD) send_to_all(number);
  }
}

// Ctrl-Z: they stop and go on together with this process.
void Launch::stop_with_ranks() {
  send_to_all(SIGSTOP);
  ::raise(SIGSTOP);
  send_to_all(SIGCONT);
}

void Launch::take_output(std::size_t rank) {
  auto& from = ranks_[rank];
  if (from.output < 0) return;
  char buffer[4096];
  ssize_t got;
  while ((got = ::read(from.output, buffer, sizeof(buffer))) > 0) {
    from.line.append(buffer, static_cast<std::size_t>(got));
  }
  print_lines(rank);
}

void Launch::print_lines(std::size_t rank) {
  auto& text = ranks_[rank].line;
  for (std::size_t stop; (stop = text.find('\n')) != std::string::npos;) {
    std::fprintf(stderr, "[rank %zu] %s\n", rank, text.substr(0, stop).c_str());
    text.erase(0, stop + 1);
  }
}

void Launch::take_ends() {
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    int status = 0;
    if (!ranks_[rank].running) continue;
    const pid_t ended = ::waitpid(ranks_[rank].process, &status, WNOHANG);
    if (ended < 0 && errno == ECHILD) {
      status = W_EXITCODE(1, 0);  // somebody else has collected it: not known to be a success
    } else if (ended <= 0) {
      continue;
    }
    ranks_[rank].running = false;
    take_output(rank);
    if (!ranks_[rank].line.empty()) ranks_[rank].line += '\n';
    print_lines(rank);
    if (ranks_[rank].output >= 0) ::close(std::exchange(ranks_[rank].output, -1));
    note_end(rank, status);
  }
}

// Ranks that were asked to stop by a signal end with 128 + signal one by one, each when it is done:
// that is no failure.
void Launch::note_end(std::size_t rank, int status) {
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  bool is_failure = code != 0;
  for (const int signal : kPassedOn) {
    if (WIFEXITED(status) && code == 128 + signal) is_failure = false;
  }
  if (!is_failure) {
    if (exit_code_ == 0) exit_code_ = code;
    return;
  }
  if (killed_ || (asked_ && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)) return;
  // The rank that failed first is the one to name, not those that ended because of it.
  if (!failed_ || exit_code_ == kExitOtherRankEnded) exit_code_ = code;
  failed_ = true;
  if (WIFSIGNALED(status)) {
    log_error(concat("rank ", rank, " (process ", ranks_[rank].process, ") was killed by signal ",
                     WTERMSIG(status), " (", ::strsignal(WTERMSIG(status)), ")"));
  }
  end_others(/*at_once=*/code != kExitOtherRankEnded);
}

// The rank that another one missed may still be about to say why it ends.
void Launch::end_others(bool at_once) {
  const auto ask_at = at_once ? Clock::now() : Clock::now() + kGrace;
  if (ending_ && ask_at >= ask_at_) return;
  ending_ = true;
  ask_at_ = ask_at;
  kill_at_ = ask_at + kGrace;
}

void Launch::press_on() {
  const auto now = Clock::now();
  if (ending_ && !asked_ && now >= ask_at_) {
    asked_ = true;
    send_to_all(SIGTERM);
  }
  if (ending_ && !killed_ && now >= kill_at_) {
    killed_ = true;
    send_to_all(SIGKILL);
  }
}

void Launch::send_to_all(int signal) {
  for (const auto& rank : ranks_) {
    if (rank.running) ::kill(rank.process, signal);
  }
}

bool Launch::any_running() const {
  for (const auto& rank : ranks_) {
    if (rank.running) return true;
  }
  return false;
}

}  // namespace

bool is_launched_rank() {
  const char* launcher = std::getenv(kLauncher);
  return launcher != nullptr && concat(::getppid()) == launcher;
}

int launch_ranks(std::int64_t count, const std::string& device,
                 const std::vector<std::string>& arguments) {
  if (count < 1) throw UsageError(concat("--gpus ", count, ": expected 1 or more"));
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (std::getenv("RANK") != nullptr || (tasks != nullptr && std::string(tasks) != "1")) {
    throw UsageError("--gpus starts the ranks itself: leave it out under torchrun and srun");
  }
  const auto gpus = gpu_count();
  if (device != "cpu" && gpus < count) {
    throw Error(concat("--gpus ", count, ": this machine has ", gpus,
                       " usable NVIDIA GPUs (--device cpu starts as many processes on the CPU)"));
  }
  return Launch(count, arguments).run();
}

}  // namespace segmamba::engine
