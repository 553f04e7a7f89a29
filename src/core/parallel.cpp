#include "segmamba/core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace segmamba {
namespace {

int available_processors() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return std::max(1, CPU_COUNT(&mask));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void work_in_new_threads(int threads, const std::function<void()>& work) {
  std::vector<std::jthread> others;
  others.reserve(static_cast<std::size_t>(threads) - 1);
  try {
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
  } catch (const std::exception&) {
    // The system has no more threads, or no memory for them: those there are do the work.
  }
  work();
}

std::atomic<int>& configured_threads() {
  static std::atomic<int> count{available_processors()};
  return count;
}

}  // namespace

int thread_count() { return configured_threads(); }

void set_thread_count(int count) { configured_threads() = std::max(1, count); }

void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& body, int threads) {
  Workers(threads <= 0 ? thread_count() : threads).run(count, body);
}

Workers::Workers(int threads) : Workers(threads, work_in_new_threads) {}

Workers::Workers(int threads, Pool pool) : threads_(std::max(threads, 1)), pool_(pool) {}

void Workers::run(std::int64_t count, const std::function<void(std::int64_t)>& body) const {
  const int threads = static_cast<int>(std::min<std::int64_t>(threads_, count));
  if (threads <= 1) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  std::atomic<std::int64_t> next{0};
  std::exception_ptr first_error;
  std::mutex error_mutex;
  pool_(threads, [&] {
    try {
      for (std::int64_t i = next++; i < count; i = next++) body(i);
    } catch (...) {
      next = count;
      const std::scoped_lock lock(error_mutex);
      if (!first_error) first_error = std::current_exception();
    }
  });
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace segmamba
