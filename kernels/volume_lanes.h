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

// What the backward pass reads, as in NormRows. With y = (x - mean) scale and the shortcut's y in
// the same way, what went into the activation was y weight + shift + shortcut_y shortcut_weight.
template <class T>
struct NormGradientRows {
  const T *grad_out, *x, *out, *shortcut;  // x or nullptr: from out; shortcut or nullptr
  const State<T>*mean, *scale, *weight, *shift;
  const State<T>*shortcut_mean, *shortcut_scale, *shortcut_weight;
  State<T> slope;
};

// Of g, the gradient before the activation, one number a column as in ColumnSums.
template <class S>
struct GradientSums {
  S *gradient, *along, *shortcut_along;  // of g, g y and g shortcut_y
};

template <class T>
struct NormGradients {
  // Means of g and g y over the voxels of each column's channel; zeros: not normalised.
  const State<T>*gradient, *along, *shortcut_gradient, *shortcut_along;
  T *grad_x, *grad_shortcut;  // each or nullptr
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

  void (*sum_gradients)(const NormGradientRows<T>& at, int rows, int columns,
                        const GradientSums<S>& to);
  // grad_x = weight scale (g - gradient - y along), and the same of the shortcut.
  void (*norm_gradients)(const NormGradientRows<T>& at, const NormGradients<T>& to, int rows,
                         int columns);

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
