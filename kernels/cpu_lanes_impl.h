#pragma once
// Included by cpu_lanes_<set>.cpp only, each compiled for its own instruction set. Nothing here or
// in the two headers below may have external linkage or call inline functions that do (std::min,
// std::vector): the linker keeps one copy of those, and it could be the one with instructions that
// this processor lacks.

#include "cpu_lanes_conv.h"
#include "cpu_lanes_scan.h"
#include "lanes_multiply.h"

namespace segmamba::kernels {
namespace {

template <class T>
void row_to_state(const T* from, State<T>* to, int count) {
  for (int i = 0; i < count; i += kLanes<T>) {
    const int lanes = count - i < kLanes<T> ? count - i : kLanes<T>;
    store(to + i, load(from + i, lanes), lanes);
  }
}
template <class T>
void row_from_state(const State<T>* from, T* to, int count) {
  for (int i = 0; i < count; i += kLanes<T>) {
    const int lanes = count - i < kLanes<T> ? count - i : kLanes<T>;
    store(to + i, load(from + i, lanes), lanes);
  }
}

template <class T, int kBlocks>
void multiply_all_rows(const State<T>* a, std::int64_t a_row, int rows, int count,
                       const State<T>* b, State<T>* out, std::int64_t out_row) {
  for (int row = 0; row < rows; row += kRowsAtOnce<T>) {
    multiply<T, kBlocks>(a + row * a_row, a_row, b, count, out + row * out_row, out_row);
  }
}
template <class T>
void multiply_rows(const State<T>* a, std::int64_t a_row, int rows, int count, const State<T>* b,
                   int blocks, State<T>* out) {
  for (int block = 0; block < blocks; block += kGroupBlocks) {
    const int here = blocks - block < kGroupBlocks ? blocks - block : kGroupBlocks;
    const auto multiply_group =
                   here == 1 ? multiply_all_rows<T, 1> : here == 2 ? multiply_all_rows < T,
               kGroupBlocks == 1 ? 1 : 2 > : multiply_all_rows<T, kGroupBlocks>;
    multiply_group(a, a_row, rows, count,
                   b + static_cast<std::int64_t>(block) * count * kColumnBlock,
                   out + block * kColumnBlock, static_cast<std::int64_t>(blocks) * kColumnBlock);
  }
}

}  // namespace

namespace SEGMAMBA_SET {

template <class T>
const CpuLanes<T>& cpu_lanes() {
  static constexpr CpuLanes<T> lanes{
      SEGMAMBA_SET_NAME, kLanes<T>,        kTileSteps<T>,   row_to_state<T>,  row_from_state<T>,
      scan_forward<T>,   scan_state<T>,    scan_adjoint<T>, scan_backward<T>, conv_forward<T>,
      conv_backward<T>,  inner_forward<T>, conv_rows<T>,    multiply_rows<T>};
  return lanes;
}

template const CpuLanes<float>& cpu_lanes<float>();
template const CpuLanes<double>& cpu_lanes<double>();
template const CpuLanes<BFloat16>& cpu_lanes<BFloat16>();
template const CpuLanes<Float16>& cpu_lanes<Float16>();

}  // namespace SEGMAMBA_SET
}  // namespace segmamba::kernels
