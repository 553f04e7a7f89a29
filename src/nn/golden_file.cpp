#include "golden_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

using torch::Tensor;

// A thousand names of parameters take 60 KB.
constexpr std::size_t kMaxArgumentsBytes = 64 << 10, kMaxParametersBytes = 256 << 10;

}  // namespace

GoldenFile::GoldenFile(const TensorFile& file, std::string origin)
    : file_(file), origin_(std::move(origin)) {}

const std::string& GoldenFile::metadata(const std::string& key) const {
  const auto found = file_.metadata.find(key);
  if (found == file_.metadata.end()) {
    throw Error(concat(origin_, ": no metadata ", key,
                       ": it is no golden file (scripts/make_golden.py makes one)"));
  }
  return found->second;
}

Json GoldenFile::json(const std::string& key, std::size_t most) const {
  const auto& text = metadata(key);
  if (text.size() > most) {
    throw Error(concat(origin_, ": metadata ", key, " takes more than ",
                       format_bytes(static_cast<std::uint64_t>(most))));
  }
  return parse_json(text, concat(origin_, " (", key, ")"));
}

Json GoldenFile::arguments() const { return json("config", kMaxArgumentsBytes); }

bool GoldenFile::has(const std::string& name) const {
  return file_.tensors.contains(kPrefix + name);
}

const Tensor& GoldenFile::at(const std::string& name) const {
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

Tensor GoldenFile::numbers(const std::string& name, std::optional<std::int64_t> count) const {
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

std::vector<std::string> GoldenFile::parameters() const {
  const auto list = json("parameters", kMaxParametersBytes);
  if (!list.is_array() || list.empty() ||
      !std::all_of(list.begin(), list.end(), [](const Json& item) { return item.is_string(); })) {
    throw Error(origin_ + ": metadata parameters must be a list of texts, one at least");
  }
  return list.get<std::vector<std::string>>();
}

std::optional<double> GoldenFile::float32_error() const {
  const auto found = file_.metadata.find("float32_max_abs_error");
  if (found == file_.metadata.end()) return std::nullopt;
  const auto& text = found->second;
  double error = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, error);
  if (code != std::errc() || rest != end || !std::isfinite(error) || error < 0) {
    throw Error(concat(origin_, ": metadata float32_max_abs_error must be a number from 0 up, not ",
                       "\"", text, "\""));
  }
  return error;
}

std::vector<std::string> GoldenFile::output_names() const {
  std::vector<std::string> names;
  if (has("logits")) return {"logits"};
  while (has(concat("logits.", names.size()))) names.push_back(concat("logits.", names.size()));
  if (names.empty()) throw Error(concat(origin_, ": no tensor ", kPrefix, "logits"));
  return names;
}

TensorMap GoldenFile::weights() const {
  TensorMap tensors;
  for (const auto& [name, tensor] : file_.tensors) {
    if (!starts_with(name, kPrefix)) tensors[name] = tensor;
  }
  return tensors;
}

Tensor GoldenFile::loss_weights(const std::string& output, const Tensor& like) const {
  const auto stem = concat("r", output.substr(std::string("logits").size()));
  // Sequences [B, L, C], images [B, C, H, W] and volumes [B, C, D, H, W].
  using Names = std::vector<std::string>;
  const auto axes = like.dim() == 3   ? Names{"l", "c"}
                    : like.dim() == 4 ? Names{"c", "h", "w"}
                                      : Names{"c", "d", "h", "w"};
  std::vector<Tensor> factors;
  std::vector<std::int64_t> sizes;
  for (const auto& axis : axes) {
    factors.push_back(numbers(concat(stem, ".", axis)).to(like));
    sizes.push_back(factors.back().size(0));
  }
  // Before they are multiplied: short rows of numbers could make a tensor of any size.
  if (like.dim() != std::ssize(sizes) + 1 || torch::IntArrayRef(sizes) != like.sizes().slice(1)) {
    throw Error(concat(origin_, ": ", kPrefix, stem, ".* are of sizes [", join(sizes, ", "),
                       "], the output of [", join(like.sizes(), ", "), "]"));
  }
  auto product = torch::ones({}, like.options());
  for (const auto& factor : factors) product = product.unsqueeze(-1) * factor;
  return product;
}

}  // namespace segmamba::nn
