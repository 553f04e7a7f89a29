#include "segmamba/nn/upstream_weights.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/weights.h"

namespace segmamba::nn {
namespace {

bool is_of_nnunet(const std::string& network) {
  return starts_with(network, "nnunet") || starts_with(network, "umamba");
}

bool begins_with_any(const std::string& name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const auto& prefix) { return starts_with(name, prefix); });
}

bool any_begins(const TensorMap& tensors, const std::vector<std::string>& prefixes) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const auto& item) { return begins_with_any(item.first, prefixes); });
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void replace(std::string& text, const std::string& part, const std::string& other) {
  const auto at = text.find(part);
  if (at != std::string::npos) text.replace(at, part.size(), other);
}

bool same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const auto left = a.cpu().contiguous(), right = b.cpu().contiguous();
  return left.nbytes() == 0 || std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()) == 0;
}

// Renames by `rename`; names that become one must hold one tensor. Returns how many were merged.
template <class Rename>
std::size_t rename_all(TensorMap& tensors, Rename rename) {
  TensorMap renamed;
  std::size_t merged = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto own = rename(name);
    const auto [place, is_new] = renamed.emplace(own, tensor);
    if (is_new) continue;
    ++merged;
    if (!same_bits(place->second, tensor)) {
      throw Error(concat(printable(name), " is another name of ", printable(own),
                         ", but the file holds different values under them"));
    }
  }
  tensors = std::move(renamed);
  return merged;
}

// Drops what `is_dropped` says, with a note that gives the number and `why`.
template <class Predicate>
void drop(AdaptedState& state, Predicate is_dropped, const std::string& why) {
  const auto count =
      std::erase_if(state.tensors, [&](const auto& item) { return is_dropped(item.first); });
  if (count > 0) state.notes.push_back(concat(count, " tensors left out: ", why));
}

// nnU-Net's conv units register conv and norm twice, its decoder the encoder: "X.all_modules.0" is
// "X.conv", a later number "X.norm" (1, or 2 behind a dropout), and "decoder.encoder" is "encoder".
std::string nnunet_name(std::string name) {
  if (starts_with(name, "decoder.encoder.")) name = name.substr(std::strlen("decoder."));
  const std::string list = ".all_modules.";
  const auto at = name.find(list);
  const auto digit = at == std::string::npos ? at : at + list.size();
  if (digit + 1 < name.size() && digit != std::string::npos &&
      std::isdigit(static_cast<unsigned char>(name[digit])) != 0 && name[digit + 1] == '.') {
    name.replace(at, list.size() + 1, name[digit] == '0' ? ".conv" : ".norm");
  }
  return name;
}

void adapt_nnunet(AdaptedState& state) {
  const auto merged = rename_all(state.tensors, nnunet_name);
  if (merged > 0) {
    state.notes.push_back(concat(merged, " further names of the same tensors (they agree)"));
  }
}

// A linear layer on patches of 16^3, flattened with the channels fastest, is a convolution.
constexpr std::int64_t kPatch = 16;

void adapt_patch_embedding(const UnetrOptions& options, AdaptedState& state) {
  const std::string stem = "vit.patch_embedding.patch_embeddings.";
  const auto linear = state.tensors.find(stem + "1.weight"),
             convolution = state.tensors.find(stem + "weight");
  const bool wants_convolution = options.proj_type == "conv";
  const auto move_bias = [&](const std::string& from, const std::string& to) {
    if (auto node = state.tensors.extract(stem + from); !node.empty()) {
      node.key() = stem + to;
      state.tensors.insert(std::move(node));
    }
  };
  // The sizes of an empty tensor may have a product that is no number.
  if (wants_convolution && linear != state.tensors.end() && linear->second.dim() == 2 &&
      linear->second.numel() > 0 && linear->second.size(1) % (kPatch * kPatch * kPatch) == 0) {
    const auto weight = linear->second;
    const auto channels = weight.size(1) / (kPatch * kPatch * kPatch);
    state.tensors.erase(linear);
    state.tensors[stem + "weight"] =
        weight.reshape({weight.size(0), kPatch, kPatch, kPatch, channels})
            .permute({0, 4, 1, 2, 3})
            .contiguous();
    move_bias("1.bias", "bias");
    state.notes.emplace_back("patch embedding turned from a linear layer into a convolution");
  } else if (!wants_convolution && convolution != state.tensors.end() &&
             convolution->second.dim() == 5 && convolution->second.numel() > 0) {
    const auto weight = convolution->second;
    state.tensors.erase(convolution);
    state.tensors[stem + "1.weight"] = weight.permute({0, 2, 3, 4, 1}).flatten(1).contiguous();
    move_bias("bias", "1.bias");
    state.notes.emplace_back("patch embedding turned from a convolution into a linear layer");
  }
}

// MONAI's releases differ in parameters that none of them uses.
void adapt_unetr(const ModelConfig& config, AdaptedState& state) {
  adapt_patch_embedding(config.unetr, state);
  drop(
      state,
      [](const std::string& name) {
        return contains(name, ".cross_attn.") || ends_with(name, "cls_token");
      },
      "the original never uses them (cross_attn, cls_token)");
  TensorMap unused;
  for (const auto& [name, tensor] : state.tensors) {
    const std::string norm = ".norm1.weight";
    if (!starts_with(name, "vit.blocks.") || !ends_with(name, norm)) continue;
    const auto stem = name.substr(0, name.size() - norm.size()) + ".norm_cross_attn.";
    if (state.tensors.contains(stem + "weight")) continue;
    unused[stem + "weight"] = torch::ones_like(tensor);
    unused[stem + "bias"] = torch::zeros_like(tensor);
  }
  if (unused.empty()) return;
  state.notes.push_back(concat(unused.size(),
                               " tensors added that the original has since MONAI "
                               "1.4 and never uses (norm_cross_attn)"));
  state.tensors.merge(unused);
}

// Self-supervised pre-training keeps the encoder alone, without its prefix, and heads of its own.
void adapt_swin(const ModelConfig& config, bool is_known, AdaptedState& state) {
  const std::string encoder = "swinViT.";
  const std::vector<std::string> heads = {"rotation_head.",   "rotation_pre.", "contrastive_head.",
                                          "contrastive_pre.", "convTrans3d.",  "conv."};
  if (any_begins(state.tensors, {"rotation_head.", "contrastive_head.", "convTrans3d."})) {
    drop(
        state, [&](const std::string& name) { return begins_with_any(name, heads); },
        "heads of the pre-training");
  }
  if (!any_begins(state.tensors, {encoder}) &&
      any_begins(state.tensors, {"patch_embed.", "layers1."})) {
    rename_all(state.tensors, [&](const std::string& name) {
      const bool is_encoder = starts_with(name, "patch_embed.") || starts_with(name, "layers");
      return is_encoder ? encoder + name : name;
    });
    state.notes.push_back("an encoder alone: its names put under \"" + encoder + "\"");
  }
  std::size_t layers = 0;
  rename_all(state.tensors, [&](std::string name) {
    if (!starts_with(name, encoder) || !contains(name, ".mlp.fc")) return name;
    ++layers;
    replace(name, ".mlp.fc", ".mlp.linear");
    return name;
  });
  if (layers > 0) state.notes.push_back(concat(layers, " names mlp.fc* are mlp.linear* here"));
  if (!is_known && config.swin_unetr.merging != "legacy") {
    state.notes.push_back("model.merging is " + config.swin_unetr.merging +
                          ": weights trained by MONAI before 1.5 need model.merging=legacy, which "
                          "no file tells");
  }
}

// Older files hold the projections of each direction [K, rows, columns], ours [K rows, columns].
void adapt_vmamba(AdaptedState& state) {
  std::size_t count = 0;
  for (const auto& names : std::vector<std::pair<std::string, std::string>>{
           {".x_proj_weight", ".x_proj.weight"}, {".dt_projs_weight", ".dt_projs.weight"}}) {
    const auto& old_name = names.first;
    const auto& own_name = names.second;
    rename_all(state.tensors, [&](std::string name) {
      if (!ends_with(name, old_name)) return name;
      auto& tensor = state.tensors.at(name);
      if (tensor.dim() == 3) tensor = tensor.flatten(0, 1);
      ++count;
      name.replace(name.size() - old_name.size(), old_name.size(), own_name);
      return name;
    });
  }
  if (count > 0) state.notes.push_back(concat(count, " projections of an older layout"));
}

// What in a network that is made for inputs of one size depends on that size.
struct SizeDependence {
  const char* key;                // of the section `model`
  const char* part;               // of the names of the tensors
  std::int64_t voxels_per_token;  // along an axis, where they have a row a token; otherwise 0
};

const std::map<std::string, SizeDependence>& size_dependences() {
  static const std::map<std::string, SizeDependence> table = {
      {"unetr", {"img_size", ".position_embeddings", kPatch}},
      {"transbts", {"img_size", ".position_embeddings", 8}},
      {"nnformer", {"crop_size", ".relative_position_", 0}},
      {"umamba_enc", {"input_size", ".mamba_layers.", 0}},
  };
  return table;
}

// The side of the cube of this many tokens; 0 where they make none, or more than any network has.
std::int64_t cube_side(std::int64_t tokens) {
  constexpr std::int64_t kMaxSide = 512;
  if (tokens > kMaxSide * kMaxSide * kMaxSide) return 0;
  std::int64_t side = 1;
  while (side * side * side < tokens) ++side;
  return side * side * side == tokens ? side : 0;
}

}  // namespace

AdaptedState adapt_state_dict(const ModelConfig& config, TensorMap tensors, bool is_known) {
  AdaptedState state{std::move(tensors), {}};
  if (is_of_nnunet(config.name)) adapt_nnunet(state);
  if (config.name == "unetr") adapt_unetr(config, state);
  if (starts_with(config.name, "swin_unetr")) adapt_swin(config, is_known, state);
  if (config.name == "vmamba") adapt_vmamba(state);
  return state;
}

std::vector<std::string> enlarge_kernels(const ModelConfig& config, const torch::nn::Module& model,
                                         TensorMap& tensors) {
  if (config.name != "mednext") return {};
  std::size_t count = 0;
  for (const auto& [name, own] : state_dict(model)) {
    const auto found = tensors.find(name);
    if (found == tensors.end() || own.dim() != 5 || found->second.dim() != 5) continue;
    auto& given = found->second;
    if (given.numel() == 0) continue;
    const auto wanted = own.sizes().slice(2), kernel = given.sizes().slice(2);
    const bool is_smaller =
        kernel != wanted && std::equal(kernel.begin(), kernel.end(), wanted.begin(),
                                       [](auto small, auto large) { return small <= large; });
    if (!is_smaller || given.sizes().slice(0, 2) != own.sizes().slice(0, 2)) continue;
    if (!torch::isFloatingType(given.scalar_type())) continue;
    const auto type = given.scalar_type();
    given = torch::upsample_trilinear3d(given.to(torch::kFloat64), wanted, /*align_corners=*/false)
                .to(type);
    ++count;
  }
  if (count == 0) return {};
  return {concat(count, " kernels enlarged by interpolation, as MedNeXt's UpKern does")};
}

namespace {

// Channel i from channel i modulo their number, divided among its copies; where some are left out,
// these stand for them.
torch::Tensor repeat_channels(const torch::Tensor& values, std::int64_t channels) {
  const auto others = values.size(1);
  const auto from = torch::arange(channels) % others;
  auto scale = torch::full({channels}, static_cast<double>(others) / static_cast<double>(channels),
                           torch::kFloat64);
  if (channels > others) scale = 1 / torch::bincount(from).to(torch::kFloat64).index({from});
  return values.index_select(1, from) * scale.view({-1, 1, 1, 1});
}

// Each channel from the mean, with the same sum.
torch::Tensor spread_mean(const torch::Tensor& values, std::int64_t channels) {
  const auto each = values.sum(1, /*keepdim=*/true) / static_cast<double>(channels);
  return each.repeat({1, channels, 1, 1, 1});
}

}  // namespace

std::vector<std::string> fit_first_layer(const ModelConfig& config, const torch::nn::Module& model,
                                         FirstLayer how, TensorMap& tensors) {
  if (how == FirstLayer::kRandom) return {};
  std::vector<std::string> notes;
  for (const auto& [name, own] : state_dict(model)) {
    const auto found = tensors.find(name);
    if (found == tensors.end() || own.dim() != 5 || found->second.dim() != 5) continue;
    auto& given = found->second;
    const auto channels = config.in_channels, others = given.size(1);
    auto expected = own.sizes().vec();
    if (expected[1] != channels || others == channels || others == 0) continue;
    expected[1] = others;
    if (given.sizes() != expected || !torch::isFloatingType(given.scalar_type())) continue;
    const auto type = given.scalar_type();
    const auto values = given.to(torch::kFloat64);
    given = (how == FirstLayer::kMean ? spread_mean(values, channels)
                                      : repeat_channels(values, channels))
                .to(type);
    notes.push_back(
        concat(printable(name), ": weights of ", others, " channels made those of ", channels));
  }
  return notes;
}

TensorMap upstream_state_dict(const ModelConfig& config, TensorMap tensors) {
  if (!is_of_nnunet(config.name)) return tensors;
  // A unit of conv and norm, which may have no parameters; U-Mamba's way up is a plain layer.
  TensorMap all = tensors;
  for (const auto& [name, tensor] : tensors) {
    const auto parameter = name.rfind('.');
    const auto layer = parameter == std::string::npos ? parameter : name.rfind('.', parameter - 1);
    if (layer == std::string::npos) continue;
    const auto unit = name.substr(0, layer), kind = name.substr(layer + 1, parameter - layer - 1);
    if (!tensors.contains(unit + ".conv.weight") || contains(unit, "upsample_layers.")) continue;
    if (kind != "conv" && kind != "norm") continue;
    all[unit + ".all_modules." + (kind == "conv" ? "0" : "1") + name.substr(parameter)] = tensor;
  }
  TensorMap decoder;
  for (const auto& [name, tensor] : all) {
    if (starts_with(name, "encoder.")) decoder["decoder." + name] = tensor;
  }
  all.merge(decoder);
  return all;
}

std::string input_size_hint(const ModelConfig& config, const TensorMap& tensors,
                            const LoadReport* report) {
  const auto found = size_dependences().find(config.name);
  if (found == size_dependences().end()) return "";
  const auto& [key, part, voxels_per_token] = found->second;
  if (report != nullptr &&
      std::none_of(report->mismatched.begin(), report->mismatched.end(),
                   [part = part](const auto& item) { return contains(item.name, part); })) {
    return "";
  }
  std::string size = "[D,H,W]";
  for (const auto& [name, tensor] : tensors) {
    if (voxels_per_token == 0 || !contains(name, part)) continue;
    if (tensor.dim() != 3 || tensor.numel() == 0) continue;
    const auto side = voxels_per_token * cube_side(tensor.size(1));
    if (side > 0) size = concat("[", side, ",", side, ",", side, "]");
  }
  return concat("--set model.", key, "=", size);
}

std::string upstream_place(const std::string& network) {
  return is_of_nnunet(network) ? "network_weights" : "";
}

}  // namespace segmamba::nn
