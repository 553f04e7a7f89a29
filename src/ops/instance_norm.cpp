#include "segmamba/ops/instance_norm.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <torch/library.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "cpu.h"
#include "norm_arguments.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::ops {
namespace {

constexpr const char* kOp = "instance_norm";

void check(const at::Tensor& x, const AfterNorm& after) {
  const auto state = state_type(kOp, "x", x.scalar_type());
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

// Another tensor in the memory of `tensor`, which autograd takes for no view of it.
at::Tensor in_memory_of(const at::Tensor& tensor) {
  return at::empty({0}, tensor.options())
      .set_(tensor.storage(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
}

Others others_of(const AfterNorm& after) {
  Others others;
  for (const auto& tensor : {after.shortcut, after.residual, after.weight, after.bias,
                             after.shortcut_weight, after.shortcut_bias}) {
    others.push_back(tensor.defined() ? OptionalTensor(tensor) : std::nullopt);
  }
  return others;
}

NormForward forward_op(const at::Tensor& x, const Others& others, bool normalises_shortcut,
                       double slope, bool overwrites) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_instance_norm_forward", "")
                             .typed<decltype(forward_op)>();
  return op.call(x, others, normalises_shortcut, slope, overwrites);
}

NormBackward backward_op(const at::Tensor& grad_out, const at::Tensor& kept, bool is_output,
                         const Others& others, bool normalises_shortcut, double slope,
                         const at::Tensor& statistics, std::array<bool, 5> wanted) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("segmamba::_instance_norm_backward", "")
                             .typed<decltype(backward_op)>();
  return op.call(grad_out, kept, is_output, others, normalises_shortcut, slope, statistics, wanted);
}

// AfterNorm::form_shortcut as autograd keeps it.
struct ShortcutForm : torch::CustomClassHolder {
  explicit ShortcutForm(std::function<at::Tensor()> function) : form(std::move(function)) {}
  std::function<at::Tensor()> form;
};

class NormFunction : public torch::autograd::Function<NormFunction> {
  // The tensors among forward()'s arguments, in their order.
  enum Argument {
    kX,
    kShortcut,
    kResidual,
    kWeight,
    kBias,
    kShortcutWeight,
    kShortcutBias,
    kArguments
  };
  static constexpr std::size_t kShortcutSaved = 2;  // place among what is saved

 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const OptionalTensor& shortcut, const OptionalTensor& residual,
                            const OptionalTensor& weight, const OptionalTensor& bias,
                            const OptionalTensor& shortcut_weight,
                            const OptionalTensor& shortcut_bias, bool normalises_shortcut,
                            double slope, bool overwrites,
                            const std::function<at::Tensor()>& form_shortcut) {
    const Others others({shortcut, residual, weight, bias, shortcut_weight, shortcut_bias});
    // The output says what x was, and the next layer keeps it anyway.
    const bool keeps_output =
        slope > 0 && !residual && !weight && !bias && !shortcut_weight && !shortcut_bias;
    NormForward result;
    {
      at::AutoDispatchBelowADInplaceOrView below_autograd;
      result = forward_op(x, others, normalises_shortcut, slope, overwrites && keeps_output);
    }
    const auto& [out, statistics] = result;
    torch::autograd::variable_list saved{statistics, keeps_output ? out : x};
    for (const auto& tensor : {shortcut, weight, bias, shortcut_weight, shortcut_bias}) {
      saved.push_back(tensor.value_or(at::Tensor()));
    }
    if (shortcut && form_shortcut) {
      saved[kShortcutSaved] = at::Tensor();
      context->saved_data["form_shortcut"] =
          c10::IValue::make_capsule(c10::make_intrusive<ShortcutForm>(form_shortcut));
    }
    context->save_for_backward(saved);
    context->saved_data["keeps_output"] = keeps_output;
    context->saved_data["normalises_shortcut"] = normalises_shortcut;
    context->saved_data["slope"] = slope;
    std::vector<bool> given{true};
    for (std::size_t i = 0; i < others.size(); ++i) given.push_back(others.get(i).has_value());
    context->saved_data["given"] = given;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_out) {
    auto saved = context->get_saved_variables();
    if (const auto form = context->saved_data.find("form_shortcut");
        form != context->saved_data.end()) {
      saved[kShortcutSaved] =
          c10::static_intrusive_pointer_cast<ShortcutForm>(form->second.toCapsule())->form();
    }
    const bool normalises = context->saved_data["normalises_shortcut"].toBool();
    const AfterNorm after = {.shortcut = saved[kShortcutSaved],
                             .normalises_shortcut = normalises,
                             .weight = saved[3],
                             .bias = saved[4],
                             .shortcut_weight = saved[5],
                             .shortcut_bias = saved[6]};
    // Edges count the tensors that were given.
    std::array<bool, kArguments> wants{};
    const auto given = context->saved_data["given"].toBoolList();
    std::size_t edge = 0;
    for (std::size_t i = 0; i < wants.size(); ++i) {
      if (given.get(i)) wants[i] = context->needs_input_grad(edge++);
    }
    const auto [x, shortcut, weight, bias, shortcut_weight] =
        backward_op(grad_out[0], saved[1], context->saved_data["keeps_output"].toBool(),
                    others_of(after), normalises, context->saved_data["slope"].toDouble(), saved[0],
                    {wants[kX], wants[kShortcut], wants[kWeight],
                     wants[kBias] || wants[kShortcutBias], wants[kShortcutWeight]});
    const auto where = [&wants](Argument argument, const at::Tensor& gradient) {
      return wants[argument] ? gradient : at::Tensor();
    };
    return {x,
            shortcut,
            where(kResidual, grad_out[0]),
            weight,
            where(kBias, bias),
            shortcut_weight,
            // Two parameters that are one sum: each needs a gradient that it may change.
            wants[kBias] && wants[kShortcutBias] ? bias.clone() : where(kShortcutBias, bias),
            {},
            {},
            {},
            {}};
  }
};

NormForward forward_meta(const at::Tensor& x, const Others& others, bool normalises_shortcut,
                         double slope, bool overwrites) {
  return make_norm_forward({x, after_norm(others, normalises_shortcut, slope)}, overwrites);
}

NormBackward backward_meta(const at::Tensor&, const at::Tensor& kept, bool, const Others& others,
                           bool normalises_shortcut, double slope, const at::Tensor&,
                           std::array<bool, 5> wanted) {
  return make_norm_backward({kept, after_norm(others, normalises_shortcut, slope)}, wanted);
}

}  // namespace

AfterNorm after_norm(const Others& others, bool normalises_shortcut, double slope) {
  const auto given = [&others](std::size_t i) { return others.get(i).value_or(at::Tensor()); };
  return {.shortcut = given(0),
          .normalises_shortcut = normalises_shortcut,
          .slope = slope,
          .residual = given(1),
          .weight = given(2),
          .bias = given(3),
          .shortcut_weight = given(4),
          .shortcut_bias = given(5)};
}

NormArguments::NormArguments(const at::Tensor& x_, const AfterNorm& after_)
    : after(after_), format(x_.suggest_memory_format()) {
  check(x_, after_);
  // No copies of what is laid out already: references to x are counted.
  x = x_.contiguous(format);
  for (auto* volume : {&after.shortcut, &after.residual}) {
    if (volume->defined()) *volume = volume->contiguous(format);
  }
  for (auto* values : {&after.weight, &after.bias, &after.shortcut_weight, &after.shortcut_bias}) {
    if (values->defined()) *values = values->contiguous();
  }
}

kernels::VolumeShape NormArguments::shape() const {
  const auto items = x.size(0), channels = x.size(1);
  return {items, channels, x.numel() / std::max<std::int64_t>(items * channels, 1),
          format != at::MemoryFormat::Contiguous};
}

NormForward make_norm_forward(const NormArguments& a, bool overwrites) {
  const auto state = state_type(kOp, "x", a.x.scalar_type());
  return {overwrites ? in_memory_of(a.x) : empty_buffer(a.x.sizes(), a.x.options(), a.format),
          at::empty({a.normalises_shortcut() ? 4 : 2, a.x.size(0), a.x.size(1)},
                    a.x.options().dtype(state))};
}

NormBackward make_norm_backward(const NormArguments& a, std::array<bool, 5> wanted) {
  const auto state = state_type(kOp, "x", a.x.scalar_type());
  const auto volume = [&](bool is_wanted) {
    return is_wanted ? empty_buffer(a.x.sizes(), a.x.options(), a.format) : at::Tensor();
  };
  // Without voxels no kernel runs, and parameters have no gradient.
  const auto of_channels = [&](bool is_wanted) {
    return is_wanted ? at::zeros({a.x.size(1)}, a.x.options().dtype(state)) : at::Tensor();
  };
  return {volume(wanted[0]), volume(wanted[1]), of_channels(wanted[2]), of_channels(wanted[3]),
          of_channels(wanted[4])};
}

TORCH_LIBRARY_FRAGMENT(segmamba, library) {
  // others: shortcut, residual, weight, bias, shortcut_weight, shortcut_bias; overwrites: out takes
  // the memory of x.
  library.def(
      "_instance_norm_forward(Tensor x, Tensor?[] others, bool normalises_shortcut, float slope, "
      "bool overwrites) -> (Tensor, Tensor)");
  // kept: out (is_output) or x; wanted: gradients of x, shortcut, weight, both biases,
  // shortcut_weight.
  library.def(
      "_instance_norm_backward(Tensor grad_out, Tensor kept, bool is_output, Tensor?[] others, "
      "bool normalises_shortcut, float slope, Tensor statistics, bool[5] wanted) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(segmamba, Meta, library) {
  library.impl("_instance_norm_forward", forward_meta);
  library.impl("_instance_norm_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(segmamba, Autograd, library) {
  // A second derivative is an error, not zero.
  library.impl("_instance_norm_backward", torch::autograd::autogradNotImplementedFallback());
}

at::Tensor instance_norm(at::Tensor x, const AfterNorm& after) {
  const bool overwrites = is_last_reference(x) && x.is_non_overlapping_and_dense() &&
                          x.is_contiguous(x.suggest_memory_format());
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
  };
  bool wants_gradient = false;
  for (const auto& tensor : {x, after.shortcut, after.residual, after.weight, after.bias,
                             after.shortcut_weight, after.shortcut_bias}) {
    wants_gradient = wants_gradient || (tensor.defined() && tensor.requires_grad());
  }
  if (at::GradMode::is_enabled() && wants_gradient) {
    check(x, after);
    return NormFunction::apply(
        x, optional(after.shortcut), optional(after.residual), optional(after.weight),
        optional(after.bias), optional(after.shortcut_weight), optional(after.shortcut_bias),
        after.normalises_shortcut, after.slope, overwrites, after.form_shortcut);
  }
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  return std::get<0>(
      forward_op(x, others_of(after), after.normalises_shortcut, after.slope, overwrites));
}

}  // namespace segmamba::ops
