#include "segmamba/engine/losses.h"

#include <torch/torch.h>

namespace segmamba::engine {
namespace {

// [B, K, D, H, W] of the type of `logits`.
torch::Tensor one_hot(const torch::Tensor& labels, const torch::Tensor& logits) {
  const auto classes = torch::arange(logits.size(1), labels.options()).view({1, -1, 1, 1, 1});
  return (labels.unsqueeze(1) == classes).to(logits.scalar_type());
}

torch::Tensor cross_entropy_of(const torch::Tensor& log_probabilities,
                               const torch::Tensor& targets) {
  const std::int64_t voxels = targets.numel() / targets.size(1);
  return -(log_probabilities * targets).sum() / static_cast<double>(voxels);
}

torch::Tensor soft_dice_of(torch::Tensor probabilities, torch::Tensor targets,
                           bool include_background, bool batch_dice, double smooth) {
  if (!include_background) {
    probabilities = probabilities.narrow(1, 1, probabilities.size(1) - 1);
    targets = targets.narrow(1, 1, targets.size(1) - 1);
  }
  const std::vector<std::int64_t> summed =
      batch_dice ? std::vector<std::int64_t>{0, 2, 3, 4} : std::vector<std::int64_t>{2, 3, 4};
  const auto overlap = (probabilities * targets).sum(summed);
  const auto sizes = probabilities.sum(summed) + targets.sum(summed);
  return 1 - ((2 * overlap + smooth) / (sizes + smooth)).mean();
}

}  // namespace

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels) {
  return cross_entropy_of(torch::log_softmax(logits, 1), one_hot(labels, logits));
}

at::Tensor soft_dice_loss(const at::Tensor& logits, const at::Tensor& labels,
                          bool include_background, bool batch_dice, double smooth) {
  return soft_dice_of(torch::softmax(logits, 1), one_hot(labels, logits), include_background,
                      batch_dice, smooth);
}

at::Tensor segmentation_loss(const LossConfig& config, const at::Tensor& logits,
                             const at::Tensor& labels) {
  const auto targets = one_hot(labels, logits);
  const auto log_probabilities = torch::log_softmax(logits, 1);
  auto entropy = config.cross_entropy_weight * cross_entropy_of(log_probabilities, targets);
  if (config.name == "cross_entropy") return entropy;
  return entropy + config.dice_weight * soft_dice_of(log_probabilities.exp(), targets,
                                                     config.include_background, config.batch_dice,
                                                     config.smooth);
}

}  // namespace segmamba::engine
