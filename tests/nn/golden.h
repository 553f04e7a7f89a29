#pragma once
// Golden files of the original implementation: tests/data/nn (float32 values of a float64 run).

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>
#include <string>

#include "segmamba/core/json.h"
#include "segmamba/nn/model_config.h"
#include "segmamba/nn/weights.h"

namespace segmamba::test {

struct Golden {
  explicit Golden(const std::string& name)
      : file(
            nn::read_safetensors(std::string(SEGMAMBA_TEST_DATA) + "/nn/" + name + ".safetensors")),
        info(parse_json(file.metadata.at("info"), name)) {}

  torch::Tensor tensor(const std::string& name, torch::ScalarType type) const {
    return file.tensors.at(name).to(type);
  }
  // The tensors whose names start with `prefix`, without it.
  std::map<std::string, torch::Tensor> group(const std::string& prefix) const {
    std::map<std::string, torch::Tensor> tensors;
    for (const auto& [name, tensor] : file.tensors) {
      if (name.rfind(prefix, 0) == 0) tensors[name.substr(prefix.size())] = tensor;
    }
    return tensors;
  }
  nn::ModelConfig config() const {
    nn::ModelConfig config;
    config.segmamba.encoder = info["encoder"].get<std::string>();
    config.in_channels = info["in_channels"];
    config.out_channels = info["out_channels"];
    config.segmamba.dims = info["dims"].get<std::vector<std::int64_t>>();
    config.segmamba.depths = info["depths"].get<std::vector<std::int64_t>>();
    config.segmamba.hidden_size = info["hidden_size"];
    return config;
  }

  nn::TensorFile file;
  Json info;
};

// Differences relative to the largest expected value.
inline ::testing::AssertionResult near(const torch::Tensor& actual, const torch::Tensor& expected,
                                       double tolerance) {
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure()
           << "shape " << actual.sizes() << ", expected " << expected.sizes();
  }
  const auto wanted = expected.to(torch::kFloat64);
  const double scale = wanted.abs().max().item<double>();
  const double error = (actual.detach().to(torch::kFloat64) - wanted).abs().max().item<double>();
  if (error <= tolerance * scale) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "differs by " << error / scale << " of the largest value, allowed " << tolerance;
}

}  // namespace segmamba::test
