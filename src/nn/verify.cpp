#include "segmamba/nn/verify.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <type_traits>

#include "printable.h"
#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/upstream_config.h"
#include "segmamba/nn/vim_block.h"
#include "segmamba/nn/vss_block.h"

namespace segmamba::nn {
namespace {

using torch::Tensor;

constexpr auto kPrefix = "golden/";

// A network, or a block of one, as the original runs it.
struct Subject {
  std::shared_ptr<torch::nn::Module> module;
  std::function<std::vector<Tensor>(const Tensor&)> forward;
};

template <class Block>
Subject block_subject(const std::shared_ptr<Block>& block) {
  return {block,
          [block](const Tensor& input) { return std::vector<Tensor>{block->forward(input)}; }};
}

// Arguments of a block, each of which has a default here or must be given.
class Arguments {
 public:
  Arguments(const Json& json, std::string origin) : json_(json), origin_(std::move(origin)) {}

  template <class T>
  T get(const char* name, const std::optional<T>& fallback = std::nullopt) {
    names_.insert(name);
    if (!json_.contains(name)) {
      if (fallback) return *fallback;
      throw Error(concat(origin_, ": config has no ", name));
    }
    T value;
    try {
      value = json_.at(name).template get<T>();
    } catch (const Json::exception& error) {
      throw Error(concat(origin_, ": config: ", name, ": ", error.what()));
    }
    if constexpr (std::is_same_v<T, std::int64_t>) {
      if (value < 1) throw Error(concat(origin_, ": config: ", name, " must be at least 1"));
    }
    return value;
  }
  // Throws Error where there are others.
  void check_all_known() const {
    for (const auto& [name, value] : json_.items()) {
      if (!names_.contains(name)) throw Error(concat(origin_, ": config: ", name, " is unknown"));
    }
  }

 private:
  const Json& json_;
  std::string origin_;
  std::set<std::string> names_;
};

using Integer = std::int64_t;

Subject vim_blocks(const Json& json, const std::string& origin) {
  Arguments arguments(json, origin);
  const auto depth = arguments.get<Integer>("depth"), length = arguments.get<Integer>("length");
  const VimBlockOptions options{.dim = arguments.get<Integer>("dim"),
                                .state_size = arguments.get<Integer>("d_state", 16),
                                .averages = arguments.get<bool>("if_divide_out", true)};
  arguments.check_all_known();
  return block_subject(std::make_shared<VimBlocksImpl>(depth, length, options));
}

Subject vss_block_2d(const Json& json, const std::string& origin) {
  Arguments arguments(json, origin);
  const auto type = arguments.get<std::string>("forward_type", "v05_noz");
  if (type != "v05" && type != "v05_noz") {
    throw Error(concat(origin, ": forward_type \"", type, "\" is none of v05, v05_noz"));
  }
  const VssBlockOptions options{.dim = arguments.get<Integer>("dim"),
                                .axes = 2,
                                .state_size = arguments.get<Integer>("d_state", 1),
                                .ssm_ratio = arguments.get<double>("ssm_ratio", 1),
                                .mlp_ratio = arguments.get<double>("mlp_ratio", 4),
                                .conv_bias = arguments.get<bool>("conv_bias", false),
                                .gate = type == "v05"};
  arguments.check_all_known();
  return block_subject(std::make_shared<VssBlockImpl>(options));
}

Subject make_subject(const std::string& name, const Json& arguments, const std::string& origin) {
  if (name == "vim_blocks") return vim_blocks(arguments, origin);
  if (name == "vmamba_block_2d") return vss_block_2d(arguments, origin);
  const auto config = config_from_upstream(name, arguments, origin);
  const auto model = make_model(config);
  const bool is_transbts = config.name == "transbts";
  return {model, [model, is_transbts, deep = config.deep_supervision](const Tensor& input) {
            auto logits =
                deep ? model->forward_deep(input) : std::vector<Tensor>{model->forward(input)};
            // The original returns probabilities.
            if (is_transbts) logits[0] = torch::softmax(logits[0], 1);
            return logits;
          }};
}

class Golden {
 public:
  Golden(const TensorFile& file, std::string origin) : file_(file), origin_(std::move(origin)) {}

  const std::string& metadata(const std::string& key) const {
    const auto found = file_.metadata.find(key);
    if (found == file_.metadata.end()) throw Error(concat(origin_, ": no metadata ", key));
    return found->second;
  }
  Json json(const std::string& key) const {
    return parse_json(metadata(key), concat(origin_, " (", key, ")"));
  }
  bool has(const std::string& name) const { return file_.tensors.contains(kPrefix + name); }
  // A tensor of real numbers.
  const Tensor& at(const std::string& name) const {
    const auto found = file_.tensors.find(kPrefix + name);
    if (found == file_.tensors.end()) throw Error(concat(origin_, ": no tensor ", kPrefix, name));
    if (!torch::isFloatingType(found->second.scalar_type())) {
      throw Error(concat(origin_, ": ", kPrefix, name,
                         " is no tensor of floating-point numbers, but of ",
                         torch::toString(found->second.scalar_type())));
    }
    if (found->second.numel() == 0) throw Error(concat(origin_, ": ", kPrefix, name, " is empty"));
    return found->second;
  }
  // Numbers in a row, `count` of them where that is given.
  Tensor numbers(const std::string& name, std::optional<std::int64_t> count = std::nullopt) const {
    const auto& tensor = at(name);
    if (tensor.dim() != 1) {
      throw Error(concat(origin_, ": ", kPrefix, name, " must have one dimension, not shape [",
                         join(tensor.sizes(), ", "), "]"));
    }
    if (count && tensor.size(0) != *count) {
      throw Error(
          concat(origin_, ": ", kPrefix, name, " has ", tensor.size(0), " numbers, not ", *count));
    }
    return tensor.to(torch::kFloat64);
  }
  std::vector<std::string> parameters() const {
    const auto list = json("parameters");
    if (!list.is_array() || list.empty() ||
        !std::all_of(list.begin(), list.end(), [](const Json& item) { return item.is_string(); })) {
      throw Error(origin_ + ": metadata parameters must be a list of texts, one at least");
    }
    return list.get<std::vector<std::string>>();
  }
  // How far off float32 was, where the file says so.
  std::optional<double> float32_error() const {
    const auto found = file_.metadata.find("float32_max_abs_error");
    if (found == file_.metadata.end()) return std::nullopt;
    const auto& text = found->second;
    double error = 0;
    const auto* end = text.data() + text.size();
    const auto [rest, code] = std::from_chars(text.data(), end, error);
    if (code != std::errc() || rest != end || !std::isfinite(error) || error < 0) {
      throw Error(concat(origin_,
                         ": metadata float32_max_abs_error must be a number from 0 up, not \"",
                         text, "\""));
    }
    return error;
  }
  std::vector<std::string> output_names() const {
    std::vector<std::string> names;
    if (has("logits")) return {"logits"};
    while (has(concat("logits.", names.size()))) names.push_back(concat("logits.", names.size()));
    if (names.empty()) throw Error(concat(origin_, ": no tensor ", kPrefix, "logits"));
    return names;
  }
  std::map<std::string, Tensor> weights() const {
    std::map<std::string, Tensor> tensors;
    for (const auto& [name, tensor] : file_.tensors) {
      if (!starts_with(name, kPrefix)) tensors[name] = tensor;
    }
    return tensors;
  }
  // The weights R of the loss for output "logits" or "logits.i", of this shape but for the batch.
  Tensor loss_weights(const std::string& output, const Tensor& like) const {
    const auto stem = concat("r", output.substr(std::string("logits").size()));
    // Sequences [B, L, C], images [B, C, H, W] and volumes [B, C, D, H, W].
    const std::vector<std::string> axes = like.dim() == 3 ? std::vector<std::string>{"l", "c"}
                                          : like.dim() == 4
                                              ? std::vector<std::string>{"c", "h", "w"}
                                              : std::vector<std::string>{"c", "d", "h", "w"};
    auto product = torch::ones({}, like.options());
    for (const auto& axis : axes) {
      product = product.unsqueeze(-1) * numbers(concat(stem, ".", axis)).to(like);
    }
    if (product.sizes() != like.sizes().slice(1)) {
      throw Error(concat(origin_, ": ", kPrefix, stem, ".* are of sizes [",
                         join(product.sizes(), ", "), "], the output of [",
                         join(like.sizes(), ", "), "]"));
    }
    return product;
  }

 private:
  const TensorFile& file_;
  std::string origin_;
};

// Integer buffers may be left out: the network knows them.
void load(torch::nn::Module& module, std::map<std::string, Tensor> weights,
          const std::string& origin) {
  for (const auto& [name, tensor] : state_dict(module)) {
    if (!torch::isFloatingType(tensor.scalar_type())) weights.emplace(name, tensor);
  }
  try {
    load_state_dict(module, weights);
  } catch (const Error& error) {
    throw Error(concat(origin, ": ", error.what()));
  }
}

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

Verification verify_numbers(const TensorFile& file, const std::string& origin,
                            torch::ScalarType type) {
  const Golden golden(file, origin);
  const bool exact = type == torch::kFloat64;
  Verification result;
  result.model = golden.metadata("model");
  const auto float32_error = golden.float32_error();
  const auto names = golden.output_names(), parameters = golden.parameters();
  const auto norms = golden.numbers("grad_norm", std::ssize(parameters)),
             dots = golden.numbers("grad_dot", std::ssize(parameters)),
             of_input = golden.numbers("grad_input", 2);
  // A copy: the gradient is none of the file's.
  const auto input =
      golden.at("input").detach().to(type, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
  const auto subject = make_subject(result.model, golden.json("config"), origin);
  load(*subject.module, golden.weights(), origin);
  subject.module->to(type);
  subject.module->eval();

  const auto outputs = subject.forward(input);
  if (outputs.size() != names.size()) {
    throw Error(
        concat(origin, ": holds ", names.size(), " outputs, the network has ", outputs.size()));
  }
  Tensor loss;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto expected = golden.at(names[i]).to(torch::kFloat64);
    if (outputs[i].sizes() != expected.sizes()) {
      throw Error(concat(origin, ": ", kPrefix, names[i], " has shape [",
                         join(expected.sizes(), ", "), "], the network's output [",
                         join(outputs[i].sizes(), ", "), "]"));
    }
    const auto scale = std::max(largest(expected), 1e-300);
    const double in_float32 = float32_error ? 20 * *float32_error / scale : 1e-3;
    const double allowed = exact ? 1e-6 : in_float32;
    result.outputs.push_back(
        {names[i], largest(outputs[i].detach().to(torch::kFloat64) - expected) / scale, allowed});
    result.logits[kPrefix + names[i]] = outputs[i].detach();
    const auto term = (outputs[i] * golden.loss_weights(names[i], outputs[i])).sum();
    loss = loss.defined() ? loss + term : term;
  }
  loss.backward();

  // Norm and dot product of every gradient, the input's last.
  const auto own = subject.module->named_parameters();
  const double largest_norm = std::max(largest(norms), 1e-300);
  const double share = exact ? 1e-6 : 5e-2, floor = (exact ? 1e-6 : 1e-3) * largest_norm;
  constexpr double kTrueZero = 1e-9;  // rounding of the original, not a gradient
  const auto compare = [&](const std::string& name, const Gradient& expected,
                           const Gradient& actual, double zero) {
    const bool is_zero = exact && expected.norm < zero;
    const double scale = is_zero ? largest_norm : std::max(expected.norm, floor);
    const double allowed = is_zero ? kTrueZero : share;
    result.gradient_norms.push_back({name, std::abs(actual.norm - expected.norm) / scale, allowed});
    result.gradient_dots.push_back({name, std::abs(actual.dot - expected.dot) / scale, allowed});
  };
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto* parameter = own.find(parameters[i]);
    if (parameter == nullptr) {
      throw Error(concat(origin, ": the network has no parameter ", parameters[i]));
    }
    const auto place = static_cast<std::int64_t>(i);
    compare(parameters[i], {norms[place].item<double>(), dots[place].item<double>()},
            summarise(parameter->grad()), kTrueZero);
  }
  compare("input", {of_input[0].item<double>(), of_input[1].item<double>()},
          summarise(input.grad()), 0);
  return result;
}

}  // namespace

bool Verification::passes() const {
  const auto all = [](const std::vector<Deviation>& list) {
    return std::all_of(list.begin(), list.end(), [](const auto& item) { return item.passes(); });
  };
  return all(outputs) && all(gradient_norms) && all(gradient_dots);
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
