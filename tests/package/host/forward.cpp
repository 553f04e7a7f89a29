#include <iostream>

#include "segmamba/nn/model.h"

int main() {
  segmamba::nn::ModelConfig config;
  config.segmamba.dims = {4, 4, 8, 8};
  config.segmamba.depths = {1, 1, 1, 1};
  config.segmamba.hidden_size = 8;
  const auto model = segmamba::nn::make_model(config);
  const torch::NoGradGuard no_grad;
  std::cout << model->forward(torch::zeros({1, 4, 32, 32, 32})).sizes() << "\n";
}
