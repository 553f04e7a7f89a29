#include "memory_meter.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEGMAMBA_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SEGMAMBA_SANITIZED
#endif
#endif

namespace {

std::atomic<long long> held_bytes{0}, most_bytes{0};

void count_taken(std::size_t bytes) {
  const auto now =
      held_bytes.fetch_add(static_cast<long long>(bytes)) + static_cast<long long>(bytes);
  auto most = most_bytes.load();
  while (now > most && !most_bytes.compare_exchange_weak(most, now)) {
  }
}

void count_given(std::size_t bytes) { held_bytes.fetch_sub(static_cast<long long>(bytes)); }

}  // namespace

#ifdef SEGMAMBA_SANITIZED

// The sanitizer has malloc already; it tells of each call.
extern "C" {
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, std::size_t),
                                              void (*on_free)(const volatile void*));
std::size_t __sanitizer_get_allocated_size(const volatile void* block);
}

namespace {

void on_malloc(const volatile void* /*block*/, std::size_t bytes) { count_taken(bytes); }
void on_free(const volatile void* block) {
  if (block != nullptr) count_given(__sanitizer_get_allocated_size(block));
}

const int kHooks = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);

}  // namespace

#else

// In place of glibc's functions, which they call: an executable may define them for itself and all
// its libraries (the GNU C Library's manual, "Replacing malloc").
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* block, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
void __libc_free(void* block);
}

namespace {

void* counted(void* block) {
  if (block != nullptr) count_taken(malloc_usable_size(block));
  return block;
}

}  // namespace

extern "C" {

void* malloc(std::size_t bytes) { return counted(__libc_malloc(bytes)); }
void* calloc(std::size_t count, std::size_t bytes) { return counted(__libc_calloc(count, bytes)); }
void* memalign(std::size_t alignment, std::size_t bytes) {
  return counted(__libc_memalign(alignment, bytes));
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  void* const taken = memalign(alignment, bytes);
  if (taken == nullptr) return 12;  // ENOMEM
  *block = taken;
  return 0;
}
void* realloc(void* block, std::size_t bytes) {
  const std::size_t before = block == nullptr ? 0 : malloc_usable_size(block);
  void* const moved = __libc_realloc(block, bytes);
  if (moved != nullptr || bytes == 0) count_given(before);
  return counted(moved);
}
void free(void* block) {
  if (block != nullptr) count_given(malloc_usable_size(block));
  __libc_free(block);
}

}  // extern "C"

#endif

namespace segmamba::fuzz {

MemoryMeter::MemoryMeter() : before_(held_bytes.load()) { most_bytes.store(before_); }

std::size_t MemoryMeter::peak_bytes() const {
  return static_cast<std::size_t>(std::max(0LL, most_bytes.load() - before_));
}

}  // namespace segmamba::fuzz
