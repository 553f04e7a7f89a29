#pragma once
// Ctrl-C and its like, for programs that end at a good moment.

#include <atomic>
#include <initializer_list>

namespace segmamba::apps {

// The first of each of these signals only sets stop_requested(); the second ends the program at
// once. To be called by the first thread, whose signal stack (sigaltstack(2)) becomes the
// handlers'.
void stop_on(std::initializer_list<int> signals);

const std::atomic<bool>& stop_requested();

// 128 + the last signal, as shells have it; SIGTERM where it reached another process of the run.
int stopped_exit_code();

}  // namespace segmamba::apps
