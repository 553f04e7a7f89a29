#pragma once
// Threads for the rooms that do without LibTorch.

#include <cstdint>
#include <functional>

namespace segmamba {

// The threads that parallel_for uses at most; default the number of processors this process may
// run on (its affinity mask, so the CPU sets of containers count; CPU quotas do not).
int thread_count();
void set_thread_count(int count);

// Calls body(i) for i in [0, count) from up to `threads` threads (0: thread_count()). Items are
// handed out in order, one at a time. The first exception stops the hand-out and is rethrown.
void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& body,
                  int threads = 0);

// Who works on the items of a loop.
class Workers {
 public:
  // Calls work() from up to `threads` threads at once and returns when all have returned.
  using Pool = void (*)(int threads, const std::function<void()>& work);

  // Threads made for each loop.
  Workers(int threads);  // NOLINT(google-explicit-constructor)
  // Threads of a pool that the caller has anyway: a second set would contend with it.
  Workers(int threads, Pool pool);

  int threads() const { return threads_; }
  // Calls body(i) for i in [0, count); see parallel_for().
  void run(std::int64_t count, const std::function<void(std::int64_t)>& body) const;

 private:
  int threads_;
  Pool pool_;
};

}  // namespace segmamba
