#include "segmamba/nn/cost.h"

#include <ATen/ExpandUtils.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

struct Count {
  std::int64_t multiply_adds = 0;
  std::int64_t live_bytes = 0;
  std::int64_t peak_bytes = 0;
  bool unfolds = false;  // small convolutions, as LibTorch does on the CPU
};
// The count that is under way; meta kernels, callbacks and allocators carry no data of their own.
Count* current = nullptr;

// Tensors of the meta device have no memory: this keeps the books of what they would take.
class CountingAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (current == nullptr) return {nullptr, nullptr, &release, c10::DeviceType::Meta};
    current->live_bytes += static_cast<std::int64_t>(bytes);
    current->peak_bytes = std::max(current->peak_bytes, current->live_bytes);
    return {nullptr, new std::size_t(bytes), &release, c10::DeviceType::Meta};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void*, const void*, std::size_t) const override {}

 private:
  static void release(void* context) {
    const auto* bytes = static_cast<std::size_t*>(context);
    if (bytes != nullptr && current != nullptr) {
      current->live_bytes -= static_cast<std::int64_t>(*bytes);
    }
    delete bytes;
  }
};

// Whether LibTorch (use_mkldnn() of ATen/native/Convolution.cpp) leaves a float convolution of
// small filters to its own kernels, not to oneDNN.
bool is_small(const torch::Tensor& input, const torch::Tensor& weight) {
  constexpr std::int64_t kFewValues = 20480, kSmallFilter = 3;
  return input.dim() == 5 && input.size(0) == 1 && weight.size(4) <= kSmallFilter &&
         weight.size(4) > 1 && input.size(1) * input.size(2) * input.size(3) <= kFewValues;
}

// LibTorch registers the meta kernels of these in Python only.

torch::Tensor convolution(const torch::Tensor& input, const torch::Tensor& weight,
                          const std::optional<torch::Tensor>&, c10::SymIntArrayRef stride,
                          c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                          bool transposed, c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  std::vector<std::int64_t> sizes = {
      input.size(0), transposed ? weight.size(1) * groups.expect_int() : weight.size(0)};
  for (std::int64_t i = 0; i + 2 < input.dim(); ++i) {
    const auto at = [i](c10::SymIntArrayRef values) {
      return values[values.size() == 1 ? 0 : i].expect_int();
    };
    const auto size = input.size(i + 2), reach = at(dilation) * (weight.size(i + 2) - 1);
    sizes.push_back(transposed
                        ? (size - 1) * at(stride) - 2 * at(padding) + reach + at(output_padding) + 1
                        : (size + 2 * at(padding) - reach - 1) / at(stride) + 1);
  }
  auto output = torch::empty(sizes, input.options());
  // A transposed convolution multiplies every input by its filter, a plain one makes every output.
  const auto& each = transposed ? input : output;
  if (current != nullptr) {
    const auto filter = weight.numel() / weight.size(0);
    current->multiply_adds += each.numel() * filter;
    if (current->unfolds && groups == 1 && is_small(input, weight)) {
      // What each is multiplied with, side by side.
      torch::empty({each.numel() / each.size(1), filter}, input.options());
    }
  }
  return output;
}

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> batch_norm(
    const torch::Tensor& input, const std::optional<torch::Tensor>&,
    const std::optional<torch::Tensor>&, const std::optional<torch::Tensor>&,
    const std::optional<torch::Tensor>&, bool, double, double) {
  const auto statistic = torch::empty({input.size(1)}, input.options());
  return {torch::empty_like(input), statistic, torch::empty_like(statistic)};
}

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> layer_norm(
    const torch::Tensor& input, c10::SymIntArrayRef normalized, const std::optional<torch::Tensor>&,
    const std::optional<torch::Tensor>&, double) {
  auto sizes = input.sizes().vec();
  std::fill(sizes.end() - static_cast<std::ptrdiff_t>(normalized.size()), sizes.end(), 1);
  const auto statistic = torch::empty(sizes, input.options());
  return {torch::empty(input.sizes(), input.options()), statistic, torch::empty_like(statistic)};
}

using Gradients = std::tuple<torch::Tensor, torch::Tensor, torch::Tensor>;

torch::Tensor like_where(bool wanted, const torch::Tensor& tensor) {
  return wanted ? torch::empty(tensor.sizes(), tensor.options()) : torch::Tensor();
}

Gradients convolution_backward(const torch::Tensor& grad, const torch::Tensor& input,
                               const torch::Tensor& weight, c10::SymIntArrayRef,
                               c10::SymIntArrayRef, c10::SymIntArrayRef, bool, c10::SymIntArrayRef,
                               c10::SymInt, std::array<bool, 3> wanted) {
  return {like_where(wanted[0], input), like_where(wanted[1], weight),
          wanted[2] ? torch::empty({grad.size(1)}, weight.options()) : torch::Tensor()};
}

Gradients batch_norm_backward(const torch::Tensor&, const torch::Tensor& input,
                              const std::optional<torch::Tensor>& weight,
                              const std::optional<torch::Tensor>&,
                              const std::optional<torch::Tensor>&,
                              const std::optional<torch::Tensor>&,
                              const std::optional<torch::Tensor>&, bool, double,
                              std::array<bool, 3> wanted) {
  const auto of_channels = [&](bool is_wanted) {
    return is_wanted && weight ? like_where(true, *weight) : torch::Tensor();
  };
  return {like_where(wanted[0], input), of_channels(wanted[1]), of_channels(wanted[2])};
}

Gradients group_norm_backward(const torch::Tensor&, const torch::Tensor& input,
                              const torch::Tensor&, const torch::Tensor&,
                              const std::optional<torch::Tensor>& weight, c10::SymInt, c10::SymInt,
                              c10::SymInt, std::int64_t, std::array<bool, 3> wanted) {
  const auto of_channels = [&](bool is_wanted) {
    return is_wanted && weight ? like_where(true, *weight) : torch::Tensor();
  };
  return {like_where(wanted[0], input), of_channels(wanted[1]), of_channels(wanted[2])};
}

Gradients layer_norm_backward(const torch::Tensor&, const torch::Tensor& input, c10::SymIntArrayRef,
                              const torch::Tensor&, const torch::Tensor&,
                              const std::optional<torch::Tensor>& weight,
                              const std::optional<torch::Tensor>& bias,
                              std::array<bool, 3> wanted) {
  return {like_where(wanted[0], input), wanted[1] ? like_where(true, *weight) : torch::Tensor(),
          wanted[2] ? like_where(true, *bias) : torch::Tensor()};
}

torch::Tensor where(const torch::Tensor& condition, const torch::Tensor& input,
                    const torch::Tensor& other) {
  const auto sizes =
      at::infer_size(at::infer_size(condition.sizes(), input.sizes()), other.sizes());
  return torch::empty(sizes, input.options().dtype(at::result_type(input, other)));
}

// In attention, into what holds the result already.
torch::Tensor& where_out(const torch::Tensor&, const torch::Tensor&, const torch::Tensor&,
                         torch::Tensor& output) {
  return output;
}

torch::Tensor index_select(const torch::Tensor& input, std::int64_t dim,
                           const torch::Tensor& index) {
  auto sizes = input.sizes().vec();
  sizes.at(static_cast<std::size_t>(at::maybe_wrap_dim(dim, input.dim()))) = index.numel();
  return torch::empty(sizes, input.options());
}

std::tuple<torch::Tensor, torch::Tensor> log_sigmoid(const torch::Tensor& input) {
  return {torch::empty_like(input), torch::empty({0}, input.options())};
}

torch::Tensor log_sigmoid_backward(const torch::Tensor&, const torch::Tensor& input,
                                   const torch::Tensor&) {
  return torch::empty_like(input);
}

torch::Tensor embedding_dense_backward(const torch::Tensor& grad, const torch::Tensor&,
                                       c10::SymInt rows, c10::SymInt, bool) {
  return torch::empty({rows.expect_int(), grad.size(-1)}, grad.options());
}

// Attention by the fused kernels, which hold no number for each pair of tokens in the forward pass.
class FusedAttention : public torch::autograd::Function<FusedAttention> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& query, const torch::Tensor& key,
                               const torch::Tensor& value,
                               const std::optional<torch::Tensor>& bias) {
    const auto batch = query.size(0), heads = query.size(1), tokens = query.size(2);
    if (current != nullptr) {
      current->multiply_adds +=
          batch * heads * tokens * key.size(2) * (key.size(3) + value.size(3));
    }
    auto output =
        torch::empty({batch, tokens, heads, value.size(3)}, query.options()).transpose(1, 2);
    const auto log_sums =
        torch::empty({batch, heads, tokens}, query.options().dtype(torch::kFloat));
    context->save_for_backward(
        {query, key, value, bias.value_or(torch::Tensor()), output, log_sums});
    return output;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list&) {
    const auto saved = context->get_saved_variables();
    torch::autograd::variable_list gradients;
    for (std::size_t i = 0; i < 3; ++i) gradients.push_back(torch::empty_like(saved[i]));
    torch::Tensor of_bias;
    if (saved[3].defined() && saved[3].requires_grad()) {
      // One for every item comes first, and their sum then.
      const auto& query = saved[0];
      const auto of_items = torch::empty(
          {query.size(0), query.size(1), query.size(2), saved[1].size(2)}, query.options());
      of_bias = torch::empty(saved[3].sizes(), saved[3].options());
    }
    gradients.push_back(of_bias);
    return gradients;
  }
};

// On the CPU, the fused kernel gives no gradients of a bias and knows no dropout: others stand in.
bool always_fused_attention = true;

torch::Tensor attention(const torch::Tensor& query, const torch::Tensor& key,
                        const torch::Tensor& value, const std::optional<torch::Tensor>& bias,
                        double dropout, bool is_causal, std::optional<double> scale, bool) {
  const bool trains_bias = bias && bias->requires_grad();
  if (!always_fused_attention && (trains_bias || dropout > 0)) {
    return std::get<0>(at::_scaled_dot_product_attention_math(query, key, value, bias, dropout,
                                                              is_causal, std::nullopt, scale));
  }
  return FusedAttention::apply(query, key, value, bias);
}

std::unique_ptr<at::ObserverContext> count_products(const at::RecordFunction& function) {
  const std::string name = function.name();
  const auto inputs = function.inputs();
  const auto numel = [&](std::size_t i) { return inputs[i].toTensor().numel(); };
  const auto last_size = [&](std::size_t i) { return inputs[i].toTensor().size(-1); };
  if (current == nullptr) return nullptr;
  if (name == "aten::mm" || name == "aten::bmm") {
    current->multiply_adds += numel(0) * last_size(1);
  } else if (name == "aten::addmm") {
    current->multiply_adds += numel(1) * last_size(2);
  } else if (name == "segmamba::causal_conv1d_silu" &&
             c10::impl::tls_local_dispatch_key_set().excluded_.has_any(
                 c10::autograd_dispatch_keyset)) {
    // The operator is called twice, by its user and, below autograd, by itself; here x is
    // [B, L, D], weight [K, D, J].
    const auto& x = inputs[0].toTensor();
    current->multiply_adds += x.size(0) * x.size(1) * numel(1);
  } else if (name == "segmamba::_selective_scan_add") {
    current->multiply_adds += 3 * numel(0) * last_size(2);  // x [K, B, L, D], A [K, D, N]
  }
  return nullptr;
}

// Autocast knows no meta device. This does what it does for the operators of the models, under a
// dispatch key that nothing else uses.
constexpr auto kAutocastKey = c10::DispatchKey::AutocastPrivateUse1;
constexpr auto kAutocastDevice = torch::kPrivateUse1;

torch::Tensor cast(const torch::Tensor& tensor, torch::ScalarType type) {
  return tensor.defined() && tensor.is_floating_point() ? tensor.to(type) : tensor;
}

void call_with(const c10::OperatorHandle& op, torch::jit::Stack* stack, torch::ScalarType type) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(kAutocastKey);
  const auto count = op.schema().arguments().size();
  for (auto argument = stack->end() - static_cast<std::ptrdiff_t>(count); argument != stack->end();
       ++argument) {
    if (argument->isTensor()) *argument = cast(argument->toTensor(), type);
  }
  op.callBoxed(stack);
}
void call_with_autocast_type(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  call_with(op, stack, at::autocast::get_autocast_dtype(kAutocastDevice));
}
void call_with_float(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  call_with(op, stack, torch::kFloat);
}
// As ops/mamba_inner.cpp: data and projections in the autocast type, the rest in float32.
void call_mamba_inner(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto type = at::autocast::get_autocast_dtype(kAutocastDevice);
  auto& list = stack->end()[-2];  // of xz, parameters, orders
  auto parameters = list.toTensorVector();
  // Before A, D and delta_bias, whatever precedes them.
  for (const std::size_t behind : {5, 4}) {
    auto& projection = parameters[parameters.size() - behind];
    projection = cast(projection, type);
  }
  list = std::move(parameters);
  call_with(op, stack, type);
}

// Counts what the calling thread does on the meta device for as long as it lives.
class Counting {
 public:
  explicit Counting(torch::DeviceType device = torch::kCUDA)
      : meta_(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__),
        autograd_(torch::Library::IMPL, "aten", c10::DispatchKey::AutogradMeta, __FILE__, __LINE__),
        other_autocast_(torch::Library::IMPL, "_", kAutocastKey, __FILE__, __LINE__),
        autocast_(torch::Library::IMPL, "aten", kAutocastKey, __FILE__, __LINE__),
        own_autocast_(torch::Library::IMPL, "segmamba", kAutocastKey, __FILE__, __LINE__),
        callback_(at::addThreadLocalCallback(at::RecordFunctionCallback(count_products)
                                                 .needsInputs(true)
                                                 .scopes({at::RecordScope::FUNCTION}))) {
    meta_.impl("convolution_overrideable", convolution);
    meta_.impl("convolution_backward_overrideable", convolution_backward);
    meta_.impl("native_batch_norm", batch_norm);
    meta_.impl("native_batch_norm_backward", batch_norm_backward);
    meta_.impl("native_layer_norm", layer_norm);
    meta_.impl("native_layer_norm_backward", layer_norm_backward);
    meta_.impl("native_group_norm_backward", group_norm_backward);
    meta_.impl("where.self", where);
    meta_.impl("where.self_out", where_out);
    meta_.impl("index_select", index_select);
    meta_.impl("log_sigmoid_forward", log_sigmoid);
    meta_.impl("log_sigmoid_backward", log_sigmoid_backward);
    meta_.impl("embedding_dense_backward", embedding_dense_backward);
    always_fused_attention = device != torch::kCPU;
    autograd_.impl("scaled_dot_product_attention", attention);
    other_autocast_.fallback(torch::CppFunction::makeFallthrough());
    for (const char* name :
         {"conv3d", "conv_transpose3d.input", "linear", "scaled_dot_product_attention"}) {
      autocast_.impl(name, torch::CppFunction::makeFromBoxedFunction<call_with_autocast_type>());
    }
    if (device == torch::kCUDA) {
      for (const char* name : {"layer_norm", "group_norm"}) {
        autocast_.impl(name, torch::CppFunction::makeFromBoxedFunction<call_with_float>());
      }
    }
    own_autocast_.impl("mamba_inner",
                       torch::CppFunction::makeFromBoxedFunction<call_mamba_inner>());
    static CountingAllocator allocator;
    c10::SetAllocator(c10::DeviceType::Meta, &allocator);
  }
  ~Counting() {
    current = nullptr;
    c10::SetAllocator(c10::DeviceType::Meta, allocator_before_);
    at::removeCallback(callback_);
  }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

  // What is live from here on.
  Count& start() {
    count_ = {};
    current = &count_;
    return count_;
  }

 private:
  c10::Allocator* allocator_before_ = c10::GetAllocator(c10::DeviceType::Meta);
  torch::Library meta_, autograd_, other_autocast_, autocast_, own_autocast_;
  at::CallbackHandle callback_;
  Count count_;
};

class MetaAutocast {
 public:
  explicit MetaAutocast(std::optional<torch::ScalarType> type) {
    if (!type) return;
    include_.emplace(kAutocastKey);
    at::autocast::set_autocast_enabled(kAutocastDevice, true);
    at::autocast::set_autocast_dtype(kAutocastDevice, *type);
  }
  ~MetaAutocast() { at::autocast::set_autocast_enabled(kAutocastDevice, false); }
  MetaAutocast(const MetaAutocast&) = delete;
  MetaAutocast& operator=(const MetaAutocast&) = delete;

 private:
  std::optional<c10::impl::IncludeDispatchKeyGuard> include_;
};

torch::TensorOptions meta() { return torch::TensorOptions(torch::kMeta); }

}  // namespace

ForwardCost forward_cost(const ModelConfig& config, const std::vector<std::int64_t>& input_sizes,
                         torch::DeviceType device) {
  const auto model = make_meta_model(config);
  const torch::NoGradGuard no_grad;
  Counting counting;
  auto& count = counting.start();
  count.unfolds = device == torch::kCPU;
  model->forward(torch::empty(input_sizes, meta()));
  return {count.multiply_adds, count.peak_bytes};
}

TrainingCost training_cost(const ModelConfig& config, const TrainingPass& pass) {
  const auto model = make_meta_model(config);
  model->set_recomputed(pass.recomputed);
  for (auto& parameter : model->parameters()) {
    parameter.mutable_grad() = torch::empty_like(parameter);
  }
  Counting counting(pass.device);
  const auto& count = counting.start();
  TrainingCost cost;
  std::vector<torch::Tensor> outputs;
  {
    const MetaAutocast autocast(pass.autocast);
    outputs = model->forward_deep(torch::empty(pass.input_sizes, meta()));
  }
  cost.kept_bytes = count.live_bytes;
  if (pass.loss) {
    pass.loss(outputs).backward();
  } else {
    std::vector<torch::Tensor> gradients;
    for (const auto& output : outputs) gradients.push_back(torch::empty_like(output));
    torch::autograd::backward(outputs, gradients);
  }
  cost.peak_bytes = count.peak_bytes;
  return cost;
}

std::vector<std::pair<std::string, std::int64_t>> bytes_kept_by_part(
    const ModelConfig& config, const std::vector<std::int64_t>& input_sizes) {
  const auto model = make_meta_model(config);
  Counting counting;
  const auto kept = [&](const std::vector<std::string>& recomputed) {
    model->set_recomputed(recomputed);
    const auto& count = counting.start();
    const auto outputs = model->forward_deep(torch::empty(input_sizes, meta()));
    return count.live_bytes;
  };
  const auto all = kept({});
  std::vector<std::pair<std::string, std::int64_t>> parts;
  for (const auto& name : model->parts()) parts.emplace_back(name, all - kept({name}));
  return parts;
}

std::vector<std::pair<std::string, std::int64_t>> parameters_by_part(
    const torch::nn::Module& module) {
  std::vector<std::pair<std::string, std::int64_t>> parts;
  for (const auto& parameter : module.named_parameters()) {
    const auto words = split(parameter.key(), '.');
    const auto index = std::find_if(words.begin(), words.end(), [](const std::string& word) {
      return std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isdigit(c); });
    });
    const auto part = index == words.end()
                          ? words[0]
                          : join(std::vector<std::string>(words.begin(), index + 1), ".");
    if (parts.empty() || parts.back().first != part) parts.emplace_back(part, 0);
    parts.back().second += parameter->numel();
  }
  return parts;
}

std::int64_t parameter_count(const torch::nn::Module& module) {
  std::int64_t count = 0;
  for (const auto& parameter : module.parameters()) count += parameter.numel();
  return count;
}

}  // namespace segmamba::nn
