#include "segmamba/ops/mamba_inner.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "checks.h"
#include "conv_arguments.h"
#include "cpu.h"
#include "mamba_inner.h"
#include "scan_arguments.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/ops/causal_conv1d.h"

namespace segmamba::ops {
namespace {

// Parameters travel through schemas as a list: conv_weight, conv_bias, x_proj, dt_proj, A, D,
// delta_bias for mamba_inner(), and all but the first two for cross_scan(), whose scans are of x
// itself and whose sum is not gated.
constexpr std::size_t kInnerParameters = 7, kCrossScanParameters = 5;

struct InnerParameters : MambaParameters {
  bool convolves;  // mamba_inner()
};

InnerParameters parameters_of(at::TensorList list) {
  if (list.size() == kCrossScanParameters) {
    return {{{}, {}, list[0], list[1], list[2], list[3], list[4]}, /*convolves=*/false};
  }
  if (list.size() != kInnerParameters) {
    throw Error(
        concat("mamba_inner: parameters must be the list conv_weight, conv_bias, x_proj, dt_proj, "
               "A, D, delta_bias, got ",
               list.size(), " tensors"));
  }
  return {{list[0], list[1], list[2], list[3], list[4], list[5], list[6]}, /*convolves=*/true};
}

std::vector<at::Tensor> list_of(const InnerParameters& p) {
  if (!p.convolves) return {p.x_proj, p.dt_proj, p.A, p.D, p.delta_bias};
  return {p.conv_weight, p.conv_bias, p.x_proj, p.dt_proj, p.A, p.D, p.delta_bias};
}

// What errors call the operator and its data.
struct Names {
  const char* op;
  const char* data;
  const char* channels;
};

Names names_of(const InnerParameters& p) {
  return p.convolves ? Names{"mamba_inner", "xz", "2E"} : Names{"cross_scan", "x", "E"};
}

std::int64_t inner_size(const at::Tensor& xz, const InnerParameters& p) {
  return p.convolves ? xz.size(2) / 2 : xz.size(2);
}

void check_arguments(const at::Tensor& xz, const InnerParameters& p) {
  const auto [op, data, channels] = names_of(p);
  const bool convolves = p.convolves;
  check_shape(op, data, xz, {{"B", kAnySize}, {"L", kAnySize}, {channels, -1}});
  if (convolves && xz.size(2) % 2 != 0) {
    throw Error(concat(op, ": ", data, " must have an even number of channels, got ", xz.size(2)));
  }
  const auto E = inner_size(xz, p);
  check_shape(op, "A", p.A, {{"K", -1}, {"E", E}, {"N", -1}});
  const auto K = p.A.size(0), N = p.A.size(2);
  check_shape(op, "dt_proj", p.dt_proj, {{"K", K}, {"E", E}, {"R", -1}});
  check_shape(op, "x_proj", p.x_proj, {{"K", K}, {"R + 2N", p.dt_proj.size(2) + 2 * N}, {"E", E}});
  if (convolves) {
    check_shape(op, "conv_weight", p.conv_weight, {{"K", K}, {"E", E}, {"J", -1}});
    check_shape(op, "conv_bias", p.conv_bias, {{"K", K}, {"E", E}});
  }
  check_shape(op, "D", p.D, {{"K", K}, {"E", E}});
  check_shape(op, "delta_bias", p.delta_bias, {{"K", K}, {"E", E}});
  const auto state = state_type(op, data, xz.scalar_type());
  check_type(op, "x_proj", p.x_proj, xz.scalar_type(), xz, data);
  check_type(op, "dt_proj", p.dt_proj, xz.scalar_type(), xz, data);
  const std::pair<const char*, const at::Tensor*> others[] = {{"conv_weight", &p.conv_weight},
                                                              {"conv_bias", &p.conv_bias},
                                                              {"A", &p.A},
                                                              {"D", &p.D},
                                                              {"delta_bias", &p.delta_bias}};
  for (const auto& [name, tensor] : others) {
    if (convolves || tensor->defined()) check_type(op, name, *tensor, state, xz, data);
  }
}

std::vector<ScanOrder> check_orders(at::IntArrayRef orders, const InnerParameters& p) {
  const auto op = names_of(p).op;
  auto given = unflatten_orders(op, orders);
  const auto directions = p.A.size(0);
  if (static_cast<std::int64_t>(given.size()) != directions) {
    throw Error(
        concat(op, ": orders must name ", directions, " directions, as A has, got ", given.size()));
  }
  return given;
}

// The matrix units of a GPU take rows that begin at multiples of 16 bytes: there dt has zeros after
// its R columns, up to a multiple of eight. `to`: R with them.
std::int64_t aligned_rank(const at::Tensor& xz, const InnerParameters& p) {
  constexpr std::int64_t kMultiple = 8;
  const auto rank = p.dt_proj.size(2);
  return xz.is_cuda() ? (rank + kMultiple - 1) / kMultiple * kMultiple : rank;
}

InnerParameters with_rank(InnerParameters p, std::int64_t to) {
  const auto rank = p.dt_proj.size(2);
  if (to == rank) return p;
  const auto zeros = p.x_proj.new_zeros({p.x_proj.size(0), to - rank, p.x_proj.size(2)});
  const auto rest = p.x_proj.size(1) - rank;
  p.x_proj = at::cat({p.x_proj.narrow(1, 0, rank), zeros, p.x_proj.narrow(1, rank, rest)}, 1);
  p.dt_proj = at::constant_pad_nd(p.dt_proj, {0, to - rank});
  return p;
}

// One direction's arguments of the scan; x_k and what the projections make of it.
class Direction {
 public:
  Direction(const at::Tensor& xz, const InnerParameters& parameters, at::IntArrayRef orders,
            std::int64_t k)
      : p_(parameters), k_(k), order_(orders.slice(k * kOrderSize, kOrderSize)) {
    const auto batch = xz.size(0), length = xz.size(1), inner = inner_size(xz, p_);
    const auto rank = p_.dt_proj.size(2), states = p_.A.size(2);
    if (p_.convolves) {
      input_ = xz.narrow(-1, 0, inner);
      z_ = xz.narrow(-1, inner, inner);
      x_ = conv_op(input_, at(p_.conv_weight), at(p_.conv_bias), order_);
    } else {
      x_ = xz.unsqueeze(0);
    }
    projected_ = at::mm(rows(x_), p_.x_proj[k].t());  // [B L, R + 2N]
    dt_ = projected_.narrow(-1, 0, rank);
    delta_ = at::mm(dt_, p_.dt_proj[k].t()).view({1, batch, length, inner});
    const auto part = [&](std::int64_t start) {
      return projected_.narrow(-1, start, states).view({1, batch, length, states});
    };
    B_ = part(rank);
    C_ = part(rank + states);
  }

  // out (where `finish`) and the checkpoints.
  std::tuple<at::Tensor, at::Tensor> scan(const at::Tensor& ungated, bool keep, bool finish) const {
    return scan_add_op(x_, delta_, at(p_.A), B_, C_, at(p_.D), z_, at(p_.delta_bias), true, order_,
                       ungated, k_ > 0, keep, finish);
  }

  // Gradients of this direction's parameters, in their order; x's is added to x_sum. grad_z is set
  // where `ungated` is given.
  std::vector<at::Tensor> backward(const at::Tensor& grad_out, const at::Tensor& ungated,
                                   const at::Tensor& checkpoints, const at::Tensor& x_sum,
                                   at::Tensor& grad_z) const {
    auto [dx, ddelta, dA, dB, dC, dD, dz, dbias] =
        scan_backward_op(grad_out, x_, delta_, at(p_.A), B_, C_, at(p_.D), z_, at(p_.delta_bias),
                         true, order_, ungated, checkpoints);
    if (ungated.numel()) grad_z = dz;
    const auto ddelta_rows = rows(ddelta);
    const auto dprojected = at::cat({at::mm(ddelta_rows, p_.dt_proj[k_]), rows(dB), rows(dC)}, -1);
    const auto ddt_proj = at::mm(ddelta_rows.t(), dt_);
    const auto dx_proj = at::mm(dprojected.t(), rows(x_));
    rows(dx).addmm_(dprojected, p_.x_proj[k_]);
    if (!p_.convolves) {
      if (k_ > 0) {
        x_sum.add_(dx[0]);
      } else {
        x_sum.copy_(dx[0]);
      }
      return {dx_proj, ddt_proj, dA[0], dD[0], dbias[0]};
    }
    const auto [dweight, dconv_bias] = conv_backward_add_op(
        dx, input_, at(p_.conv_weight), at(p_.conv_bias), order_, x_sum, k_ > 0);
    return {dweight[0], dconv_bias[0], dx_proj, ddt_proj, dA[0], dD[0], dbias[0]};
  }

 private:
  static constexpr std::int64_t kOrderSize = 7;

  at::Tensor at(const at::Tensor& parameter) const { return parameter.narrow(0, k_, 1); }
  static at::Tensor rows(const at::Tensor& tensor) { return tensor.view({-1, tensor.size(-1)}); }

  const InnerParameters& p_;
  std::int64_t k_;
  at::IntArrayRef order_;
  at::Tensor input_, x_, projected_, dt_, delta_, B_, C_;
  OptionalTensor z_;
};

// out, the sum over directions in xz's type, and the checkpoints of each direction; the last two
// empty unless `keep`.
using InnerForward = std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>>;

InnerForward inner_forward(const at::Tensor& xz, at::TensorList parameters, at::IntArrayRef orders,
                           bool keep) {
  auto p = parameters_of(parameters);
  check_arguments(xz, p);
  check_orders(orders, p);
  p = with_rank(p, aligned_rank(xz, p));
  const auto K = p.A.size(0);
  const auto data = p.convolves ? xz : xz.contiguous();
  const auto ungated = empty_buffer({xz.size(0), xz.size(1), inner_size(xz, p)},
                                    xz.options().dtype(p.A.scalar_type()));
  at::Tensor out;
  std::vector<at::Tensor> checkpoints;
  for (std::int64_t k = 0; k < K; ++k) {
    auto [result, states] = Direction(data, p, orders, k).scan(ungated, keep, k + 1 == K);
    out = std::move(result);
    if (keep) checkpoints.push_back(std::move(states));
  }
  const bool keeps_sum = keep && p.convolves;  // for the gate's gradient
  return {out, keeps_sum ? ungated.to(xz.scalar_type()) : at::empty({0}, xz.options()),
          std::move(checkpoints)};
}

// Gradients of xz and of the parameters in their order.
std::tuple<at::Tensor, std::vector<at::Tensor>> inner_backward(
    const at::Tensor& grad_out, const at::Tensor& xz, at::TensorList parameters,
    at::IntArrayRef orders, const at::Tensor& ungated, at::TensorList checkpoints) {
  auto p = parameters_of(parameters);
  const auto rank = p.dt_proj.size(2), aligned = aligned_rank(xz, p);
  p = with_rank(p, aligned);
  const auto K = p.A.size(0), inner = inner_size(xz, p);
  const auto data = p.convolves ? xz : xz.contiguous();
  const auto state_options = xz.options().dtype(p.A.scalar_type());
  const auto x_sum = empty_buffer(grad_out.sizes(), state_options);
  const auto no_gate_gradient = at::empty({0}, state_options);
  const auto gradient = grad_out.contiguous();
  at::Tensor dz;
  std::vector<std::vector<at::Tensor>> pieces(parameters.size());
  for (std::int64_t k = 0; k < K; ++k) {
    const auto direction =
        Direction(data, p, orders, k)
            .backward(gradient, k == 0 ? ungated.to(p.A.scalar_type()) : no_gate_gradient,
                      checkpoints[k], x_sum, dz);
    for (std::size_t i = 0; i < pieces.size(); ++i) pieces[i].push_back(direction[i]);
  }
  const auto dxz = empty_buffer(xz.sizes(), xz.options());
  dxz.narrow(-1, 0, inner).copy_(x_sum);
  if (dz.defined()) dxz.narrow(-1, inner, inner).copy_(dz);  // undefined without tokens
  std::vector<at::Tensor> dparameters;
  for (const auto& piece : pieces) dparameters.push_back(at::stack(piece));
  if (aligned != rank) {
    auto& dx_proj = dparameters[p.convolves ? 2 : 0];
    auto& ddt_proj = dparameters[p.convolves ? 3 : 1];
    const auto rest = dx_proj.size(1) - aligned;
    dx_proj = at::cat({dx_proj.narrow(1, 0, rank), dx_proj.narrow(1, aligned, rest)}, 1);
    ddt_proj = ddt_proj.narrow(2, 0, rank).contiguous();
  }
  return {dxz, std::move(dparameters)};
}

at::Tensor inner_op(const at::Tensor& xz, at::TensorList parameters, at::IntArrayRef orders) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::mamba_inner", "")
                             .typed<decltype(inner_op)>();
  return op.call(xz, parameters, orders);
}

InnerForward inner_forward_op(const at::Tensor& xz, at::TensorList parameters,
                              at::IntArrayRef orders, bool keep) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_mamba_inner_forward", "")
                             .typed<decltype(inner_forward_op)>();
  return op.call(xz, parameters, orders, keep);
}

std::tuple<at::Tensor, std::vector<at::Tensor>> inner_backward_op(
    const at::Tensor& grad_out, const at::Tensor& xz, at::TensorList parameters,
    at::IntArrayRef orders, const at::Tensor& ungated, at::TensorList checkpoints) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_mamba_inner_backward", "")
                             .typed<decltype(inner_backward_op)>();
  return op.call(grad_out, xz, parameters, orders, ungated, checkpoints);
}

class InnerFunction : public torch::autograd::Function<InnerFunction> {
 public:
  // The parameters one by one: autograd does not look into lists.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& xz,
                            const OptionalTensor& conv_weight, const OptionalTensor& conv_bias,
                            const at::Tensor& x_proj, const at::Tensor& dt_proj,
                            const at::Tensor& A, const at::Tensor& D, const at::Tensor& delta_bias,
                            std::vector<std::int64_t> orders) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    const torch::autograd::variable_list parameters =
        conv_weight
            ? torch::autograd::variable_list{*conv_weight, *conv_bias, x_proj, dt_proj, A, D,
                                             delta_bias}
            : torch::autograd::variable_list{x_proj, dt_proj, A, D, delta_bias};
    auto [out, ungated, checkpoints] = inner_forward_op(xz, parameters, orders, true);
    torch::autograd::variable_list saved{xz, ungated};
    saved.insert(saved.end(), parameters.begin(), parameters.end());
    saved.insert(saved.end(), checkpoints.begin(), checkpoints.end());
    context->save_for_backward(saved);
    context->saved_data["parameters"] = static_cast<std::int64_t>(parameters.size());
    context->saved_data["orders"] = std::move(orders);
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_out) {
    const auto saved = context->get_saved_variables();
    const at::TensorList all(saved);
    const auto count = static_cast<std::size_t>(context->saved_data["parameters"].toInt());
    auto [xz, parameters] = inner_backward_op(grad_out[0], saved[0], all.slice(2, count),
                                              context->saved_data["orders"].toIntVector(), saved[1],
                                              all.slice(2 + count));
    torch::autograd::variable_list result{xz};
    result.resize(1 + kInnerParameters - count);  // none for the convolutions of cross_scan()
    result.insert(result.end(), parameters.begin(), parameters.end());
    result.emplace_back();
    return result;
  }
};

// Registered for every backend: nothing is kept for a backward.
at::Tensor inner_without_gradient(const at::Tensor& xz, at::TensorList parameters,
                                  at::IntArrayRef orders) {
  return std::get<0>(inner_forward_op(xz, parameters, orders, false));
}

// On the CPU one kernel for inference, where there are sequences enough for it. Where gradients are
// merely off (recomputation), bits must be those of training.
at::Tensor inner_cpu(const at::Tensor& xz, at::TensorList parameters, at::IntArrayRef orders) {
  if (!c10::InferenceMode::is_enabled()) return inner_without_gradient(xz, parameters, orders);
  const auto p = parameters_of(parameters);
  check_arguments(xz, p);
  if (!p.convolves) return inner_without_gradient(xz, parameters, orders);
  const auto maps = scan_maps(names_of(p).op, check_orders(orders, p), xz.size(1));
  const auto states = p.A.size(2), taps = p.conv_weight.size(2);
  at::Tensor out;
  for_element_type(xz, [&](auto element) {
    using T = decltype(element);
    using S = kernels::State<T>;
    std::vector<at::Tensor> held;
    const auto data = [&held](const at::Tensor& tensor) {
      held.push_back(tensor.contiguous());
      return held.back().const_data_ptr();
    };
    const auto number = [](std::int64_t size) { return static_cast<std::int32_t>(size); };
    kernels::MambaInner<T> inner{number(p.A.size(0)),
                                 number(xz.size(0)),
                                 number(xz.size(1)),
                                 number(xz.size(2) / 2),
                                 number(states),
                                 number(taps),
                                 number(p.dt_proj.size(2)),
                                 maps.data(),
                                 static_cast<const T*>(data(xz)),
                                 static_cast<const S*>(data(p.conv_weight)),
                                 static_cast<const S*>(data(p.conv_bias)),
                                 static_cast<const T*>(data(p.x_proj)),
                                 static_cast<const T*>(data(p.dt_proj)),
                                 static_cast<const S*>(data(p.A)),
                                 static_cast<const S*>(data(p.D)),
                                 static_cast<const S*>(data(p.delta_bias)),
                                 nullptr};
    if (states > kernels::kMaxStates || taps > kernels::kMaxTaps || !suits_mamba_inner(inner)) {
      return;
    }
    out = empty_buffer({xz.size(0), xz.size(1), xz.size(2) / 2}, xz.options());
    inner.out = static_cast<T*>(out.mutable_data_ptr());
    mamba_inner_forward_cpu(inner, cpu_workers());
  });
  return out.defined() ? out : inner_without_gradient(xz, parameters, orders);
}

at::Tensor inner_autograd(const at::Tensor& xz, at::TensorList parameters, at::IntArrayRef orders) {
  bool wants_gradient = xz.requires_grad();
  for (const auto& parameter : parameters) {
    wants_gradient = wants_gradient || parameter.requires_grad();
  }
  if (at::GradMode::is_enabled() && wants_gradient) {
    const auto p = parameters_of(parameters);
    const auto given = [&](const at::Tensor& tensor) {
      return p.convolves ? OptionalTensor(tensor) : std::nullopt;
    };
    return InnerFunction::apply(xz, given(p.conv_weight), given(p.conv_bias), p.x_proj, p.dt_proj,
                                p.A, p.D, p.delta_bias, orders.vec());
  }
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  return inner_op(xz, parameters, orders);
}

// Data and projections in the autocast type, the other parameters in float32.
template <at::DeviceType kDevice, c10::DispatchKey kKey>
at::Tensor inner_autocast(const at::Tensor& xz, at::TensorList parameters, at::IntArrayRef orders) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(kKey);
  const auto type = at::autocast::get_autocast_dtype(kDevice);
  auto p = parameters_of(parameters);
  const auto cast = [](at::ScalarType to, const at::Tensor& tensor) {
    return at::autocast::cached_cast(to, tensor, kDevice);
  };
  for (auto* projection : {&p.x_proj, &p.dt_proj}) *projection = cast(type, *projection);
  for (auto* other : {&p.conv_weight, &p.conv_bias, &p.A, &p.D, &p.delta_bias}) {
    if (other->defined()) *other = cast(at::kFloat, *other);
  }
  return inner_op(cast(type, xz), list_of(p), orders);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(segmamba, library) {
  // parameters: conv_weight, conv_bias, x_proj, dt_proj, A, D, delta_bias. Without the first two,
  // cross_scan() of xz.
  library.def("mamba_inner(Tensor xz, Tensor[] parameters, int[] orders) -> Tensor");
  library.def(
      "_mamba_inner_forward(Tensor xz, Tensor[] parameters, int[] orders, bool keep) -> "
      "(Tensor, Tensor, Tensor[])");
  library.def(
      "_mamba_inner_backward(Tensor grad_out, Tensor xz, Tensor[] parameters, int[] orders, "
      "Tensor ungated, Tensor[] checkpoints) -> (Tensor, Tensor[])");
}

TORCH_LIBRARY_IMPL(segmamba, CompositeExplicitAutograd, library) {
  library.impl("mamba_inner", inner_without_gradient);
  library.impl("_mamba_inner_forward", inner_forward);
  library.impl("_mamba_inner_backward", inner_backward);
}
TORCH_LIBRARY_IMPL(segmamba, CPU, library) { library.impl("mamba_inner", inner_cpu); }
TORCH_LIBRARY_IMPL(segmamba, Autograd, library) {
  library.impl("mamba_inner", inner_autograd);
  // A second derivative is an error, not zero.
  library.impl("_mamba_inner_backward", torch::autograd::autogradNotImplementedFallback());
}
TORCH_LIBRARY_IMPL(segmamba, AutocastCPU, library) {
  library.impl("mamba_inner", inner_autocast<at::kCPU, c10::DispatchKey::AutocastCPU>);
}
TORCH_LIBRARY_IMPL(segmamba, Autocast, library) {
  library.impl("mamba_inner", inner_autocast<at::kCUDA, c10::DispatchKey::Autocast>);
}

at::Tensor mamba_inner(const at::Tensor& xz, const MambaParameters& p,
                       const std::vector<ScanOrder>& orders) {
  return inner_op(xz, {p.conv_weight, p.conv_bias, p.x_proj, p.dt_proj, p.A, p.D, p.delta_bias},
                  flatten_orders(orders));
}

at::Tensor cross_scan(const at::Tensor& x, const CrossScanParameters& p,
                      const std::vector<ScanOrder>& orders) {
  return inner_op(x, {p.x_proj, p.dt_proj, p.A, p.D, p.delta_bias}, flatten_orders(orders));
}

}  // namespace segmamba::ops
