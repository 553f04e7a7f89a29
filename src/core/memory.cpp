#include "segmamba/core/memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cstdint>

namespace segmamba {

void prefer_huge_pages(void* memory, std::size_t bytes) {
  constexpr std::uintptr_t kHugePage = 1 << 21;
  if (bytes < 2 * kHugePage) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + kHugePage - 1) & ~(kHugePage - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) & ~(kHugePage - 1);
  // A hint: that it is not followed is no error.
  static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
}

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);         // no block with pages of its own, which would go with it
  mallopt(M_TRIM_THRESHOLD, -1);  // no end of the heap given back
#endif
}

}  // namespace segmamba
