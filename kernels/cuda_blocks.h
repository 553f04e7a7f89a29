#pragma once
// CUDA kernels as plain code that also runs on the host, so that staging, partial tiles, index maps
// and launch plans are tested on machines without a GPU.
//
// A kernel is a struct with
//   Params, Registers (what one thread keeps), Shared (what the threads of a block share) and
//   template <class Block> static void run(const Params&, const Place&, Block&).
// run() is the code of one block. Its control flow is the same for all threads; what threads do
// apart is passed to the block:
//   block.each(body)         body(thread, registers) by every thread, then a barrier
//   block.each_alone(body)   the same without the barrier: body touches only its registers, global
//                            memory and what its own warp left in shared memory
//   block.each_warp(body)    the same with a barrier of each warp for itself
// On the GPU (cuda_launch.cuh) threads run side by side and each() inlines to straight code. The
// emulator below runs them one after another between the barriers.

#include <cstring>
#include <memory>
#include <vector>

#include "selective_scan.h"

namespace segmamba::kernels {

inline constexpr int kWarp = 32;

// What a block works on: its part of the steps, of the channels, and which sequence k * B + b.
struct Place {
  int segment;
  int tile;
  int sequence;
};

struct Grid {
  int segments, tiles, sequences;
  int first_sequence = 0;
  int threads = 0;  // of a block, a multiple of kWarp

  SEGMAMBA_HD std::int64_t blocks() const {
    return static_cast<std::int64_t>(segments) * tiles * sequences;
  }
  // Tiles of the same tokens are neighbours: they read the same B and C.
  SEGMAMBA_HD Place place(std::int64_t block) const {
    const auto rest = static_cast<int>(block / tiles);
    return {rest % segments, static_cast<int>(block - static_cast<std::int64_t>(rest) * tiles),
            first_sequence + rest / segments};
  }
};

// `v`, but the compiler does not know: what is computed from it stays where it is used. Keeps
// registers free where values would be computed once and held through a long loop.
SEGMAMBA_HD int opaque(int v) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(v));
#endif
  return v;
}

// bfloat16 by its bits: the upper half of a float, rounded to nearest even.
SEGMAMBA_HD float to_state(BFloat16 v) {
  const std::uint32_t bits = static_cast<std::uint32_t>(v.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
SEGMAMBA_HD float to_state(float v) { return v; }
SEGMAMBA_HD double to_state(double v) { return v; }

SEGMAMBA_HD void from_state(float v, BFloat16& to) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(v));
#else
  std::uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  to.bits = static_cast<std::uint16_t>(is_nan ? (bits >> 16) | 0x40U
                                              : (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
#endif
}
SEGMAMBA_HD void from_state(float v, float& to) { to = v; }
SEGMAMBA_HD void from_state(double v, double& to) { to = v; }

// A block whose threads run one after another.
template <class Kernel>
class EmulatedBlock {
 public:
  using Registers = typename Kernel::Registers;

  explicit EmulatedBlock(int threads)
      : registers_(threads), shared_(std::make_unique<typename Kernel::Shared>()) {
    // What a kernel does not write must not matter: NaN as numbers, far out as indices.
    std::memset(static_cast<void*>(registers_.data()), 0xff, threads * sizeof(Registers));
    std::memset(static_cast<void*>(shared_.get()), 0xff, sizeof(typename Kernel::Shared));
  }
  int threads() const { return static_cast<int>(registers_.size()); }
  typename Kernel::Shared& shared() { return *shared_; }

  // The last thread first, every other time: a thread that needs what another one does between the
  // same two barriers fails in one of the orders.
  template <class Body>
  void each(const Body& body) {
    backwards_ = !backwards_;
    for (int i = 0; i < threads(); ++i) {
      const int thread = backwards_ ? threads() - 1 - i : i;
      body(thread, registers_[thread]);
    }
  }
  template <class Body>
  void each_alone(const Body& body) {
    each(body);
  }
  template <class Body>
  void each_warp(const Body& body) {
    each(body);
  }

 private:
  std::vector<Registers> registers_;
  std::unique_ptr<typename Kernel::Shared> shared_;
  bool backwards_ = false;
};

// The sum of `count` numbers that lie `stride` apart: several sums side by side, whose numbers are
// loaded without waiting, joined at the end.
template <class S>
SEGMAMBA_HD S strided_sum(const S* from, std::int64_t stride, std::int64_t count) {
  constexpr int kAhead = sizeof(S) == 8 ? 8 : 32;
  S sums[kAhead] = {};
  for (; count >= kAhead; count -= kAhead) {
    SEGMAMBA_UNROLL
    for (int i = 0; i < kAhead; ++i) sums[i] += from[i * stride];
    from += kAhead * stride;
  }
  SEGMAMBA_UNROLL
  for (int i = 0; i < kAhead; ++i) {
    if (i < count) sums[i] += from[i * stride];
  }
  S sum = 0;
  SEGMAMBA_UNROLL
  for (int i = 0; i < kAhead; ++i) sum += sums[i];
  return sum;
}

// How the emulator stands in for the GPU: the same two calls as CudaLauncher in cuda_launch.cuh.
struct EmulatedLauncher {
  template <class Kernel>
  void blocks(const typename Kernel::Params& p, const Grid& grid) const {
    for (std::int64_t i = 0; i < grid.blocks(); ++i) {
      EmulatedBlock<Kernel> block(grid.threads);
      Kernel::run(p, grid.place(i), block);
    }
  }
  // Independent items of a table: Item::run(p, row, column).
  template <class Item>
  void items(const typename Item::Params& p, std::int64_t rows, int columns) const {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) Item::run(p, row, column);
    }
  }
};

}  // namespace segmamba::kernels
