#include "segmamba/nn/mamba.h"

#include <cmath>
#include <functional>
#include <set>

#include "segmamba/core/error.h"
#include "segmamba/nn/initial_values.h"
#include "segmamba/nn/linear.h"
#include "segmamba/ops/mamba_inner.h"

namespace segmamba::nn {
namespace {

// What the published code appends to the names of a direction's parameters.
std::string suffix(Direction direction) {
  switch (direction) {
    case Direction::kReverse:
      return "_b";
    case Direction::kInterSlice:
      return "_s";
    default:
      return "";
  }
}

ops::ScanOrder scan_order(Direction direction, std::int64_t length, std::int64_t slices) {
  switch (direction) {
    case Direction::kReverse:
      return ops::ScanOrder::reverse(length);
    case Direction::kInterSlice:
      return ops::ScanOrder::interslice(length, slices);
    default:
      return ops::ScanOrder::forward(length);
  }
}

}  // namespace

Direction parse_direction(const std::string& name) {
  if (name == "forward") return Direction::kForward;
  if (name == "reverse") return Direction::kReverse;
  if (name == "inter-slice") return Direction::kInterSlice;
  throw Error("model.directions: \"" + name + "\" is none of forward, reverse, inter-slice");
}

MambaImpl::MambaImpl(MambaOptions options_) : options(std::move(options_)) {
  const std::set<Direction> distinct(options.directions.begin(), options.directions.end());
  if (distinct.empty() || distinct.size() != options.directions.size()) {
    throw Error("model.directions must name at least one direction, and each only once");
  }
  const auto inner = inner_size();
  const auto projected = dt_rank() + 2 * options.state_size;
  in_proj = register_module("in_proj", make_linear(options.dim, 2 * inner, /*bias=*/false));
  for (const auto direction : options.directions) {
    const auto end = suffix(direction);
    Branch branch;
    branch.conv1d = register_module(
        "conv1d" + end,
        torch::nn::Conv1d(
            torch::nn::Conv1dOptions(inner, inner, options.kernel_size).groups(inner)));
    branch.x_proj = register_module("x_proj" + end, make_linear(inner, projected, /*bias=*/false));
    branch.dt_proj = register_module("dt_proj" + end, make_linear(dt_rank(), inner));
    branch.A_log =
        register_parameter("A" + end + "_log", torch::empty({inner, options.state_size}));
    branch.D = register_parameter("D" + end, torch::empty({inner}));
    branches.push_back(branch);
  }
  out_proj = register_module("out_proj", make_linear(inner, options.dim, /*bias=*/false));
  reset_parameters();
}

void MambaImpl::reset_parameters() {
  const torch::NoGradGuard no_grad;
  in_proj->reset_parameters();
  out_proj->reset_parameters();
  const double bound = 1 / std::sqrt(static_cast<double>(dt_rank()));
  for (auto& branch : branches) {
    branch.conv1d->reset_parameters();
    branch.x_proj->reset_parameters();
    branch.dt_proj->weight.uniform_(-bound, bound);
    initial_delta_bias_(branch.dt_proj->bias);
    branch.A_log.copy_(torch::arange(1, options.state_size + 1, branch.A_log.options()).log());
    branch.D.fill_(1);
  }
}

torch::Tensor MambaImpl::forward(const torch::Tensor& tokens, std::int64_t slices) {
  const auto length = tokens.size(1);
  std::vector<ops::ScanOrder> orders;
  for (const auto direction : options.directions) {
    orders.push_back(scan_order(direction, length, slices));
  }
  // One tensor of the directions' parameters: [K, ...].
  const auto stack = [&](const std::function<torch::Tensor(const Branch&)>& parameter) {
    std::vector<torch::Tensor> parameters;
    for (const auto& branch : branches) parameters.push_back(parameter(branch));
    return torch::stack(parameters);
  };

  const auto inner =
      ops::mamba_inner(in_proj(tokens),
                       {stack([](auto& branch) { return branch.conv1d->weight.squeeze(1); }),
                        stack([](auto& branch) { return branch.conv1d->bias; }),
                        stack([](auto& branch) { return branch.x_proj->weight; }),
                        stack([](auto& branch) { return branch.dt_proj->weight; }),
                        -stack([](auto& branch) { return branch.A_log; }).exp(),
                        stack([](auto& branch) { return branch.D; }),
                        stack([](auto& branch) { return branch.dt_proj->bias; })},
                       orders);  // [B, L, E]
  if (!options.averages) return out_proj(inner);
  // Divided where there is least to divide.
  return torch::linear(inner, out_proj->weight / static_cast<double>(branches.size()));
}

void MambaImpl::pretty_print(std::ostream& stream) const {
  stream << "Mamba(" << options.dim << ", directions=" << branches.size()
         << ", state_size=" << options.state_size << ")";
}

}  // namespace segmamba::nn
