#include "segmamba/nn/drop_path.h"

namespace segmamba::nn {

torch::Tensor drop_path(const torch::Tensor& x, double rate, bool training) {
  if (rate == 0 || !training) return x;
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  return x * torch::empty(shape, x.options()).bernoulli_(1 - rate).div_(1 - rate);
}

std::vector<double> drop_path_rates(double last, std::int64_t blocks) {
  std::vector<double> rates;
  for (std::int64_t i = 0; i < blocks; ++i) {
    rates.push_back(blocks > 1 ? last * static_cast<double>(i) / static_cast<double>(blocks - 1)
                               : 0);
  }
  return rates;
}

}  // namespace segmamba::nn
