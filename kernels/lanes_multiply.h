#pragma once
// Products of small matrices whose sums stay in registers; see cpu_lanes_impl.h for what may stand
// here.

#include "column_block.h"
#include "cpu_lanes.h"
#include "lanes.h"

namespace segmamba::kernels {
namespace {

// Blocks of columns and rows that are treated at once.
#if defined(__AVX512F__)
constexpr int kGroupBlocks = 3, kSumRegisters = 24;
#else
constexpr int kGroupBlocks = 1, kSumRegisters = 12;
#endif
template <class T>
constexpr int kBlockVectors = kColumnBlock / kLanes<T>;
template <class T>
constexpr int kRowsAtOnce = kSumRegisters / (kGroupBlocks * kBlockVectors<T>);
static_assert(kRowsAtOnce<float> <= kMostRowsAtOnce && kRowsAtOnce<double> <= kMostRowsAtOnce);

// out [kRowsAtOnce, kBlocks * kColumnBlock] = a [kRowsAtOnce, count] b [kBlocks, count,
// kColumnBlock]; rows lie `a_row` and `out_row` numbers apart.
template <class T, int kBlocks>
SEGMAMBA_LANES void multiply(const State<T>* a, std::int64_t a_row, const State<T>* b, int count,
                             State<T>* out, std::int64_t out_row) {
  constexpr int W = kLanes<T>, kVectors = kBlockVectors<T>, kRows = kRowsAtOnce<T>;
  Lanes<T> sum[kRows][kBlocks * kVectors] = {};
  for (int k = 0; k < count; ++k) {
    Lanes<T> column[kBlocks * kVectors];
#pragma GCC unroll 8
    for (int n = 0; n < kBlocks * kVectors; ++n) {
      column[n] = load(b + (static_cast<std::int64_t>(n / kVectors) * count + k) * kColumnBlock +
                       n % kVectors * W);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const State<T> factor = a[row * a_row + k];
#pragma GCC unroll 8
      for (int n = 0; n < kBlocks * kVectors; ++n) sum[row][n] += factor * column[n];
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int n = 0; n < kBlocks * kVectors; ++n) store(out + row * out_row + n * W, sum[row][n]);
  }
}

}  // namespace
}  // namespace segmamba::kernels
