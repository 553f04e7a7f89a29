#pragma once
// The inner loops over volumes, compiled once for each instruction set, as a table of functions.
// What may stand in them: see cpu_lanes_impl.h.

#include "cpu_lanes.h"
#include "instance_norm.h"
#include "winograd.h"

namespace segmamba::kernels {

// Rows of numbers whose columns have parameters of their own. Arrays of parameters are readable up
// to the next multiple of W.
template <class T>
struct NormRows {
  const T *x, *shortcut, *residual;               // the last two or nullptr
  const State<T>*mean, *scale;                    // of x
  const State<T>*shortcut_mean, *shortcut_scale;  // of the shortcut
  const State<T>* shift;                          // or nullptr
  State<T> slope;
  T* out;
};

// One number a column, with room up to the next multiple of W.
template <class S>
struct ColumnSums {
  S* origin;   // the first number of the column
  S* sum;      // of the differences from it,
  S* squares;  // and of their squares
};

template <class T>
struct VolumeLanes {
  using S = State<T>;
  const char* name;
  int width;  // W

  // Sums over each column of x [rows, columns].
  void (*sum_columns)(const T* x, int rows, int columns, const ColumnSums<S>& to);
  // out = act((x - mean) scale + shift + (shortcut - shortcut_mean) shortcut_scale) + residual.
  void (*normalise)(const NormRows<T>& at, int rows, int columns);

  // Outputs of the tiles [first, first + count), 2^3 voxels each, counted over [batch, depth / 2,
  // height / 2, width / 2] rounded up. `workspace` holds winograd_workspace() numbers.
  void (*winograd_tiles)(const Winograd<T>& at, std::int64_t first, int count, S* workspace);
  std::size_t (*winograd_workspace)(std::int64_t in_channels);
};

template <class T>
const VolumeLanes<T>& volume_lanes();

namespace baseline {
template <class T>
const VolumeLanes<T>& volume_lanes();
}
namespace avx2 {
template <class T>
const VolumeLanes<T>& volume_lanes();
}
namespace avx512 {
template <class T>
const VolumeLanes<T>& volume_lanes();
}

// Tiles that one call of winograd_tiles() takes at most: few enough for their transforms to stay in
// a second-level cache.
inline constexpr int kWinogradTiles = 24;

}  // namespace segmamba::kernels
