#pragma once
// The instance norm's inner loops; see cpu_lanes_impl.h for what may stand here.

#include "lanes.h"
#include "volume_lanes.h"

namespace segmamba::kernels {
namespace {

// Of kCount vectors of columns at a time: one sum alone would wait for its own last addition.
template <class T, int kCount>
SEGMAMBA_LANES void column_sums(const T* x, int rows, std::int64_t stride, int lanes,
                                const ColumnSums<State<T>>& to) {
  constexpr int W = kLanes<T>;
  Lanes<T> origin[kCount], sum[kCount] = {}, squares[kCount] = {};
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) origin[i] = load(x + i * W, lanes);
  for (int row = 1; row < rows; ++row) {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      const Lanes<T> apart = load(x + row * stride + i * W, lanes) - origin[i];
      sum[i] += apart;
      squares[i] += apart * apart;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
    store(to.origin + i * W, origin[i]);
    store(to.sum + i * W, sum[i]);
    store(to.squares + i * W, squares[i]);
  }
}

template <class T>
void sum_columns(const T* x, int rows, int columns, const ColumnSums<State<T>>& to) {
  constexpr int W = kLanes<T>, kGroup = 4;
  const auto at = [&to](int i) {
    return ColumnSums<State<T>>{to.origin + i, to.sum + i, to.squares + i};
  };
  int i = 0;
  for (; i + kGroup * W <= columns; i += kGroup * W) {
    column_sums<T, kGroup>(x + i, rows, columns, W, at(i));
  }
  for (; i < columns; i += W) {
    column_sums<T, 1>(x + i, rows, columns, columns - i < W ? columns - i : W, at(i));
  }
}

template <class T>
void normalise(const NormRows<T>& at, int rows, int columns) {
  using V = Lanes<T>;
  constexpr int W = kLanes<T>;
  for (int row = 0; row < rows; ++row) {
    const std::int64_t start = static_cast<std::int64_t>(row) * columns;
    for (int i = 0; i < columns; i += W) {
      const int lanes = columns - i < W ? columns - i : W;
      V y = (load(at.x + start + i, lanes) - load(at.mean + i)) * load(at.scale + i);
      if (at.shift) y += load(at.shift + i);
      if (at.shortcut) {
        y += (load(at.shortcut + start + i, lanes) - load(at.shortcut_mean + i)) *
             load(at.shortcut_scale + i);
      }
      y = y > V{} ? y : y * at.slope;
      if (at.residual) y += load(at.residual + start + i, lanes);
      store(at.out + start + i, y, lanes);
    }
  }
}

}  // namespace
}  // namespace segmamba::kernels
