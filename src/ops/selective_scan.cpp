#include "segmamba/ops/selective_scan.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "cpu.h"
#include "scan_arguments.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::ops {

ScanOrder ScanOrder::forward(std::int64_t length) { return {{1, 1, length}, {0, 0, 1}, false}; }

ScanOrder ScanOrder::reverse(std::int64_t length) { return {{1, 1, length}, {0, 0, 1}, true}; }

ScanOrder ScanOrder::interslice(std::int64_t length, std::int64_t slices) {
  if (slices < 1 || length % slices != 0) {
    throw Error(concat("ScanOrder::interslice: length must be a multiple of slices, got length ",
                       length, " and ", slices, " slices"));
  }
  return {{1, length / slices, slices}, {0, 1, length / slices}, false};
}

namespace {

constexpr const char* kOp = "selective_scan_directions";

void check_parameter(const char* op, const char* name, const at::Tensor& tensor,
                     const at::Tensor& x) {
  check_type(op, name, tensor, state_type(op, "x", x.scalar_type()), x, "x");
}

OptionalTensor contiguous(const OptionalTensor& tensor) {
  return tensor ? OptionalTensor(tensor->contiguous()) : std::nullopt;
}

// What a schema's `Tensor?` holds may be an undefined tensor when it comes from C++.
OptionalTensor present(const OptionalTensor& tensor) {
  return tensor && tensor->defined() ? tensor : std::nullopt;
}

}  // namespace

ScanArguments::ScanArguments(const at::Tensor& x_, const at::Tensor& delta_, const at::Tensor& A_,
                             const at::Tensor& B_, const at::Tensor& C_, const OptionalTensor& D_,
                             const OptionalTensor& z_, const OptionalTensor& delta_bias_,
                             bool delta_softplus_, at::IntArrayRef orders)
    : D(present(D_)),
      z(present(z_)),
      delta_bias(present(delta_bias_)),
      delta_softplus(delta_softplus_) {
  check_shape(kOp, "x", x_, {{"K", -1}, {"B", kAnySize}, {"L", kAnySize}, {"D", -1}});
  const auto K = x_.size(0), batch = x_.size(1), L = x_.size(2), channels = x_.size(3);
  check_shape(kOp, "delta", delta_, {{"K", K}, {"B", batch}, {"L", L}, {"D", channels}});
  check_shape(kOp, "A", A_, {{"K", K}, {"D", channels}, {"N", -1}});
  const auto N = A_.size(2);
  if (N > kernels::kMaxStates) {
    throw Error(concat(kOp, ": A must have at most ", kernels::kMaxStates, " states, got ", N));
  }
  check_shape(kOp, "B", B_, {{"K", K}, {"B", batch}, {"L", L}, {"N", N}});
  check_shape(kOp, "C", C_, {{"K", K}, {"B", batch}, {"L", L}, {"N", N}});
  check_parameter(kOp, "A", A_, x_);
  check_type(kOp, "delta", delta_, x_.scalar_type(), x_, "x");
  check_type(kOp, "B", B_, x_.scalar_type(), x_, "x");
  check_type(kOp, "C", C_, x_.scalar_type(), x_, "x");
  if (D) {
    check_shape(kOp, "D", *D, {{"K", K}, {"D", channels}});
    check_parameter(kOp, "D", *D, x_);
  }
  if (delta_bias) {
    check_shape(kOp, "delta_bias", *delta_bias, {{"K", K}, {"D", channels}});
    check_parameter(kOp, "delta_bias", *delta_bias, x_);
  }
  if (z) {
    check_shape(kOp, "z", *z, {{"B", batch}, {"L", L}, {"D", channels}});
    check_type(kOp, "z", *z, x_.scalar_type(), x_, "x");
    z = with_unit_stride(*z);
  }
  const auto unpacked = unflatten_orders(kOp, orders);
  if (static_cast<std::int64_t>(unpacked.size()) != K) {
    throw Error(
        concat(kOp, ": orders must name ", K, " directions, as x has, got ", unpacked.size()));
  }
  maps = scan_maps(kOp, unpacked, L);
  x = with_unit_stride(x_);
  delta = with_unit_stride(delta_);
  B = with_unit_stride(B_);
  C = with_unit_stride(C_);
  A = A_.contiguous();
  D = contiguous(D);
  delta_bias = contiguous(delta_bias);
}

kernels::ScanShape ScanArguments::shape() const {
  const auto size = [](std::int64_t n) { return static_cast<std::int32_t>(n); };
  return {size(x.size(0)), size(x.size(1)), size(x.size(2)), size(x.size(3)), size(A.size(2))};
}

ScanForward make_scan_forward(const ScanArguments& a, std::int64_t checkpoint_count, bool keep) {
  const auto options = a.x.options();
  const auto state_options = options.dtype(a.A.scalar_type());
  const std::vector<std::int64_t> shape{a.x.size(1), a.x.size(2), a.x.size(3)};
  return {empty_buffer(shape, options),
          keep && a.z ? empty_buffer(shape, state_options) : empty_buffer({0}, state_options),
          empty_buffer({keep ? checkpoint_count : 0}, state_options)};
}

ScanAdd make_scan_add(const ScanArguments& a, const at::Tensor& ungated,
                      std::int64_t checkpoint_count, bool keep, bool finish) {
  constexpr const char* op = "_selective_scan_add";
  check_shape(op, "ungated", ungated, {{"B", a.x.size(1)}, {"L", a.x.size(2)}, {"D", a.x.size(3)}});
  check_type(op, "ungated", ungated, a.A.scalar_type(), a.x, "x");
  if (!ungated.is_contiguous()) throw Error(concat(op, ": ungated must be contiguous"));
  const auto state_options = a.x.options().dtype(a.A.scalar_type());
  return {finish ? empty_buffer(ungated.sizes(), a.x.options()) : empty_buffer({0}, a.x.options()),
          empty_buffer({keep ? checkpoint_count : 0}, state_options)};
}

ScanBackward make_scan_backward(const ScanArguments& a, bool with_gate) {
  // Without tokens no kernel runs, and the parameters have no gradient.
  const bool empty = a.is_empty();
  const auto like = [&](const OptionalTensor& tensor, const at::Tensor& other) {
    if (!tensor) return empty_buffer({0}, other.options());
    return empty ? at::zeros(tensor->sizes(), tensor->options())
                 : empty_buffer(tensor->sizes(), tensor->options());
  };
  return {like(a.x, a.x),
          like(a.delta, a.x),
          like(a.A, a.A),
          like(a.B, a.x),
          like(a.C, a.x),
          like(a.D, a.A),
          like(with_gate ? a.z : std::nullopt, a.x),
          like(a.delta_bias, a.A)};
}

ScanBackward scan_backward_op(const at::Tensor& grad_out, const at::Tensor& x,
                              const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                              const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool delta_softplus,
                              at::IntArrayRef orders, const at::Tensor& ungated,
                              const at::Tensor& checkpoints) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_selective_scan_backward", "")
                             .typed<decltype(scan_backward_op)>();
  return op.call(grad_out, x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders, ungated,
                 checkpoints);
}

ScanAdd scan_add_op(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                    const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                    const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus,
                    at::IntArrayRef orders, const at::Tensor& ungated, bool adds, bool keep,
                    bool finish) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_selective_scan_add", "")
                             .typed<decltype(scan_add_op)>();
  return op.call(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders, ungated, adds, keep,
                 finish);
}

namespace {

ScanForward forward_op(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                       const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                       const OptionalTensor& z, const OptionalTensor& delta_bias,
                       bool delta_softplus, at::IntArrayRef orders, bool keep) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_selective_scan_forward", "")
                             .typed<decltype(forward_op)>();
  return op.call(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders, keep);
}

at::Tensor directions_op(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                         const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                         const OptionalTensor& z, const OptionalTensor& delta_bias,
                         bool delta_softplus, at::IntArrayRef orders) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::selective_scan_directions", "")
                             .typed<decltype(directions_op)>();
  return op.call(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
}

class ScanFunction : public torch::autograd::Function<ScanFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                            const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                            const OptionalTensor& delta_bias, bool delta_softplus,
                            std::vector<std::int64_t> orders) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto [out, ungated, checkpoints] =
        forward_op(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders, true);
    context->save_for_backward({x, delta, A, B, C, D.value_or(at::Tensor()),
                                z.value_or(at::Tensor()), delta_bias.value_or(at::Tensor()),
                                ungated, checkpoints});
    context->saved_data["delta_softplus"] = delta_softplus;
    context->saved_data["orders"] = std::move(orders);
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_out) {
    const auto saved = context->get_saved_variables();
    const auto given = [&](int i) { return present(saved[i]); };
    const auto grad =
        scan_backward_op(grad_out[0], saved[0], saved[1], saved[2], saved[3], saved[4], given(5),
                         given(6), given(7), context->saved_data["delta_softplus"].toBool(),
                         context->saved_data["orders"].toIntVector(), saved[8], saved[9]);
    const auto where_given = [&](int i, const at::Tensor& tensor) {
      return given(i) ? tensor : at::Tensor();
    };
    const auto& [x, delta, A, B, C, D, z, delta_bias] = grad;
    return {x,
            delta,
            A,
            B,
            C,
            where_given(5, D),
            where_given(6, z),
            where_given(7, delta_bias),
            at::Tensor(),
            at::Tensor()};
  }
};

// Registered for every backend: nothing is kept for a backward.
at::Tensor directions_without_gradient(const at::Tensor& x, const at::Tensor& delta,
                                       const at::Tensor& A, const at::Tensor& B,
                                       const at::Tensor& C, const OptionalTensor& D,
                                       const OptionalTensor& z, const OptionalTensor& delta_bias,
                                       bool delta_softplus, at::IntArrayRef orders) {
  return std::get<0>(
      forward_op(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders, false));
}

bool any_requires_grad(std::initializer_list<const at::Tensor*> tensors,
                       std::initializer_list<const OptionalTensor*> optionals) {
  for (const auto* tensor : tensors) {
    if (tensor->defined() && tensor->requires_grad()) return true;
  }
  for (const auto* tensor : optionals) {
    if (present(*tensor) && (*tensor)->requires_grad()) return true;
  }
  return false;
}

at::Tensor directions_autograd(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                               const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                               const OptionalTensor& z, const OptionalTensor& delta_bias,
                               bool delta_softplus, at::IntArrayRef orders) {
  if (at::GradMode::is_enabled() &&
      any_requires_grad({&x, &delta, &A, &B, &C}, {&D, &z, &delta_bias})) {
    return ScanFunction::apply(x, delta, A, B, C, present(D), present(z), present(delta_bias),
                               delta_softplus, orders.vec());
  }
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  return directions_op(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
}

// Data in the autocast type, parameters in float32.
template <at::DeviceType kDevice, c10::DispatchKey kKey>
at::Tensor directions_autocast(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                               const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                               const OptionalTensor& z, const OptionalTensor& delta_bias,
                               bool delta_softplus, at::IntArrayRef orders) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(kKey);
  const auto type = at::autocast::get_autocast_dtype(kDevice);
  const auto data = [&](const at::Tensor& tensor) {
    return at::autocast::cached_cast(type, tensor, kDevice);
  };
  const auto parameter = [&](const OptionalTensor& tensor) {
    return at::autocast::cached_cast(at::kFloat, tensor, kDevice);
  };
  return directions_op(data(x), data(delta), *parameter(A), data(B), data(C), parameter(D),
                       at::autocast::cached_cast(type, z, kDevice), parameter(delta_bias),
                       delta_softplus, orders);
}

// One direction in forward order. A composite of the operator above, so that every backend,
// autograd and autocast come with it.
at::Tensor scan_composite(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                          const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                          const OptionalTensor& z, const OptionalTensor& delta_bias,
                          bool delta_softplus) {
  constexpr const char* op = "selective_scan";
  check_shape(op, "x", x, {{"B", kAnySize}, {"L", kAnySize}, {"D", -1}});
  const auto batch = x.size(0), L = x.size(1), channels = x.size(2);
  check_shape(op, "delta", delta, {{"B", batch}, {"L", L}, {"D", channels}});
  check_shape(op, "A", A, {{"D", channels}, {"N", -1}});
  const auto N = A.size(1);
  check_shape(op, "B", B, {{"B", batch}, {"L", L}, {"N", N}});
  check_shape(op, "C", C, {{"B", batch}, {"L", L}, {"N", N}});
  if (present(D)) check_shape(op, "D", *D, {{"D", channels}});
  if (present(z)) check_shape(op, "z", *z, {{"B", batch}, {"L", L}, {"D", channels}});
  if (present(delta_bias)) check_shape(op, "delta_bias", *delta_bias, {{"D", channels}});
  const auto as_direction = [](const OptionalTensor& tensor) {
    return present(tensor) ? OptionalTensor(tensor->unsqueeze(0)) : std::nullopt;
  };
  return directions_op(x.unsqueeze(0), delta.unsqueeze(0), A.unsqueeze(0), B.unsqueeze(0),
                       C.unsqueeze(0), as_direction(D), z, as_direction(delta_bias), delta_softplus,
                       flatten_orders({ScanOrder::forward(L)}));
}

ScanForward forward_meta(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                         const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                         const OptionalTensor& z, const OptionalTensor& delta_bias,
                         bool delta_softplus, at::IntArrayRef orders, bool keep) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  return make_scan_forward(
      a, static_cast<std::int64_t>(kernels::scan_checkpoint_count_cpu(a.shape())), keep);
}

ScanBackward backward_meta(const at::Tensor& /*grad_out*/, const at::Tensor& x,
                           const at::Tensor& delta, const at::Tensor& A, const at::Tensor& B,
                           const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                           const OptionalTensor& delta_bias, bool delta_softplus,
                           at::IntArrayRef orders, const at::Tensor& ungated, const at::Tensor&) {
  return make_scan_backward({x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders},
                            ungated.numel() > 0);
}

ScanAdd add_meta(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                 const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                 const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus,
                 at::IntArrayRef orders, const at::Tensor& ungated, bool, bool keep, bool finish) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  return make_scan_add(a, ungated,
                       static_cast<std::int64_t>(kernels::scan_checkpoint_count_cpu(a.shape())),
                       keep, finish);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(segmamba, library) {
  library.def(
      "selective_scan(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, "
      "Tensor? z=None, Tensor? delta_bias=None, bool delta_softplus=False) -> Tensor",
      scan_composite);
  // orders: seven integers a direction, extent[3], stride[3], reversed (see ScanOrder).
  library.def(
      "selective_scan_directions(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, "
      "Tensor? z, Tensor? delta_bias, bool delta_softplus, int[] orders) -> Tensor");
  library.def(
      "_selective_scan_forward(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, "
      "Tensor? z, Tensor? delta_bias, bool delta_softplus, int[] orders, bool keep) -> "
      "(Tensor, Tensor, Tensor)");
  library.def(
      "_selective_scan_backward(Tensor grad_out, Tensor x, Tensor delta, Tensor A, Tensor B, "
      "Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, bool delta_softplus, int[] orders, "
      "Tensor ungated, Tensor checkpoints) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  // Some of the directions: their sum goes into `ungated`, where `adds` to what is there; the gated
  // result only where `finish`. Returns out and the checkpoints, empty where not asked for.
  library.def(
      "_selective_scan_add(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, "
      "Tensor? z, Tensor? delta_bias, bool delta_softplus, int[] orders, Tensor(a!) ungated, "
      "bool adds, bool keep, bool finish) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(segmamba, CompositeExplicitAutograd, library) {
  library.impl("selective_scan_directions", directions_without_gradient);
}
TORCH_LIBRARY_IMPL(segmamba, Autograd, library) {
  library.impl("selective_scan_directions", directions_autograd);
  // A second derivative is an error, not zero.
  library.impl("_selective_scan_backward", torch::autograd::autogradNotImplementedFallback());
}
TORCH_LIBRARY_IMPL(segmamba, AutocastCPU, library) {
  library.impl("selective_scan_directions",
               directions_autocast<at::kCPU, c10::DispatchKey::AutocastCPU>);
}
TORCH_LIBRARY_IMPL(segmamba, Autocast, library) {
  library.impl("selective_scan_directions",
               directions_autocast<at::kCUDA, c10::DispatchKey::Autocast>);
}
TORCH_LIBRARY_IMPL(segmamba, Meta, library) {
  library.impl("_selective_scan_forward", forward_meta);
  library.impl("_selective_scan_backward", backward_meta);
  library.impl("_selective_scan_add", add_meta);
}

at::Tensor selective_scan(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                          const at::Tensor& B, const at::Tensor& C,
                          const std::optional<at::Tensor>& D, const std::optional<at::Tensor>& z,
                          const std::optional<at::Tensor>& delta_bias, bool delta_softplus) {
  return scan_composite(x, delta, A, B, C, D, z, delta_bias, delta_softplus);
}

at::Tensor selective_scan_directions(const at::Tensor& x, const at::Tensor& delta,
                                     const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                     const std::optional<at::Tensor>& D,
                                     const std::optional<at::Tensor>& z,
                                     const std::optional<at::Tensor>& delta_bias,
                                     bool delta_softplus, const std::vector<ScanOrder>& orders) {
  return directions_op(x, delta, A, B, C, D, z, delta_bias, delta_softplus, flatten_orders(orders));
}

}  // namespace segmamba::ops
