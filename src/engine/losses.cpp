#include "segmamba/engine/losses.h"

#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

using torch::Tensor;

// What the terms share. Targets are booleans that where() applies: a product with one-hot numbers
// would keep both factors for the backward pass.
struct Prediction {
  Tensor targets;        // g_c, [B, K, D, H, W], bool
  Tensor log_q;          // [B, D, H, W]; with regions [B, K, D, H, W]
  Tensor probabilities;  // p_c, [B, K, D, H, W]; undefined where no term asks for it
};

Prediction predict_classes(const Tensor& logits, const Tensor& labels, bool with_probabilities) {
  const auto classes = torch::arange(logits.size(1), labels.options()).view({1, -1, 1, 1, 1});
  Prediction result;
  result.targets = labels.unsqueeze(1) == classes;
  const auto log_probabilities = torch::log_softmax(logits, 1);
  result.log_q = torch::where(result.targets, log_probabilities, 0).sum(1);
  if (with_probabilities) result.probabilities = log_probabilities.exp();
  return result;
}

Prediction predict_regions(const Tensor& logits, const Tensor& labels,
                           const std::vector<data::Region>& regions, bool with_probabilities) {
  Prediction result;
  result.targets = torch::zeros(logits.sizes(), logits.options().dtype(torch::kBool));
  for (std::size_t i = 0; i < regions.size(); ++i) {
    auto target = result.targets.select(1, static_cast<std::int64_t>(i));
    for (const auto class_index : regions[i].classes) target.bitwise_or_(labels == class_index);
  }
  // log(1 - sigmoid(x)) = log sigmoid(-x), which is finite for every finite x.
  result.log_q = torch::log_sigmoid(torch::where(result.targets, logits, -logits));
  if (with_probabilities) result.probabilities = torch::sigmoid(logits);
  return result;
}

// 1 - q, with all its digits near q = 1. Not 0: a power below 1 has no finite slope there.
Tensor miss_of(const Tensor& log_q) {
  return torch::expm1(log_q).neg_().clamp_min_(std::numeric_limits<float>::min());
}

// -(1 - q)^gamma log q. A function of its own because its operators one by one would keep five
// tensors of this size for the backward pass.
struct FocalCost : torch::autograd::Function<FocalCost> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& log_q,
                        double gamma) {
    context->save_for_backward({log_q});
    context->saved_data["gamma"] = gamma;
    return miss_of(log_q).pow_(gamma).mul_(log_q).neg_();
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               const torch::autograd::tensor_list& gradients) {
    const auto log_q = context->get_saved_variables()[0];
    const double gamma = context->saved_data["gamma"].toDouble();
    // By log q: (1 - q)^(gamma - 1) (gamma q log q - (1 - q)).
    const auto miss = miss_of(log_q);
    auto slope = log_q.exp().mul_(log_q).mul_(gamma).sub_(miss);
    return {slope.mul_(miss.pow_(gamma - 1)).mul_(gradients[0]), Tensor()};
  }
};

// Weights of the outputs, as `like`; undefined: all alike.
Tensor output_weights(const LossConfig& config, const Tensor& like) {
  if (config.class_weights.empty()) return {};
  // Filled on the device: a copy would wait for it, and cannot be recorded (DeviceGraph).
  auto weights = torch::empty({std::ssize(config.class_weights)}, like.options());
  for (std::size_t i = 0; i < config.class_weights.size(); ++i) {
    weights[static_cast<std::int64_t>(i)].fill_(config.class_weights[i]);
  }
  return weights;
}

// Over the last dimension, which has an entry for each output.
Tensor mean_over_outputs(const Tensor& values, const Tensor& weights) {
  if (!weights.defined()) return values.mean();
  return (values * weights).sum(-1).mean() / weights.sum();
}

// Mean of `cost`, which has the shape of log_q.
Tensor mean_over_voxels(const Tensor& cost, const Tensor& weights, const Tensor& labels,
                        const SumOverRanks& sum_over_ranks) {
  if (!weights.defined()) return cost.mean();
  if (cost.dim() == 5) return mean_over_outputs(cost.mean({0, 2, 3, 4}), weights);
  const auto voxel_weights = weights.index({labels.to(torch::kLong)});
  auto sums = torch::stack({(cost * voxel_weights).sum(), voxel_weights.sum()});
  if (sum_over_ranks) sums = sum_over_ranks(sums);
  // Where every voxel is of a class of weight 0 there is nothing to learn.
  return sums[0] / sums[1].clamp_min(std::numeric_limits<float>::min());
}

Tensor soft_dice_loss(const LossConfig& config, const Prediction& prediction, bool of_regions,
                      Tensor weights, const SumOverRanks& sum_over_ranks) {
  const auto& [targets, log_q, probabilities] = prediction;
  std::vector<std::int64_t> summed = {2, 3, 4};
  if (config.batch_dice) summed.insert(summed.begin(), 0);
  const auto overlap = torch::where(targets, probabilities, 0).sum(summed);
  const auto sizes = probabilities.sum(summed) + targets.sum(summed);
  auto statistics = torch::stack({overlap, sizes});  // [2, K] or [2, B, K]
  if (config.batch_dice && sum_over_ranks) statistics = sum_over_ranks(statistics);
  if (!of_regions && !config.include_background) {
    const auto foreground = statistics.size(-1) - 1;
    statistics = statistics.narrow(-1, 1, foreground);
    if (weights.defined()) weights = weights.narrow(0, 1, foreground);
  }
  // As nnU-Net: without `smooth`, an output that is nowhere must not divide by zero.
  constexpr double kSmallestSize = 1e-8;
  const auto dice = (2 * statistics[0] + config.smooth) /
                    (statistics[1] + config.smooth).clamp_min(kSmallestSize);
  return 1 - mean_over_outputs(dice, weights);
}

}  // namespace

at::Tensor segmentation_loss(const LossConfig& config, const at::Tensor& logits,
                             const at::Tensor& labels, const std::vector<data::Region>& regions,
                             const SumOverRanks& sum_over_ranks) {
  const bool of_regions = !regions.empty();
  const bool with_dice = starts_with(config.name, "dice");
  const auto exact = logits.scalar_type() == torch::kDouble ? logits : logits.to(torch::kFloat);
  const auto prediction = of_regions ? predict_regions(exact, labels, regions, with_dice)
                                     : predict_classes(exact, labels, with_dice);
  const auto weights = output_weights(config, exact);
  Tensor loss;
  const auto add = [&loss](double factor, const Tensor& term) {
    loss = loss.defined() ? loss + factor * term : factor * term;
  };
  if (ends_with(config.name, "cross_entropy")) {
    add(-config.cross_entropy_weight,
        mean_over_voxels(prediction.log_q, weights, labels, sum_over_ranks));
  }
  if (ends_with(config.name, "focal")) {
    add(config.focal_weight,
        mean_over_voxels(FocalCost::apply(prediction.log_q, config.focal_gamma), weights, labels,
                         sum_over_ranks));
  }
  if (with_dice) {
    add(config.dice_weight,
        soft_dice_loss(config, prediction, of_regions, weights, sum_over_ranks));
  }
  return loss;
}

at::Tensor deep_supervision_loss(const LossConfig& config, const std::vector<double>& weights,
                                 const std::vector<at::Tensor>& outputs, const at::Tensor& labels,
                                 const std::vector<data::Region>& regions,
                                 const SumOverRanks& sum_over_ranks) {
  Tensor sum;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const auto loss =
        weights[i] * segmentation_loss(config, outputs[i],
                                       resize_labels(labels, outputs[i].sizes().slice(2)), regions,
                                       sum_over_ranks);
    sum = sum.defined() ? sum + loss : loss;
  }
  return sum;
}

std::vector<double> deep_supervision_weights(const LossConfig& config, std::size_t count,
                                             bool trains_coarsest) {
  auto weights = config.deep_supervision_weights;
  if (!weights.empty() && weights.size() != count) {
    throw Error(concat("loss.deep_supervision_weights lists ", weights.size(),
                       " numbers, but the model has ", count, " outputs"));
  }
  if (!weights.empty()) return weights;
  if (count == 1) return {1};
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    weights.push_back(i + 1 < count || trains_coarsest ? std::ldexp(1, -static_cast<int>(i)) : 0);
    sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

at::Tensor resize_labels(const at::Tensor& labels, at::IntArrayRef size) {
  auto resized = labels;
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    const auto old_size = labels.size(axis + 1), new_size = size[axis];
    if (old_size == new_size) continue;
    const double step = static_cast<double>(old_size) / static_cast<double>(new_size);
    const auto centres = torch::arange(new_size, labels.options().dtype(torch::kDouble)) + 0.5;
    resized = resized.index_select(axis + 1, (centres * step).floor().to(torch::kLong));
  }
  return resized;
}

}  // namespace segmamba::engine
