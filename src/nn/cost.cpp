#include "segmamba/nn/cost.h"

#include <ATen/record_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cctype>

#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

struct Count {
  std::int64_t multiply_adds = 0;
  std::int64_t live_bytes = 0;
  std::int64_t peak_bytes = 0;
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

// LibTorch registers the meta kernels of these three in Python only.

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
    current->multiply_adds += each.numel() * (weight.numel() / weight.size(0));
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

}  // namespace

ForwardCost forward_cost(const ModelConfig& config, const std::vector<std::int64_t>& input_sizes) {
  torch::Library kernels(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
  kernels.impl("convolution_overrideable", convolution);
  kernels.impl("native_batch_norm", batch_norm);
  kernels.impl("native_layer_norm", layer_norm);
  const auto callback = at::addThreadLocalCallback(at::RecordFunctionCallback(count_products)
                                                       .needsInputs(true)
                                                       .scopes({at::RecordScope::FUNCTION}));
  static CountingAllocator allocator;
  auto* previous = c10::GetAllocator(c10::DeviceType::Meta);
  c10::SetAllocator(c10::DeviceType::Meta, &allocator);

  const auto finish = [&] {
    current = nullptr;
    c10::SetAllocator(c10::DeviceType::Meta, previous);
    at::removeCallback(callback);
  };
  ForwardCost cost;
  try {
    const auto model = make_model(config);
    // The parameters stay on the CPU: LibTorch cannot move a module to the meta device, and an
    // operator with any meta argument is dispatched to its meta kernel.
    const auto options = torch::TensorOptions(torch::kMeta);
    {
      const torch::NoGradGuard no_grad;
      Count count;
      current = &count;
      model->forward(torch::empty(input_sizes, options));
      cost.multiply_adds = count.multiply_adds;
      cost.inference_bytes = count.peak_bytes;
    }
    Count count;
    current = &count;
    const auto output = model->forward(torch::empty(input_sizes, options));
    cost.training_bytes = count.live_bytes;
    current = nullptr;
  } catch (...) {
    finish();
    throw;
  }
  finish();
  return cost;
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
