#pragma once
// Golden files (their format: segmamba/nn/verify.h) without the network that they are of.

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/weights.h"

namespace segmamba::nn {

// Reads what a file holds. All functions throw Error naming `origin` where something that they
// need is missing or of another kind.
class GoldenFile {
 public:
  // Begins the names of all tensors but the weights; functions take names without it.
  static constexpr const char* kPrefix = "golden/";

  GoldenFile(const TensorFile& file, std::string origin);

  const std::string& metadata(const std::string& key) const;
  // Of the original's constructor.
  Json arguments() const;
  // Names, one at least.
  std::vector<std::string> parameters() const;
  // How far off float32 was, where the file says so.
  std::optional<double> float32_error() const;
  // "logits", or "logits.0", "logits.1", ...
  std::vector<std::string> output_names() const;
  // A tensor of real numbers.
  const torch::Tensor& at(const std::string& name) const;
  // Numbers in a row, `count` of them where that is given.
  torch::Tensor numbers(const std::string& name,
                        std::optional<std::int64_t> count = std::nullopt) const;
  // The weights R of the loss for that output, of the shape of `like` but for the batch.
  torch::Tensor loss_weights(const std::string& output, const torch::Tensor& like) const;
  TensorMap weights() const;

 private:
  bool has(const std::string& name) const;
  // Of at most so many bytes: the keys of a JSON object are found one by one, in quadratic time.
  Json json(const std::string& key, std::size_t most) const;

  const TensorFile& file_;
  std::string origin_;
};

}  // namespace segmamba::nn
