#include "segmamba/ops/causal_conv1d.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "conv_arguments.h"
#include "cpu.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::ops {
namespace {
constexpr const char* kOp = "causal_conv1d_silu";
}  // namespace

ConvArguments::ConvArguments(const at::Tensor& x_, const at::Tensor& weight_,
                             const at::Tensor& bias_, at::IntArrayRef orders) {
  check_shape(kOp, "x", x_, {{"B", kAnySize}, {"L", kAnySize}, {"D", -1}});
  const auto unpacked = unflatten_orders(kOp, orders);
  const auto K = static_cast<std::int64_t>(unpacked.size());
  maps = scan_maps(kOp, unpacked, x_.size(1));
  check_shape(kOp, "weight", weight_, {{"K", K}, {"D", x_.size(2)}, {"J", -1}});
  if (weight_.size(2) > kernels::kMaxTaps) {
    throw Error(concat(kOp, ": weight must have at most ", kernels::kMaxTaps, " taps, got ",
                       weight_.size(2)));
  }
  check_shape(kOp, "bias", bias_, {{"K", K}, {"D", x_.size(2)}});
  const auto state = state_type(kOp, "x", x_.scalar_type());
  check_type(kOp, "weight", weight_, state, x_, "x");
  check_type(kOp, "bias", bias_, state, x_, "x");
  x = with_unit_stride(x_);
  weight = weight_.contiguous();
  bias = bias_.contiguous();
}

kernels::ConvShape ConvArguments::shape() const {
  const auto size = [](std::int64_t n) { return static_cast<std::int32_t>(n); };
  return {size(weight.size(0)), size(x.size(0)), size(x.size(1)), size(x.size(2)),
          size(weight.size(2))};
}

std::vector<std::int64_t> ConvArguments::output_shape() const {
  return {weight.size(0), x.size(0), x.size(1), x.size(2)};
}

at::Tensor conv_op(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                   at::IntArrayRef orders) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::causal_conv1d_silu", "")
                             .typed<decltype(conv_op)>();
  return op.call(x, weight, bias, orders);
}

ConvBackwardAdd conv_backward_add_op(const at::Tensor& grad_out, const at::Tensor& x,
                                     const at::Tensor& weight, const at::Tensor& bias,
                                     at::IntArrayRef orders, const at::Tensor& x_sum, bool adds) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_causal_conv1d_silu_backward_add", "")
                             .typed<decltype(conv_backward_add_op)>();
  return op.call(grad_out, x, weight, bias, orders, x_sum, adds);
}

namespace {

ConvBackward backward_op(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias, at::IntArrayRef orders) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_causal_conv1d_silu_backward", "")
                             .typed<decltype(backward_op)>();
  return op.call(grad_out, x, weight, bias, orders);
}

class ConvFunction : public torch::autograd::Function<ConvFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const at::Tensor& bias,
                            std::vector<std::int64_t> orders) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto out = conv_op(x, weight, bias, orders);
    context->save_for_backward({x, weight, bias});
    context->saved_data["orders"] = std::move(orders);
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_out) {
    const auto saved = context->get_saved_variables();
    const auto [x, weight, bias] = backward_op(grad_out[0], saved[0], saved[1], saved[2],
                                               context->saved_data["orders"].toIntVector());
    return {x, weight, bias, at::Tensor()};
  }
};

at::Tensor conv_autograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         at::IntArrayRef orders) {
  return ConvFunction::apply(x, weight, bias, orders.vec());
}

template <at::DeviceType kDevice, c10::DispatchKey kKey>
at::Tensor conv_autocast(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         at::IntArrayRef orders) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(kKey);
  const auto type = at::autocast::get_autocast_dtype(kDevice);
  return conv_op(at::autocast::cached_cast(type, x, kDevice),
                 at::autocast::cached_cast(at::kFloat, weight, kDevice),
                 at::autocast::cached_cast(at::kFloat, bias, kDevice), orders);
}

at::Tensor conv_meta(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     at::IntArrayRef orders) {
  const ConvArguments a(x, weight, bias, orders);
  return at::empty(a.output_shape(), x.options());
}

ConvBackward backward_meta(const at::Tensor&, const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& bias, at::IntArrayRef orders) {
  return make_conv_backward({x, weight, bias, orders});
}

ConvBackwardAdd backward_add_meta(const at::Tensor&, const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& bias, at::IntArrayRef orders,
                                  const at::Tensor& x_sum, bool) {
  return make_conv_backward_add({x, weight, bias, orders}, x_sum);
}

}  // namespace

namespace {
// Without tokens no kernel runs, and the parameters have no gradient.
at::Tensor like(const ConvArguments& a, const at::Tensor& parameter) {
  return a.is_empty() ? at::zeros(parameter.sizes(), parameter.options())
                      : at::empty(parameter.sizes(), parameter.options());
}
}  // namespace

ConvBackwardAdd make_conv_backward_add(const ConvArguments& a, const at::Tensor& x_sum) {
  constexpr const char* op = "_causal_conv1d_silu_backward_add";
  check_shape(op, "x_sum", x_sum, {{"B", a.x.size(0)}, {"L", a.x.size(1)}, {"D", a.x.size(2)}});
  check_type(op, "x_sum", x_sum, a.weight.scalar_type(), a.x, "x");
  if (!x_sum.is_contiguous()) throw Error(concat(op, ": x_sum must be contiguous"));
  return {like(a, a.weight), like(a, a.bias)};
}

ConvBackward make_conv_backward(const ConvArguments& a) {
  return {empty_buffer(a.x.sizes(), a.x.options()), like(a, a.weight), like(a, a.bias)};
}

TORCH_LIBRARY_FRAGMENT(segmamba, library) {
  library.def("causal_conv1d_silu(Tensor x, Tensor weight, Tensor bias, int[] orders) -> Tensor");
  library.def(
      "_causal_conv1d_silu_backward(Tensor grad_out, Tensor x, Tensor weight, Tensor bias, "
      "int[] orders) -> (Tensor, Tensor, Tensor)");
  // Some of the directions: the gradient of x goes into `x_sum`, where `adds` to what is there.
  library.def(
      "_causal_conv1d_silu_backward_add(Tensor grad_out, Tensor x, Tensor weight, Tensor bias, "
      "int[] orders, Tensor(a!) x_sum, bool adds) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(segmamba, Autograd, library) {
  library.impl("causal_conv1d_silu", conv_autograd);
  // A second derivative is an error, not zero.
  library.impl("_causal_conv1d_silu_backward", torch::autograd::autogradNotImplementedFallback());
}
TORCH_LIBRARY_IMPL(segmamba, AutocastCPU, library) {
  library.impl("causal_conv1d_silu", conv_autocast<at::kCPU, c10::DispatchKey::AutocastCPU>);
}
TORCH_LIBRARY_IMPL(segmamba, Autocast, library) {
  library.impl("causal_conv1d_silu", conv_autocast<at::kCUDA, c10::DispatchKey::Autocast>);
}
TORCH_LIBRARY_IMPL(segmamba, Meta, library) {
  library.impl("causal_conv1d_silu", conv_meta);
  library.impl("_causal_conv1d_silu_backward", backward_meta);
  library.impl("_causal_conv1d_silu_backward_add", backward_add_meta);
}

at::Tensor causal_conv1d_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              const std::vector<ScanOrder>& orders) {
  return conv_op(x, weight, bias, flatten_orders(orders));
}

}  // namespace segmamba::ops
