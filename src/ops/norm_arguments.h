#pragma once
// What the CPU and CUDA kernels of the instance norm share.

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

#include "checks.h"
#include "instance_norm.h"
#include "segmamba/ops/instance_norm.h"

namespace segmamba::ops {

// out; mean and 1 / sqrt(var + eps) of x, then of a shortcut that is normalised: [2 or 4, B, C].
using NormForward = std::tuple<at::Tensor, at::Tensor>;

// Gradients of x, shortcut, weight, bias, shortcut_weight; undefined where not wanted.
using NormBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// How AfterNorm travels through schemas: shortcut, residual, weight, bias, shortcut_weight and
// shortcut_bias as a list, and what is no tensor.
using Others = c10::List<OptionalTensor>;
AfterNorm after_norm(const Others& others, bool normalises_shortcut, double slope);

// Tensors as the kernels take them: all in the memory format of x.
struct NormArguments {
  // Throws Error naming the argument.
  NormArguments(const at::Tensor& x, const AfterNorm& after);

  kernels::VolumeShape shape() const;
  bool normalises_shortcut() const { return after.shortcut.defined() && after.normalises_shortcut; }

  at::Tensor x;
  AfterNorm after;
  at::MemoryFormat format;
};

// With memory for the results; `overwrites`: that of x.
NormForward make_norm_forward(const NormArguments& arguments, bool overwrites);
NormBackward make_norm_backward(const NormArguments& arguments, std::array<bool, 5> wanted);

template <class T>
const T* pointer_to(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}
template <class T>
T* pointer_into(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

template <class S>
kernels::NormStatistics<S> statistics_of(const at::Tensor& statistics, std::int64_t first) {
  if (statistics.size(0) <= first) return {};
  // By the pointer: selecting a row below autograd costs as much as the small norms themselves.
  S* const at = pointer_into<S>(statistics) + first * statistics.stride(0);
  return {at, at + statistics.stride(0)};
}

template <class T>
kernels::InstanceNorm<T> norm_kernel(const NormArguments& a, const NormForward& result) {
  using S = kernels::State<T>;
  const auto& [out, statistics] = result;
  return {a.shape(),
          pointer_to<T>(a.x),
          pointer_to<T>(a.after.shortcut),
          a.after.normalises_shortcut,
          pointer_to<T>(a.after.residual),
          static_cast<S>(a.after.slope),
          kNormEpsilon,
          pointer_into<T>(out),
          {pointer_to<S>(a.after.weight), pointer_to<S>(a.after.bias)},
          {pointer_to<S>(a.after.shortcut_weight), pointer_to<S>(a.after.shortcut_bias)},
          statistics_of<S>(statistics, 0),
          statistics_of<S>(statistics, 2)};
}

// `kept`: x, or (is_output) the result of the forward pass.
template <class T>
kernels::InstanceNormBackward<T> norm_backward_kernel(const NormArguments& a, bool is_output,
                                                      const at::Tensor& grad_out,
                                                      const at::Tensor& statistics,
                                                      const NormBackward& result) {
  using S = kernels::State<T>;
  const auto& [grad_x, grad_shortcut, grad_weight, grad_bias, grad_shortcut_weight] = result;
  const auto* const kept = pointer_to<T>(a.x);
  return {a.shape(),
          pointer_to<T>(grad_out),
          is_output ? nullptr : kept,
          is_output ? kept : nullptr,
          pointer_to<T>(a.after.shortcut),
          a.after.normalises_shortcut,
          static_cast<S>(a.after.slope),
          {pointer_to<S>(a.after.weight), pointer_to<S>(a.after.bias)},
          {pointer_to<S>(a.after.shortcut_weight), pointer_to<S>(a.after.shortcut_bias)},
          statistics_of<S>(statistics, 0),
          statistics_of<S>(statistics, 2),
          pointer_into<T>(grad_x),
          pointer_into<T>(grad_shortcut),
          pointer_into<S>(grad_weight),
          pointer_into<S>(grad_shortcut_weight),
          pointer_into<S>(grad_bias)};
}

}  // namespace segmamba::ops
