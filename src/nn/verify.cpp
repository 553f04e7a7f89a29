#include "segmamba/nn/verify.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>

#include "golden_file.h"
#include "meta_device.h"
#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_config.h"
#include "segmamba/nn/upstream_weights.h"
#include "segmamba/nn/vim_block.h"
#include "segmamba/nn/vss_block.h"

namespace segmamba::nn {
namespace {

using torch::Tensor;

constexpr auto kPrefix = GoldenFile::kPrefix;
// Allowed of the largest logit where the file does not say how far off float32 was.
constexpr double kUnknownFloat32 = 1e-3;

// A network, or a block of one, as the original runs it.
struct Subject {
  std::shared_ptr<torch::nn::Module> module;
  std::function<std::vector<Tensor>(const Tensor&)> forward;
  ModelConfig config;  // of a block: which network it is of
};

// What `make` makes; its errors are in the words of the original of `model`.
template <class Make>
auto made(const std::string& model, const std::string& origin, const Make& make) {
  try {
    return make();
  } catch (const Error& error) {
    throw Error(concat(origin, ": ", in_words_of_original(error.what(), model)));
  }
}

Subject vim_blocks(const Json& arguments, const std::string& origin) {
  const auto config = vim_blocks_from_upstream(arguments, origin);
  const auto blocks = std::make_shared<VimBlocksImpl>(
      config.depth, config.length,
      VimBlockOptions{
          .dim = config.dim, .state_size = config.d_state, .averages = config.if_divide_out});
  Subject subject{
      blocks,
      [blocks](const Tensor& tokens) { return std::vector<Tensor>{blocks->forward(tokens)}; },
      {}};
  subject.config.name = "vim";
  return subject;
}

Subject vmamba_block_2d(const std::string& name, const Json& arguments, const std::string& origin) {
  const auto config = vmamba_block_2d_from_upstream(arguments, origin);
  const VssBlockOptions options{.dim = config.dim,
                                .axes = 2,
                                .state_size = config.d_state,
                                .ssm_ratio = config.ssm_ratio,
                                .mlp_ratio = config.mlp_ratio,
                                .conv_bias = config.conv_bias,
                                .gate = config.forward_type == "v05"};
  const auto block = made(name, origin, [&] { return std::make_shared<VssBlockImpl>(options); });
  Subject subject{block,
                  [block, first = config.channel_first](const Tensor& image) {
                    if (first) return std::vector<Tensor>{block->forward(image)};
                    const auto output = block->forward(image.permute({0, 3, 1, 2}));
                    return std::vector<Tensor>{output.permute({0, 2, 3, 1})};
                  },
                  {}};
  subject.config.name = "vmamba";
  return subject;
}

Subject make_subject(const std::string& name, const Json& arguments, const std::string& origin) {
  if (name == "vim_blocks") return vim_blocks(arguments, origin);
  if (name == "vmamba_block_2d") return vmamba_block_2d(name, arguments, origin);
  const auto config = config_from_upstream(name, arguments, origin);
  const auto model = made(config.name, origin, [&] { return make_model(config); });
  const bool is_transbts = config.name == "transbts";
  return {model,
          [model, is_transbts, deep = config.deep_supervision](const Tensor& input) {
            auto logits =
                deep ? model->forward_deep(input) : std::vector<Tensor>{model->forward(input)};
            // The original returns probabilities.
            if (is_transbts) logits[0] = torch::softmax(logits[0], 1);
            return logits;
          },
          config};
}

// The file's weights under our names.
class OwnWeights {
 public:
  OwnWeights(const GoldenFile& golden, const ModelConfig& config)
      : config_(config), given_(golden.weights()) {
    prefixes_ = strip_prefixes(given_);
    tensors_ = adapt_state_dict(config_, given_).tensors;
  }

  void check(const torch::nn::Module& module) const { check_state_dict(module, completed(module)); }
  void load_into(torch::nn::Module& module) const { load_state_dict(module, completed(module)); }
  // Our name of a parameter of the file; nothing where the network has none, as its original never
  // uses it.
  std::optional<std::string> name_of(std::string name) const {
    for (const auto& prefix : prefixes_) {
      if (starts_with(name, prefix)) name = name.substr(prefix.size());
    }
    const auto found = given_.find(name);
    if (found == given_.end()) return name;
    const auto adapted = adapt_state_dict(config_, {*found}).tensors;
    if (adapted.empty()) return std::nullopt;
    return adapted.contains(name) ? name : adapted.begin()->first;
  }

 private:
  // Integer buffers may be left out: the network knows them.
  TensorMap completed(const torch::nn::Module& module) const {
    auto tensors = tensors_;
    for (const auto& [name, tensor] : state_dict(module)) {
      if (!torch::isFloatingType(tensor.scalar_type())) tensors.emplace(name, tensor);
    }
    return tensors;
  }

  ModelConfig config_;
  TensorMap given_, tensors_;
  std::vector<std::string> prefixes_;
};

double largest(const Tensor& tensor) { return tensor.abs().max().item<double>(); }

struct Gradient {
  double norm = 0, dot = 0;
};

Gradient summarise(const Tensor& gradient) {
  if (!gradient.defined()) return {};
  const auto flat = gradient.detach().to(torch::kFloat64).contiguous().flatten();
  const auto wave = torch::cos(0.7 * torch::arange(flat.size(0), flat.options()));
  return {flat.norm().item<double>(), flat.dot(wave).item<double>()};
}

// What the network makes of the file's input and weights.
struct Numbers {
  std::vector<Tensor> outputs;
  std::vector<Gradient> gradients;  // of the file's parameters, the input's last
};

// Multiplies every number by 1 + relative * (a normal random number of this seed).
using Nudge = std::function<Tensor(const Tensor&)>;
Nudge nudge(std::uint64_t seed, double relative) {
  return [generator = at::detail::createCPUGenerator(seed), relative](const Tensor& tensor) {
    if (!tensor.is_floating_point()) return tensor;
    return tensor * (1 + relative * torch::randn(tensor.sizes(), generator, torch::kFloat64));
  };
}

Numbers run(const GoldenFile& golden, const std::string& origin, torch::ScalarType type,
            const Nudge& nudged = {}) {
  Numbers numbers;
  const auto names = golden.output_names(), parameters = golden.parameters();
  // A copy: the gradient is none of the file's.
  auto input = golden.at("input").detach().to(type, /*non_blocking=*/false, /*copy=*/true);
  const auto make = [&] {
    return make_subject(golden.metadata("model"), golden.arguments(), origin);
  };
  // The network takes memory only where the weights are its own: it is as large as the file says.
  const auto shape = [&] {
    const OnMetaDevice meta;
    return make();
  }();
  const OwnWeights weights(golden, shape.config);
  weights.check(*shape.module);
  const auto subject = make();
  weights.load_into(*subject.module);
  subject.module->to(type);
  subject.module->eval();
  if (nudged) {
    const torch::NoGradGuard no_grad;
    input = nudged(input);
    for (auto& parameter : subject.module->parameters()) parameter.copy_(nudged(parameter));
  }
  input.requires_grad_();

  const auto outputs = subject.forward(input);
  if (outputs.size() != names.size()) {
    throw Error(
        concat(origin, ": holds ", names.size(), " outputs, the network has ", outputs.size()));
  }
  Tensor loss;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto& expected = golden.at(names[i]);
    if (outputs[i].sizes() != expected.sizes()) {
      throw Error(concat(origin, ": ", kPrefix, names[i], " has shape [",
                         join(expected.sizes(), ", "), "], the network's output [",
                         join(outputs[i].sizes(), ", "), "]"));
    }
    numbers.outputs.push_back(outputs[i].detach());
    const auto term = (outputs[i] * golden.loss_weights(names[i], outputs[i])).sum();
    loss = loss.defined() ? loss + term : term;
  }
  loss.backward();
  const auto own = subject.module->named_parameters();
  for (const auto& name : parameters) {
    const auto own_name = weights.name_of(name);
    if (!own_name) {
      numbers.gradients.emplace_back();
      continue;
    }
    const auto* parameter = own.find(*own_name);
    if (parameter == nullptr) throw Error(concat(origin, ": the network has no parameter ", name));
    numbers.gradients.push_back(summarise(parameter->grad()));
  }
  numbers.gradients.push_back(summarise(input.grad()));
  return numbers;
}

// The gradients of the file, with the scale that deviations are measured in.
class GoldenGradients {
 public:
  GoldenGradients(const GoldenFile& golden, bool exact)
      : exact_(exact), names_(golden.parameters()) {
    const auto count = std::ssize(names_);
    const auto norms = golden.numbers("grad_norm", count), dots = golden.numbers("grad_dot", count),
               of_input = golden.numbers("grad_input", 2);
    largest_ = std::max(largest(norms), 1e-300);
    for (std::int64_t i = 0; i < count; ++i) {
      gradients_.push_back({norms[i].item<double>(), dots[i].item<double>()});
    }
    names_.emplace_back("input");
    gradients_.push_back({of_input[0].item<double>(), of_input[1].item<double>()});
  }
  std::size_t size() const { return names_.size(); }
  const std::string& name(std::size_t i) const { return names_[i]; }
  const Gradient& operator[](std::size_t i) const { return gradients_[i]; }
  double scale(std::size_t i) const {
    return is_zero(i) ? largest_ : std::max(gradients_[i].norm, (exact_ ? 1e-6 : 1e-3) * largest_);
  }
  double allowed(std::size_t i) const {
    if (is_zero(i)) return kTrueZero;
    return exact_ ? 1e-6 : 5e-2;
  }

 private:
  static constexpr double kTrueZero = 1e-9;  // rounding of the original, not a gradient
  bool is_zero(std::size_t i) const {
    return exact_ && i + 1 < size() && gradients_[i].norm < kTrueZero;
  }

  bool exact_;
  std::vector<std::string> names_;
  std::vector<Gradient> gradients_;
  double largest_ = 0;
};

bool all_pass(const std::vector<Deviation>& list) {
  return std::all_of(list.begin(), list.end(), [](const auto& item) { return item.passes(); });
}

// Rounding can take a number over the kink of a ReLU, where gradients jump. What the gradients jump
// by in float64 when weights and input move as far as float32 rounds is allowed in float32, too.
void allow_jumps(const GoldenFile& golden, const std::string& origin,
                 const GoldenGradients& expected, Verification& result) {
  constexpr double kRounding = 5e-7;  // a few units of float32's last place
  constexpr int kNudges = 8;
  const auto before = result;
  const auto exact = run(golden, origin, torch::kFloat64);
  for (int seed = 0; seed < kNudges; ++seed) {
    if (all_pass(result.gradient_norms) && all_pass(result.gradient_dots)) break;
    const auto nudged = run(golden, origin, torch::kFloat64, nudge(seed, kRounding));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto &plain = exact.gradients[i], &moved = nudged.gradients[i];
      const auto allow = [&](Deviation& deviation, double jump) {
        deviation.allowed = std::max(deviation.allowed, 1.01 * jump / expected.scale(i));
      };
      allow(result.gradient_norms[i], std::abs(moved.norm - plain.norm));
      allow(result.gradient_dots[i], std::abs(moved.dot - plain.dot));
    }
  }
  std::vector<std::string> names;  // of what passes for that reason alone
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const bool passed = before.gradient_norms[i].passes() && before.gradient_dots[i].passes();
    const bool passes = result.gradient_norms[i].passes() && result.gradient_dots[i].passes();
    if (passes && !passed) names.push_back(expected.name(i));
  }
  if (names.empty()) return;
  const auto count = names.size();
  constexpr std::size_t kShown = 3;
  if (count > kShown) names.resize(kShown);
  result.notes.push_back(concat(count, count == 1 ? " gradient" : " gradients",
                                " may differ by more than ", before.gradient_norms[0].allowed,
                                ": in float64 they move as far when weights and input move by ",
                                kRounding, " of themselves (a kink of an activation): ",
                                join(names, ", "), count > kShown ? ", ..." : ""));
}

Verification verify_numbers(const TensorFile& file, const std::string& origin,
                            torch::ScalarType type) {
  const GoldenFile golden(file, origin);
  const bool exact = type == torch::kFloat64;
  Verification result;
  result.model = golden.metadata("model");
  const auto float32_error = golden.float32_error();
  const auto names = golden.output_names();
  const GoldenGradients expected(golden, exact);
  const auto numbers = run(golden, origin, type);
  if (!exact && !float32_error) {
    result.notes.push_back(concat("the file has no float32_max_abs_error: outputs may differ by ",
                                  kUnknownFloat32, " of the largest logit"));
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto logits = golden.at(names[i]).to(torch::kFloat64);
    const auto scale = std::max(largest(logits), 1e-300);
    const double in_float32 = float32_error ? 20 * *float32_error / scale : kUnknownFloat32;
    result.outputs.push_back({names[i],
                              largest(numbers.outputs[i].to(torch::kFloat64) - logits) / scale,
                              exact ? 1e-6 : in_float32});
    result.logits[kPrefix + names[i]] = numbers.outputs[i];
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& own = numbers.gradients[i];
    const auto add = [&](std::vector<Deviation>& list, double difference) {
      list.push_back(
          {expected.name(i), std::abs(difference) / expected.scale(i), expected.allowed(i)});
    };
    add(result.gradient_norms, own.norm - expected[i].norm);
    add(result.gradient_dots, own.dot - expected[i].dot);
  }
  if (!exact && !result.passes() && all_pass(result.outputs)) {
    allow_jumps(golden, origin, expected, result);
  }
  return result;
}

}  // namespace

bool Verification::passes() const {
  return all_pass(outputs) && all_pass(gradient_norms) && all_pass(gradient_dots);
}

Verification verify(const TensorFile& file, const std::string& origin, torch::ScalarType type) {
  try {
    return verify_numbers(file, origin, type);
  } catch (const c10::Error& error) {
    // Numbers that no check here knows to be wrong, as sizes that a block's config does not fit.
    const std::string what = error.what_without_backtrace();
    throw Error(printable(concat(origin, ": ", what.substr(0, what.find('\n')))));
  } catch (const Error& error) {
    const std::string what = error.what();
    // Names and values of the file; the network does not know whose input it refuses.
    throw Error(printable(starts_with(what, origin) ? what : concat(origin, ": ", what)));
  }
}

}  // namespace segmamba::nn
