#include "segmamba/ops/winograd.h"

#include <ATen/ops/empty.h>
#include <ATen/record_function.h>

#include <vector>

#include "checks.h"
#include "cpu.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "winograd.h"

namespace segmamba::ops {
namespace {

constexpr const char* kOp = "winograd_convolution";

std::int64_t blocks_of(std::int64_t out_channels) {
  return (out_channels + kernels::kColumnBlock - 1) / kernels::kColumnBlock;
}

}  // namespace

at::Tensor winograd_weight(const at::Tensor& weight) {
  check_shape(kOp, "weight", weight, {{"out", -1}, {"in", -1}, {"3", 3}, {"3", 3}, {"3", 3}});
  const auto type = state_type(kOp, "weight", weight.scalar_type());
  check_type(kOp, "weight", weight, type, weight, "weight");
  const auto out = weight.size(0), in = weight.size(1);
  const auto from = weight.detach().cpu().contiguous();
  auto transformed = at::empty({64, blocks_of(out), in, kernels::kColumnBlock}, from.options());
  for_element_type(from, [&](auto element) {
    using T = decltype(element);
    using S = kernels::State<T>;
    kernels::transform_winograd_weight(from.const_data_ptr<S>(), in, out,
                                       transformed.mutable_data_ptr<S>());
  });
  return transformed;
}

at::Tensor winograd_convolution(const at::Tensor& x, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias, std::int64_t out_channels) {
  RECORD_FUNCTION("segmamba::winograd_convolution", std::vector<c10::IValue>());
  const auto state = state_type(kOp, "x", x.scalar_type());
  if (!x.is_cpu()) throw Error(concat(kOp, ": x must be on the CPU, is on ", x.device().str()));
  check_shape(kOp, "x", x,
              {{"B", kAnySize}, {"in", -1}, {"D", kAnySize}, {"H", kAnySize}, {"W", kAnySize}});
  const auto blocks = blocks_of(out_channels);
  check_shape(kOp, "weight", weight,
              {{"64", 64}, {"blocks", blocks}, {"in", x.size(1)}, {"16", kernels::kColumnBlock}});
  check_type(kOp, "weight", weight, state, x, "x");
  if (bias) {
    check_shape(kOp, "bias", *bias, {{"out", out_channels}});
    check_type(kOp, "bias", *bias, state, x, "x");
  }
  const auto format = at::MemoryFormat::ChannelsLast3d;
  const auto input = x.contiguous(format);
  auto out =
      empty_buffer({x.size(0), out_channels, x.size(2), x.size(3), x.size(4)}, x.options(), format);
  if (out.numel() == 0) return out;
  const auto offsets = bias ? std::optional(bias->contiguous()) : std::nullopt;
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    kernels::winograd_convolution_cpu<T>(
        {x.size(0), x.size(2), x.size(3), x.size(4), x.size(1), out_channels,
         static_cast<const T*>(input.const_data_ptr()), weight.const_data_ptr<kernels::State<T>>(),
         data_or_null<kernels::State<T>>(offsets), static_cast<T*>(out.mutable_data_ptr())},
        cpu_workers());
  });
  return out;
}

}  // namespace segmamba::ops
