#pragma once
// What the CPU, CUDA and Meta kernels of the causal convolution share.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <tuple>
#include <vector>

#include "causal_conv1d.h"
#include "checks.h"

namespace segmamba::ops {

// Gradients of x, weight, bias.
using ConvBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Gradients of weight, bias.
using ConvBackwardAdd = std::tuple<at::Tensor, at::Tensor>;

// The arguments of causal_conv1d_silu once checked.
struct ConvArguments {
  at::Tensor x, weight, bias;
  std::vector<kernels::ScanMap> maps;

  // Throws Error naming the argument.
  ConvArguments(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                at::IntArrayRef orders);

  kernels::ConvShape shape() const;
  bool is_empty() const { return x.numel() == 0; }  // no batch items or no tokens
  std::vector<std::int64_t> output_shape() const;   // [K, B, L, D]

  template <class T>
  kernels::ConvInputs<T> inputs() const {
    using State = kernels::State<T>;
    return {shape(), maps.data(), rows_of<T>(x), weight.const_data_ptr<State>(),
            bias.const_data_ptr<State>()};
  }
};

// Operators of causal_conv1d.cpp through the dispatcher.
at::Tensor conv_op(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                   at::IntArrayRef orders);
ConvBackwardAdd conv_backward_add_op(const at::Tensor& grad_out, const at::Tensor& x,
                                     const at::Tensor& weight, const at::Tensor& bias,
                                     at::IntArrayRef orders, const at::Tensor& x_sum, bool adds);

ConvBackward make_conv_backward(const ConvArguments& arguments);
// Checks `x_sum`.
ConvBackwardAdd make_conv_backward_add(const ConvArguments& arguments, const at::Tensor& x_sum);

template <class T>
kernels::ConvGradients<T> conv_gradients(const at::Tensor& grad_out, const ConvBackward& result) {
  using State = kernels::State<T>;
  const auto& [x, weight, bias] = result;
  return {static_cast<const T*>(grad_out.const_data_ptr()), static_cast<T*>(x.mutable_data_ptr()),
          weight.mutable_data_ptr<State>(), bias.mutable_data_ptr<State>()};
}

template <class T>
kernels::ConvGradients<T> conv_gradients(const at::Tensor& grad_out, const ConvBackwardAdd& result,
                                         const at::Tensor& x_sum, bool adds) {
  using State = kernels::State<T>;
  const auto& [weight, bias] = result;
  return {static_cast<const T*>(grad_out.const_data_ptr()),
          nullptr,
          weight.mutable_data_ptr<State>(),
          bias.mutable_data_ptr<State>(),
          x_sum.mutable_data_ptr<State>(),
          adds};
}

}  // namespace segmamba::ops
