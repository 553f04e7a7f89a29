#pragma once
// Starts the ranks of a run on this machine.

#include <cstdint>
#include <string>
#include <vector>

namespace segmamba::engine {

// Whether this process is one of those that launch_ranks started.
bool is_launched_rank();

// Starts this program `count` times with the same `arguments` (argv, the program's name included)
// and the environment of torchrun, waits, and returns the exit code: that of the first rank that
// failed (128 + signal where one killed it); else 128 + signal where ranks stopped at one that was
// passed on; else 0. When one fails, the others are ended: asked by SIGTERM (10 seconds later where
// it failed because another rank was gone, which may still say why), forced 10 seconds after that.
// SIGINT, SIGTERM, SIGUSR1 and SIGHUP are passed on, each time once; Ctrl-Z stops all. Rank 0 keeps
// the standard streams; what the others print goes to standard error, each line marked with its
// rank. However this process ends, they end with it. `device` as for select_device: without GPUs
// enough an Error, except for "cpu". UsageError where torchrun or srun has started this process as
// one of several ranks. For programs without other threads.
int launch_ranks(std::int64_t count, const std::string& device,
                 const std::vector<std::string>& arguments);

}  // namespace segmamba::engine
