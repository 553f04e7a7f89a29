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

// A vector of columns in the backward pass: the gradient before the activation and the normalised
// values.
template <class T, bool kFromOut>
class NormGradientColumns {
  using V = Lanes<T>;

 public:
  SEGMAMBA_LANES NormGradientColumns(const NormGradientRows<T>& at, int column, int lanes)
      : at_(at), column_(column), lanes_(lanes), inverse_slope_(1 / at.slope) {}

  SEGMAMBA_LANES void load_row(std::int64_t start) {
    const int i = column_;
    const auto first = start + i;
    const V grad = load(at_.grad_out + first, lanes_);
    V rest{};
    if (at_.shortcut) {
      shortcut_y = (load(at_.shortcut + first, lanes_) - load(at_.shortcut_mean + i)) *
                   load(at_.shortcut_scale + i);
      rest = shortcut_y * load(at_.shortcut_weight + i);
    }
    if constexpr (kFromOut) {
      const V out = load(at_.out + first, lanes_);
      gradient = out > V{} ? grad : grad * at_.slope;
      y = (out > V{} ? out : out * inverse_slope_) - rest;
    } else {
      y = (load(at_.x + first, lanes_) - load(at_.mean + i)) * load(at_.scale + i);
      const V before = y * load(at_.weight + i) + load(at_.shift + i) + rest;
      gradient = before > V{} ? grad : grad * at_.slope;
    }
  }

  V gradient{}, y{}, shortcut_y{};

 private:
  const NormGradientRows<T>& at_;
  int column_, lanes_;
  State<T> inverse_slope_;
};

template <class T, bool kFromOut>
void sum_gradient_columns(const NormGradientRows<T>& at, int rows, int columns,
                          const GradientSums<State<T>>& to) {
  constexpr int W = kLanes<T>;
  for (int i = 0; i < columns; i += W) {
    NormGradientColumns<T, kFromOut> of(at, i, columns - i < W ? columns - i : W);
    Lanes<T> gradient{}, along{}, shortcut_along{};
    for (int row = 0; row < rows; ++row) {
      of.load_row(static_cast<std::int64_t>(row) * columns);
      gradient += of.gradient;
      along += of.gradient * of.y;
      shortcut_along += of.gradient * of.shortcut_y;
    }
    store(to.gradient + i, gradient);
    store(to.along + i, along);
    store(to.shortcut_along + i, shortcut_along);
  }
}

template <class T>
void sum_gradients(const NormGradientRows<T>& at, int rows, int columns,
                   const GradientSums<State<T>>& to) {
  if (at.x) return sum_gradient_columns<T, false>(at, rows, columns, to);
  sum_gradient_columns<T, true>(at, rows, columns, to);
}

template <class T, bool kFromOut>
void norm_gradient_columns(const NormGradientRows<T>& at, const NormGradients<T>& to, int rows,
                           int columns) {
  constexpr int W = kLanes<T>;
  for (int row = 0; row < rows; ++row) {
    const std::int64_t start = static_cast<std::int64_t>(row) * columns;
    for (int i = 0; i < columns; i += W) {
      const int lanes = columns - i < W ? columns - i : W;
      NormGradientColumns<T, kFromOut> of(at, i, lanes);
      of.load_row(start);
      if (to.grad_x) {
        store(to.grad_x + start + i,
              (of.gradient - load(to.gradient + i) - of.y * load(to.along + i)) *
                  (load(at.weight + i) * load(at.scale + i)),
              lanes);
      }
      if (to.grad_shortcut) {
        store(to.grad_shortcut + start + i,
              (of.gradient - load(to.shortcut_gradient + i) -
               of.shortcut_y * load(to.shortcut_along + i)) *
                  (load(at.shortcut_weight + i) * load(at.shortcut_scale + i)),
              lanes);
      }
    }
  }
}

template <class T>
void norm_gradients(const NormGradientRows<T>& at, const NormGradients<T>& to, int rows,
                    int columns) {
  if (at.x) return norm_gradient_columns<T, false>(at, to, rows, columns);
  norm_gradient_columns<T, true>(at, to, rows, columns);
}

}  // namespace
}  // namespace segmamba::kernels
