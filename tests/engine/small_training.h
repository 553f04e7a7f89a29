#pragma once
// Training of the small networks that tests of every network go through.

#include <torch/torch.h>

#include <map>
#include <set>
#include <string>

#include "nn/small_models.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/nn/weights.h"

namespace segmamba::test {

// Two channels and three classes, patches of the network's size. AdamW without weight decay and
// with hardly an eps: what has a gradient moves, however small it is, and nothing else.
inline engine::TrainConfig training_of(const SmallModel& model) {
  engine::TrainConfig config;
  config.model = model.config();
  config.data.channels = {"a", "b"};
  config.data.classes = {"background", "one", "two"};
  config.data.patch_size = model.sizes;
  config.inference.mirror_axes = {1};
  config.inference.overlap = 0.25;
  config.loss.name = "dice_cross_entropy";
  config.optimizer.name = "adamw";
  config.optimizer.weight_decay = 0;
  config.optimizer.eps = 1e-20;
  engine::complete(config);
  engine::check(config);
  return config;
}

// Labels [batch, D, H, W] of inputs of the network.
inline torch::Tensor labels_of(const SmallModel& model, std::int64_t batch) {
  auto shape = model.sizes;
  shape.insert(shape.begin(), batch);
  return torch::randint(0, 3, shape, torch::kLong);
}

inline std::map<std::string, torch::Tensor> copy_of_state(const torch::nn::Module& model) {
  auto state = nn::state_dict(model);
  for (auto& [name, tensor] : state) tensor = tensor.clone();
  return state;
}

// Parameters that are trained and whose gradient is 0: of the coarsest output, whose weight in the
// loss is 0 as in nnU-Net, and biases of attention in windows of a single token.
inline const std::set<std::string>& without_gradient(const std::string& model) {
  static const std::map<std::string, std::set<std::string>> names = {
      {"segmamba_tom", {"deep_outs.1.conv.conv.weight", "deep_outs.1.conv.conv.bias"}},
      {"uxnet_deep", {"deep_outs.2.conv.conv.weight", "deep_outs.2.conv.conv.bias"}},
      {"nnunet", {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}},
      {"nnunet_resenc", {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}},
      {"umamba_bot", {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}},
      {"nnformer",
       {"model_down.layers.3.blocks.0.attn.relative_position_bias_table",
        "model_down.layers.3.blocks.1.attn.relative_position_bias_table"}}};
  static const std::set<std::string> none;
  const auto found = names.find(model);
  return found == names.end() ? none : found->second;
}

}  // namespace segmamba::test
