#pragma once
// What the CPU, CUDA and Meta kernels of the selective scan share.

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "selective_scan.h"

namespace segmamba::ops {

// out, ungated (empty without a gate), checkpoints; the last two are empty unless kept.
using ScanForward = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
// out and checkpoints of _selective_scan_add; empty where not asked for.
using ScanAdd = std::tuple<at::Tensor, at::Tensor>;
// Gradients of x, delta, A, B, C, D, z, delta_bias; empty where there is no such argument, and z's
// where `ungated` is not given.
using ScanBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                                at::Tensor, at::Tensor, at::Tensor>;

// The arguments of selective_scan_directions once checked: every tensor has unit stride in its last
// dimension, and A, D and delta_bias are contiguous and of the state's type.
struct ScanArguments {
  at::Tensor x, delta, A, B, C;
  OptionalTensor D, z, delta_bias;
  bool delta_softplus;
  std::vector<kernels::ScanMap> maps;

  // Throws Error naming the argument.
  ScanArguments(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus,
                at::IntArrayRef orders);

  kernels::ScanShape shape() const;
  bool is_empty() const { return x.numel() == 0; }  // no batch items or no tokens

  template <class T>
  kernels::ScanInputs<T> inputs() const {
    using State = kernels::State<T>;
    return {shape(),
            maps.data(),
            rows_of<T>(x),
            rows_of<T>(delta),
            rows_of<T>(B),
            rows_of<T>(C),
            z ? rows_of<T>(*z) : kernels::Rows<const T>{},
            A.const_data_ptr<State>(),
            data_or_null<State>(D),
            data_or_null<State>(delta_bias),
            delta_softplus};
  }
};

// Operators of selective_scan.cpp through the dispatcher.
ScanBackward scan_backward_op(const at::Tensor& grad_out, const at::Tensor& x,
                              const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                              const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool delta_softplus,
                              at::IntArrayRef orders, const at::Tensor& ungated,
                              const at::Tensor& checkpoints);
ScanAdd scan_add_op(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                    const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                    const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus,
                    at::IntArrayRef orders, const at::Tensor& ungated, bool adds, bool keep,
                    bool finish);

// Uninitialised results of the right shapes for `arguments`.
ScanForward make_scan_forward(const ScanArguments& arguments, std::int64_t checkpoint_count,
                              bool keep);
ScanBackward make_scan_backward(const ScanArguments& arguments, bool with_gate);
// Checks `ungated`.
ScanAdd make_scan_add(const ScanArguments& arguments, const at::Tensor& ungated,
                      std::int64_t checkpoint_count, bool keep, bool finish);

template <class T>
kernels::ScanOutputs<T> scan_outputs(const ScanForward& result) {
  using State = kernels::State<T>;
  const auto& [out, ungated, checkpoints] = result;
  return {static_cast<T*>(out.mutable_data_ptr()),
          ungated.numel() ? ungated.mutable_data_ptr<State>() : nullptr,
          checkpoints.numel() ? checkpoints.mutable_data_ptr<State>() : nullptr};
}

template <class T>
kernels::ScanOutputs<T> scan_outputs(const ScanAdd& result, const at::Tensor& ungated, bool adds) {
  using State = kernels::State<T>;
  const auto& [out, checkpoints] = result;
  return {out.numel() ? static_cast<T*>(out.mutable_data_ptr()) : nullptr,
          ungated.mutable_data_ptr<State>(),
          checkpoints.numel() ? checkpoints.mutable_data_ptr<State>() : nullptr, adds};
}

template <class T>
kernels::ScanGradients<T> scan_gradients(const at::Tensor& grad_out, const at::Tensor& ungated,
                                         const at::Tensor& checkpoints,
                                         const ScanBackward& result) {
  using State = kernels::State<T>;
  const auto& [x, delta, A, B, C, D, z, delta_bias] = result;
  return {static_cast<const T*>(grad_out.const_data_ptr()),
          ungated.numel() ? ungated.const_data_ptr<State>() : nullptr,
          checkpoints.const_data_ptr<State>(),
          static_cast<T*>(x.mutable_data_ptr()),
          static_cast<T*>(delta.mutable_data_ptr()),
          static_cast<T*>(B.mutable_data_ptr()),
          static_cast<T*>(C.mutable_data_ptr()),
          z.numel() ? static_cast<T*>(z.mutable_data_ptr()) : nullptr,
          A.mutable_data_ptr<State>(),
          D.numel() ? D.mutable_data_ptr<State>() : nullptr,
          delta_bias.numel() ? delta_bias.mutable_data_ptr<State>() : nullptr};
}

}  // namespace segmamba::ops
