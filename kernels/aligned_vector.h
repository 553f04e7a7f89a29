#pragma once
// Vectors whose memory starts on a cache line. Vector loads that straddle two lines are up to four
// times as slow (AVX-512 on Zen 4), and malloc's large blocks start 16 bytes into a page.

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "segmamba/core/memory.h"

namespace segmamba::kernels {

template <class T>
struct AlignedAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlignment{64};

  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}  // NOLINT(google-explicit-constructor)

  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kAlignment));
  }
  void deallocate(T* at, std::size_t) { ::operator delete(at, kAlignment); }

  friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

// Numbers that nobody reads before they are written: not even their pages are touched here.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t count)
      : memory_(static_cast<T*>(::operator new(count * sizeof(T), kAlignment))) {
    prefer_huge_pages(memory_.get(), count * sizeof(T));
  }
  T* data() const { return memory_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Deleter {
    void operator()(T* at) const { ::operator delete(at, kAlignment); }
  };
  std::unique_ptr<T, Deleter> memory_;
};

}  // namespace segmamba::kernels
