#include "segmamba/nn/network_difference.h"

#include <map>
#include <set>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/mednext.h"

namespace segmamba::nn {
namespace {

ModelConfig parse(const std::string& config) {
  ModelConfig result;
  ConfigDocument::from_text(config, "the config inside").section("model").read(result);
  return result;
}

// One item stands for all.
template <class Item>
void spread(std::vector<Item>& list, std::size_t items) {
  if (list.size() == 1) list.assign(items, Item(list.front()));
}

template <class Options>
void normalise_unet(Options& options, std::vector<std::int64_t>& blocks) {
  const auto stages = options.features_per_stage.size();
  spread(options.kernel_sizes, stages);
  spread(blocks, stages);
  spread(options.n_conv_per_stage_decoder, stages - 1);
  if (!options.strides.empty()) return;
  options.strides.assign(stages, {2, 2, 2});
  options.strides.front() = {1, 1, 1};
}

void normalise_mednext(MedNextOptions& options) {
  const auto& preset = mednext_preset(options.size);
  if (options.exp_r.empty()) options.exp_r.assign(preset.exp_r.begin(), preset.exp_r.end());
  if (options.block_counts.empty()) {
    options.block_counts.assign(preset.block_counts.begin(), preset.block_counts.end());
  }
  spread(options.exp_r, preset.exp_r.size());
  if (options.dec_kernel_size == options.kernel_size) options.dec_kernel_size = 0;
  options.size = MedNextOptions().size;  // it has no other use
}

// The same network, with one form for each choice.
ModelConfig normalised(ModelConfig config) {
  normalise_unet(config.nnunet, config.nnunet.n_conv_per_stage);
  normalise_unet(config.umamba, config.umamba.n_conv_per_stage);
  auto& resenc = config.nnunet_resenc;
  normalise_unet(resenc, resenc.n_blocks_per_stage);
  if (resenc.stem_channels == resenc.features_per_stage.front()) resenc.stem_channels = 0;
  normalise_mednext(config.mednext);
  config.unetr.proj_type = UnetrOptions().proj_type;  // weights are turned into either form
  auto& segmamba = config.segmamba;
  if (segmamba.encoder != "paper") {
    const SegMambaOptions unused;
    segmamba.mlp_ratio = unused.mlp_ratio;
    segmamba.directions = unused.directions;
    segmamba.downsample_norm = unused.downsample_norm;
  }
  return config;
}

// Key and value of each line of a config.
std::map<std::string, std::string> keys_of(const ModelConfig& config) {
  std::map<std::string, std::string> keys;
  for (const auto& line : split(config_to_yaml(normalised(config)), '\n')) {
    const auto colon = line.find(": ");
    if (colon != std::string::npos) keys[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return keys;
}

}  // namespace

bool is_of_network(const std::string& config_of_file, const ModelConfig& config) {
  return !config_of_file.empty() && parse(config_of_file).name == config.name;
}

std::string network_difference(const std::string& config_of_file, const ModelConfig& config) {
  if (config_of_file.empty()) return "";
  static const std::set<std::string> of_training = {"in_channels", "out_channels",
                                                    "deep_supervision", "init_from", "freeze"};
  const auto own = keys_of(config), given = keys_of(parse(config_of_file));
  std::vector<std::string> list;
  for (const auto& [key, value] : given) {
    if (of_training.contains(key) || key.find("drop") != std::string::npos) continue;
    const auto found = own.find(key);
    if (found == own.end() || found->second == value) continue;
    list.push_back(concat(key, ": ", value, " (here ", found->second, ")"));
  }
  return list.empty() ? "" : "the file's network has " + join(list, ", ");
}

}  // namespace segmamba::nn
