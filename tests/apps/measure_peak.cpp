// measure_peak FILE PROGRAM ARGUMENT ...
//
// Runs the program, writes the most memory that it had resident, in bytes, into the file, and ends
// as it did. What the system counts for a process includes the one from which it was forked: the
// tests' own process, which holds hundreds of megabytes, will not do for that.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <fstream>

int main(int count, char** words) {
  if (count < 3) return 127;
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // with this process, which has an alarm set
    execv(words[2], words + 2);
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  if (wait4(child, &status, 0, &usage) != child) return 127;
  std::ofstream(words[1]) << (std::int64_t{usage.ru_maxrss} << 10);
  if (WIFSIGNALED(status)) {
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
  }
  return WEXITSTATUS(status);
}
