#include "segmamba/ops/instance_norm.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "checks.h"
#include "cpu.h"
#include "instance_norm.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::ops {
namespace {

constexpr const char* kOp = "instance_norm";
constexpr double kEpsilon = 1e-5;

void check(const at::Tensor& x, const AfterNorm& after) {
  const auto state = state_type(kOp, "x", x.scalar_type());
  if (!x.is_cpu()) throw Error(concat(kOp, ": x must be on the CPU, is on ", x.device().str()));
  if (x.dim() < 3) throw Error(concat(kOp, ": x must have shape [B, C, ...], got ", x.sizes()));
  const std::pair<const char*, const at::Tensor*> others[] = {{"shortcut", &after.shortcut},
                                                              {"residual", &after.residual}};
  for (const auto& [name, tensor] : others) {
    if (!tensor->defined()) continue;
    check_type(kOp, name, *tensor, x.scalar_type(), x, "x");
    if (tensor->sizes() != x.sizes()) {
      throw Error(
          concat(kOp, ": ", name, " must have x's shape ", x.sizes(), ", got ", tensor->sizes()));
    }
  }
  const std::pair<const char*, const at::Tensor*> of_channels[] = {
      {"weight", &after.weight},
      {"bias", &after.bias},
      {"shortcut_weight", &after.shortcut_weight},
      {"shortcut_bias", &after.shortcut_bias}};
  for (const auto& [name, tensor] : of_channels) {
    if (!tensor->defined()) continue;
    check_type(kOp, name, *tensor, state, x, "x");
    check_shape(kOp, name, *tensor, {{"C", x.size(1)}});
  }
}

// Whether nothing but this reference reaches the tensor's memory.
bool is_last_reference(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.storage().use_count() == 1;
}

}  // namespace

at::Tensor instance_norm(at::Tensor x, const AfterNorm& after) {
  RECORD_FUNCTION("segmamba::instance_norm", std::vector<c10::IValue>());
  check(x, after);
  const auto format = x.suggest_memory_format();
  const auto laid_out = [format](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.contiguous(format) : tensor;
  };
  const bool overwrites = is_last_reference(x) && x.is_contiguous(format);
  const auto input = laid_out(x), shortcut = laid_out(after.shortcut),
             residual = laid_out(after.residual);
  const auto one_a_channel = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.contiguous() : tensor;
  };
  const auto weight = one_a_channel(after.weight), bias = one_a_channel(after.bias),
             shortcut_weight = one_a_channel(after.shortcut_weight),
             shortcut_bias = one_a_channel(after.shortcut_bias);
  const auto out = overwrites ? x : empty_buffer(x.sizes(), x.options(), format);
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    const auto data = [](const at::Tensor& tensor) {
      return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
    };
    using State = kernels::State<T>;
    const auto state = [](const at::Tensor& tensor) {
      return tensor.defined() ? static_cast<const State*>(tensor.const_data_ptr()) : nullptr;
    };
    const auto items = x.size(0), channels = x.size(1);
    kernels::instance_norm_cpu<T>(
        {items, channels, x.numel() / std::max<std::int64_t>(items * channels, 1),
         format != at::MemoryFormat::Contiguous, data(input), data(shortcut),
         after.normalises_shortcut, data(residual), static_cast<State>(after.slope), kEpsilon,
         static_cast<T*>(out.mutable_data_ptr()), state(weight), state(bias),
         state(shortcut_weight), state(shortcut_bias)},
        cpu_workers());
  });
  return out;
}

}  // namespace segmamba::ops
