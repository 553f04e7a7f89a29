#include "segmamba/nn/upstream_config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "config_keys.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

// An argument of an original's constructor.
struct Argument {
  std::string key;                          // ours; "": it is no choice here,
  std::function<bool(const Json&)> allows;  // what it may be then,
  std::string only;                         // and how an error puts that
  bool is_needed = false;                   // it has no default
  bool takes_none = false;        // Python's None is its default: null is as if it were left out
  std::optional<Json> otherwise;  // where it is left out: the original's default is not ours
};
// As the constructor has them, for errors.
using Arguments = std::vector<std::pair<std::string, Argument>>;
using Words = std::map<std::string, Argument>;

constexpr std::array<const char*, 4> kDropouts = {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d"};

Argument key(const std::string& name, const std::optional<Json>& otherwise = std::nullopt) {
  return {.key = name, .allows = {}, .only = "", .otherwise = otherwise};
}
Argument needed(const std::string& name) {
  auto argument = key(name);
  argument.is_needed = true;
  return argument;
}
Argument or_none(Argument argument) {
  argument.takes_none = true;
  return argument;
}
Argument fixed(std::function<bool(const Json&)> allows, const std::string& only) {
  return {.key = "", .allows = std::move(allows), .only = only, .otherwise = {}};
}
// Numbers are equal as numbers: 2 is 2.0.
Argument only(const Json& wanted) {
  return fixed([wanted](const Json& value) { return value == wanted; }, wanted.dump());
}
// It changes no result, or none that is computed without dropout.
Argument any() {
  return fixed([](const Json&) { return true; }, "");
}
// One number, the same on all three axes.
Argument only_cube(std::int64_t size) {
  const Json list = Json::array({size, size, size});
  return fixed([size, list](const Json& value) { return value == Json(size) || value == list; },
               list.dump());
}
// A class of Python, in any module: "torch.nn.modules.conv.Conv3d" is Conv3d.
Argument only_class(const std::string& name, const std::string& word = "") {
  return fixed(
      [name, word](const Json& value) {
        if (!value.is_string()) return false;
        const auto& path = value.get_ref<const std::string&>();
        return path.substr(path.rfind('.') + 1) == name ||  // npos + 1 is 0
               (!word.empty() && to_lower(path) == word);
      },
      name);
}

// Without training it does nothing.
bool is_dropout(const Json& value) {
  return std::any_of(kDropouts.begin(), kDropouts.end(),
                     [&](const auto* name) { return only_class(name).allows(value); });
}

bool fit(const Json& given, const Words& words) {
  return given.is_object() &&
         std::all_of(given.items().begin(), given.items().end(), [&](const auto& item) {
           const auto found = words.find(item.key());
           return found != words.end() && found->second.allows(item.value());
         });
}
// Arguments of a class: each of them fixed, too.
Argument only_words(const Words& words, const std::string& only) {
  return fixed([words](const Json& value) { return value.is_null() || fit(value, words); }, only);
}

bool is_text(const Json& value, const std::string& lower) {
  return value.is_string() && to_lower(value.get<std::string>()) == lower;
}
// A layer as MONAI takes it: its name in any case, or [name, arguments].
bool is_layer(const Json& value, const std::string& name, const Words& words) {
  if (is_text(value, name)) return true;
  return value.is_array() && value.size() == 2 && is_text(value[0], name) && fit(value[1], words);
}
Argument only_layer(const std::string& name, const Words& words) {
  return fixed([name, words](const Json& value) { return is_layer(value, name, words); },
               Json(name).dump());
}
// Instance norms with parameters, too, where the network here can have them; Derivation reads
// `affine`.
Argument monai_norm(bool may_be_affine) {
  const auto affine =
      may_be_affine ? fixed([](const Json& value) { return value.is_boolean(); }, "") : only(false);
  return only_layer("instance", {{"eps", only(1e-5)},
                                 {"affine", affine},
                                 {"momentum", any()},
                                 {"track_running_stats", only(false)}});
}

Arguments segmamba_arguments() {
  return {{"in_chans", key("in_channels", 1)},
          {"out_chans", key("out_channels", 13)},
          {"depths", key("depths")},
          {"feat_size", key("dims")},
          {"drop_path_rate", any()},  // the original does not use it
          {"layer_scale_init_value", any()},
          {"hidden_size", key("hidden_size")},
          {"norm_name", monai_norm(/*may_be_affine=*/false)},
          {"conv_block", any()},
          {"res_block", only(true)},
          {"spatial_dims", only(3)},
          {"deep_supervision", key("deep_supervision")},
          {"encoder", key("encoder")},
          {"mlp_ratio", key("mlp_ratio")},
          {"directions", key("directions")},
          {"downsample_norm", key("downsample_norm")}};
}

bool is_group_norm(const Json& value) {
  return is_layer(value, "group",
                  {{"num_groups", any()},  // Derivation reads it
                   {"eps", only(1e-5)},
                   {"affine", only(true)}});
}

Arguments segresnet_arguments() {
  return {{"spatial_dims", only(3)},
          {"init_filters", key("init_filters", 8)},
          {"in_channels", key("in_channels", 1)},
          {"out_channels", key("out_channels", 2)},
          {"dropout_prob", or_none(key("dropout_prob"))},
          {"act", only_layer("relu", {{"inplace", any()}})},
          {"norm", fixed(is_group_norm, R"(["group", {"num_groups": N}])")},
          {"norm_name", fixed([](const Json& v) { return is_text(v, "") || is_text(v, "group"); },
                              R"("" or "group")")},
          {"num_groups", key("num_groups")},
          {"use_conv_final", only(true)},
          {"blocks_down", key("blocks_down")},
          {"blocks_up", key("blocks_up")},
          {"upsample_mode", key("upsample_mode")}};
}

Arguments unetr_arguments() {
  return {{"in_channels", key("in_channels")},
          {"out_channels", key("out_channels")},
          {"img_size", key("img_size")},
          {"feature_size", key("feature_size")},
          {"hidden_size", key("hidden_size")},
          {"mlp_dim", key("mlp_dim")},
          {"num_heads", key("num_heads")},
          {"proj_type", key("proj_type")},
          {"pos_embed", key("proj_type")},  // its name before MONAI 1.4
          {"norm_name", monai_norm(/*may_be_affine=*/true)},
          {"norm_affine", key("norm_affine")},
          {"conv_block", key("conv_block")},
          {"res_block", key("res_block")},
          {"dropout_rate", key("dropout_rate")},
          {"spatial_dims", only(3)},
          {"qkv_bias", key("qkv_bias")},
          {"save_attn", any()}};
}

Arguments swin_unetr_arguments() {
  return {{"img_size", any()},  // of MONAI before 1.5, for checks alone; Derivation reads it
          {"in_channels", key("in_channels")},
          {"out_channels", key("out_channels")},
          {"patch_size", only_cube(2)},
          {"depths", key("depths")},
          {"num_heads", key("num_heads")},
          {"window_size", key("window_size")},
          {"qkv_bias", key("qkv_bias")},
          {"mlp_ratio", key("mlp_ratio")},
          {"feature_size", key("feature_size", 24)},
          {"norm_name", monai_norm(/*may_be_affine=*/true)},
          {"norm_affine", key("norm_affine")},
          {"drop_rate", key("drop_rate")},
          {"attn_drop_rate", key("attn_drop_rate")},
          {"dropout_path_rate", key("dropout_path_rate")},
          {"normalize", key("normalize")},
          {"norm_layer", only_class("LayerNorm")},
          {"patch_norm", key("patch_norm")},
          {"use_checkpoint", any()},
          {"spatial_dims", only(3)},
          {"downsample", key("merging")},
          {"use_hyena", only(false)},
          {"hyena_stages", or_none(fixed(
                               [](const Json& v) {
                                 return v.is_array() &&
                                        std::all_of(v.begin(), v.end(), [](const Json& stage) {
                                          return stage == false;
                                        });
                               },
                               "null"))},
          {"hyena_kernel_size", any()},
          {"hyena_kernel_mlp_dim", any()},
          {"hyena_kernel_layers", any()},
          {"hyena_mask_max_attenuation", any()},
          {"hyena_fft_padding", any()},
          {"hyena_grid_type", any()},
          {"hyena_use_chunked_fft", any()},
          {"hyena_use_fft_short_conv", any()},
          {"hyena_omega_0", any()},
          {"hyena_l_cache", any()},
          {"hyena_short_conv_fft_chunks", any()},
          {"use_flash_attention", any()}};
}

Arguments uxnet_arguments() {
  return {{"in_chans", key("in_channels", 1)},
          {"out_chans", key("out_channels", 13)},
          {"depths", key("depths")},
          {"feat_size", key("feat_size")},
          {"drop_path_rate", key("drop_path_rate")},
          {"layer_scale_init_value",
           fixed([](const Json& v) { return v.is_number() && v > 0; }, "numbers above 0")},
          {"hidden_size", key("hidden_size")},
          {"norm_name", monai_norm(/*may_be_affine=*/true)},
          {"norm_affine", key("norm_affine")},
          {"conv_block", any()},
          {"res_block", key("res_block")},
          {"spatial_dims", only(3)},
          {"deep_supervision", key("deep_supervision")}};
}

Arguments mednext_arguments() {
  return {{"in_channels", key("in_channels")},
          {"n_channels", key("n_channels")},
          {"n_classes", key("out_channels")},
          {"exp_r", key("exp_r", 4)},
          {"kernel_size", key("kernel_size", 7)},
          {"enc_kernel_size", any()},  // Derivation reads it
          {"dec_kernel_size", or_none(key("dec_kernel_size"))},
          {"deep_supervision", key("deep_supervision")},
          {"do_res", key("do_res", false)},
          {"do_res_up_down", key("do_res_up_down", false)},
          {"checkpoint_style", any()},
          {"block_counts", key("block_counts", Json::array({2, 2, 2, 2, 2, 2, 2, 2, 2}))},
          {"norm_type", key("norm_type")},
          {"dim", only("3d")},
          {"grn", key("grn")}};
}

Arguments nnformer_arguments() {
  return {{"crop_size", key("crop_size", Json::array({64, 128, 128}))},
          {"embedding_dim", key("embedding_dim", 192)},
          {"input_channels", key("in_channels", 1)},
          {"num_classes", key("out_channels", 14)},
          {"conv_op", only_class("Conv3d")},
          {"depths", key("depths")},
          {"num_heads", key("num_heads", Json::array({6, 12, 24, 48}))},
          {"patch_size", only_cube(4)},  // the original does not run with its default, [2, 4, 4]
          {"window_size", key("window_size")},
          {"deep_supervision", key("deep_supervision", true)}};
}

// The published network has its sizes in its code; the golden files have them as base, emb, ...
Arguments transbts_arguments() {
  return {{"img_dim", key("img_size")},
          {"img", key("img_size")},
          {"patch_dim", only(8)},
          {"num_channels", key("in_channels")},
          {"num_classes", key("out_channels")},
          {"embedding_dim", key("emb")},  // Derivation reads it, emb and tokens
          {"num_heads", key("heads")},
          {"num_layers", key("layers")},
          {"hidden_dim", key("hidden")},
          {"dropout_rate", key("dropout")},
          {"attn_dropout_rate", any()},
          {"conv_patch_representation", only(true)},
          {"positional_encoding_type", only("learned")},
          {"base", key("base")},
          {"base_channels", key("base")},
          {"emb", key("emb")},
          {"tokens", key("tokens")},
          {"group_norm_groups", key("group_norm_groups")},
          {"channel_dropout", key("channel_dropout")}};
}

bool is_unet(const std::string& network) {
  return starts_with(network, "nnunet") || starts_with(network, "umamba");
}

// The layers of nnU-Net's family, as its plans name them.
Arguments unet_arguments(const std::string& blocks) {
  return {{"input_channels", key("in_channels")},
          {"n_stages", key("n_stages")},  // Derivation reads it
          {"features_per_stage", key("features_per_stage")},
          {"conv_op", only_class("Conv3d")},
          {"kernel_sizes", key("kernel_sizes")},
          {"strides", key("strides")},
          {blocks, key(blocks)},
          {"num_classes", key("out_channels")},
          {"n_conv_per_stage_decoder", key("n_conv_per_stage_decoder")},
          {"conv_bias", key("conv_bias")},
          {"norm_op", only_class("InstanceNorm3d")},
          {"norm_affine", key("norm_affine")},
          {"norm_op_kwargs",
           only_words({{"eps", only(1e-5)},  // Derivation reads affine
                       {"affine", fixed([](const Json& v) { return v.is_boolean(); }, "")},
                       {"momentum", any()},
                       {"track_running_stats", only(false)}},
                      R"({"eps": 1e-05, "affine": true or false})")},
          {"dropout_op",
           fixed([](const Json& v) { return v.is_null() || is_dropout(v); }, "null or Dropout3d")},
          {"dropout_op_kwargs", any()},
          {"nonlin", only_class("LeakyReLU")},
          {"nonlin_kwargs", only_words({{"negative_slope", only(0.01)}, {"inplace", any()}},
                                       R"({"negative_slope": 0.01})")},
          {"deep_supervision", key("deep_supervision")}};
}

Arguments with(Arguments arguments, const Arguments& more) {
  for (const auto& item : more) {
    const auto same = std::find_if(arguments.begin(), arguments.end(),
                                   [&](const auto& other) { return other.first == item.first; });
    if (same == arguments.end()) {
      arguments.push_back(item);
    } else {
      same->second = item.second;
    }
  }
  return arguments;
}

// The networks of this framework, whose blocks are the originals'.
Arguments adaptation_arguments() {
  return {{"in_channels", key("in_channels")},
          {"out_channels", key("out_channels")},
          {"depths", key("depths")},
          {"feat_size", key("feat_size")},
          {"hidden_size", key("hidden_size")},
          {"d_state", key("d_state")},
          {"deep_supervision", key("deep_supervision")}};
}

// Blocks by the words of their constructors, create_block() and VSSBlock(), and of the networks
// that hand them on. Defaults are those of the constructors, but that rms_norm, bimamba_type,
// forward_type and channel_first are as in the published models.
Arguments vim_blocks_arguments() {
  return {{"depth", needed("depth")},
          {"length", needed("length")},  // tokens
          {"dim", needed("dim")},
          {"d_model", key("dim")},
          {"embed_dim", key("dim")},
          {"d_state", key("d_state")},
          {"d_conv", only(4)},
          {"expand", only(2)},
          {"ssm_cfg", only_words({{"d_conv", only(4)}, {"expand", only(2)}},
                                 R"(null or {"d_conv": 4, "expand": 2})")},
          {"norm_epsilon", only(1e-5)},
          {"drop_path", any()},
          {"drop_path_rate", any()},
          {"drop_rate", any()},
          {"rms_norm", only(true)},
          {"residual_in_fp32", any()},  // it changes what narrower types than float32 compute
          {"fused_add_norm", any()},
          {"layer_idx", any()},
          {"if_bimamba", only(false)},  // true: bimamba_type v1
          {"bimamba_type", only("v2")},
          {"if_divide_out", key("if_divide_out")},
          {"init_layer_scale", only(nullptr)},
          {"if_cls_token", only(false)}};
}

Arguments vmamba_block_2d_arguments() {
  const auto layer_norm = [](const Json& value) {
    return only_class("LayerNorm", "ln").allows(value) ||
           only_class("LayerNorm2d", "ln2d").allows(value);
  };
  return {{"hidden_dim", needed("dim")},
          {"dim", key("dim")},
          {"channel_first", key("channel_first")},
          {"ssm_d_state", key("d_state")},
          {"d_state", key("d_state")},
          {"ssm_ratio", key("ssm_ratio")},
          {"ssm_dt_rank", only("auto")},
          {"ssm_act_layer", only_class("SiLU", "silu")},
          {"ssm_conv", only(3)},
          {"d_conv", only(3)},
          {"ssm_conv_bias", key("conv_bias")},
          {"conv_bias", key("conv_bias")},
          {"ssm_drop_rate", any()},
          {"ssm_init", any()},
          {"forward_type", key("forward_type")},
          {"mlp_ratio", key("mlp_ratio")},
          {"mlp_act_layer", only_class("GELU", "gelu")},
          {"mlp_drop_rate", any()},
          {"gmlp", only(false)},
          {"norm_layer", fixed(layer_norm, "LayerNorm or LayerNorm2d")},
          {"drop_path", any()},
          {"use_checkpoint", any()},
          {"post_norm", only(false)}};
}

// `name`: of a network or a block.
const Arguments& arguments_of(const std::string& name) {
  static const std::map<std::string, Arguments> table = [] {
    // The originals of U-Mamba take these and make no use of them.
    const Arguments unused = {{"stem_channels", any()}, {"dropout_op", any()}};
    const auto umamba = with(unet_arguments("n_conv_per_stage"), unused);
    return std::map<std::string, Arguments>{
        {"segmamba", segmamba_arguments()},
        {"segresnet", segresnet_arguments()},
        {"unetr", unetr_arguments()},
        {"swin_unetr", with(swin_unetr_arguments(), {{"use_v2", only(false)}})},
        {"swin_unetr_v2", with(swin_unetr_arguments(), {{"use_v2", only(true)}})},
        {"uxnet", uxnet_arguments()},
        {"mednext", mednext_arguments()},
        {"nnformer", nnformer_arguments()},
        {"transbts", transbts_arguments()},
        {"nnunet", with(unet_arguments("n_conv_per_stage"), {{"nonlin_first", only(false)}})},
        {"nnunet_resenc", with(unet_arguments("n_blocks_per_stage"),
                               {{"block", only_class("BasicBlockD")},
                                {"bottleneck_channels", only(nullptr)},
                                {"stem_channels", or_none(key("stem_channels"))}})},
        {"umamba_bot", with(umamba, {{"input_size", any()}})},
        {"umamba_enc", with(umamba, {{"input_size", key("input_size")}})},
        {"vim", with(adaptation_arguments(), {{"pos_grid", key("pos_grid")},
                                              {"if_divide_out", key("if_divide_out")},
                                              {"d_conv", only(4)},
                                              {"expand", only(2)}})},
        {"vmamba", with(adaptation_arguments(), {{"ssm_ratio", key("ssm_ratio")},
                                                 {"mlp_ratio", key("mlp_ratio")},
                                                 {"conv_bias", key("conv_bias")},
                                                 {"forward_type", only("v05_noz")},
                                                 {"d_conv", only(3)}})},
        {"vim_blocks", vim_blocks_arguments()},
        {"vmamba_block_2d", vmamba_block_2d_arguments()}};
  }();
  return table.at(name);
}

// The network of a name: its own, or that of a variant that has a golden file.
std::string network_of(const std::string& model, const std::string& origin) {
  if (model == "mednext_k3" || model == "mednext_k5") return "mednext";
  const auto names = model_names();
  if (std::find(names.begin(), names.end(), model) != names.end()) return model;
  throw Error(
      concat(origin, ": there is no network \"", model, "\"; choose one of ", join(names, ", ")));
}

Json cube(const Json& size) { return Json::array({size, size, size}); }

// Of each item `convert`; nothing where one has none.
std::optional<Json> each(const Json& list,
                         const std::function<std::optional<Json>(const Json&)>& convert) {
  Json result = Json::array();
  for (const auto& item : list) {
    const auto converted = convert(item);
    if (!converted) return std::nullopt;
    result.push_back(*converted);
  }
  return result;
}

// A value as a key of that kind takes it, and nothing where it cannot be one. One number where the
// key is a list is the same for every stage, or on every axis of the keys `of_axes`.
std::optional<Json> converted(const std::string& key, KeyKind kind, const Json& value) {
  static const std::set<std::string> kOfAxes = {"img_size", "crop_size", "input_size", "pos_grid",
                                                "window_size"};
  const auto integer = [](const Json& item) { return json_integer(item); };
  const auto number = [](const Json& item) {
    return item.is_number() ? std::optional(item) : std::nullopt;
  };
  const auto text = [](const Json& item) {
    return item.is_string() ? std::optional(item) : std::nullopt;
  };
  const auto list = value.is_array()        ? value
                    : kOfAxes.contains(key) ? cube(value)
                                            : Json::array({value});
  switch (kind) {
    case KeyKind::kBool:
      for (const int digit : {0, 1}) {
        if (value == digit) return Json(digit == 1);
      }
      return value.is_boolean() ? std::optional(value) : std::nullopt;
    case KeyKind::kInteger:
      return integer(value);
    case KeyKind::kNumber:
      return number(value);
    case KeyKind::kText:
      return text(value);
    case KeyKind::kIntegers:
      return each(list, integer);
    case KeyKind::kNumbers:
      return each(list, number);
    case KeyKind::kTexts:
      return each(list, text);
    case KeyKind::kLists:
      return each(list, [&](const Json& item) {
        return each(item.is_array() ? item : cube(item), integer);
      });
  }
  return std::nullopt;
}

const char* wanted(KeyKind kind) {
  switch (kind) {
    case KeyKind::kBool:
      return "true or false";
    case KeyKind::kInteger:
      return "an integer";
    case KeyKind::kNumber:
      return "a number";
    case KeyKind::kText:
      return "a text";
    case KeyKind::kIntegers:
      return "a list of integers";
    case KeyKind::kNumbers:
      return "a list of numbers";
    case KeyKind::kTexts:
      return "a list of texts";
    case KeyKind::kLists:
      return "a list of lists of integers";
  }
  return "";
}

// Checks the arguments of a file that follow from others, and turns them into those that have keys
// here.
class Derivation {
 public:
  Derivation(std::string network, Json& given, std::string origin)
      : network_(std::move(network)), given_(given), origin_(std::move(origin)) {}

  void run() {
    if (network_ == "segresnet") segresnet();
    if (starts_with(network_, "swin_unetr")) swin_unetr();
    if (network_ == "mednext") mednext();
    if (network_ == "transbts") transbts();
    if (given_.contains("n_stages")) unet();
    if (is_unet(network_)) layers_of_unet();
    norm_affine();
  }

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& why) const {
    throw Error(
        concat(origin_, ": ", network_, " with ", name, " = ", given_[name].dump(), ": ", why));
  }
  bool has(const std::string& name) const {
    return given_.contains(name) && !given_[name].is_null();
  }
  std::int64_t integer(const std::string& name) const {
    const auto value = json_integer(given_[name]);
    if (!value) fail(name, "it must be an integer");
    return value->get<std::int64_t>();
  }
  // Removes an argument; throws where it is there and another number.
  void check(const std::string& name, std::int64_t expected, const std::string& why) {
    if (has(name) && integer(name) != expected) fail(name, concat(why, ", ", expected));
    given_.erase(name);
  }

  // The groups stand in `norm`, but in `num_groups` where the old argument norm_name is used.
  void segresnet() {
    if (!has("norm") || !is_group_norm(given_["norm"])) return;
    if (given_["norm"].is_array() && given_["norm"][1].contains("num_groups") &&
        (!has("norm_name") || is_text(given_["norm_name"], ""))) {
      const Json groups = given_["norm"][1]["num_groups"];  // a new key moves the others
      given_["num_groups"] = groups;
    }
  }

  // Who made it with a size of the input made it with a MONAI before 1.5, whose "merging" is our
  // legacy.
  void swin_unetr() {
    if (!has("img_size") || has("merging")) return;
    if (has("downsample") && given_["downsample"] != "merging") return;
    given_.erase("downsample");
    given_["merging"] = "legacy";
  }

  // The original reads the kernels of encoder and decoder only where kernel_size is null.
  void mednext() {
    if (!given_.contains("kernel_size") || !given_["kernel_size"].is_null()) {
      given_.erase("dec_kernel_size");
      return;
    }
    for (const auto* name : {"enc_kernel_size", "dec_kernel_size"}) {
      if (!has(name)) fail("kernel_size", concat("then ", name, " must be given"));
    }
    given_["kernel_size"] = integer("enc_kernel_size");
  }

  void transbts() {
    constexpr std::int64_t kMaxBase = 65536;
    auto base = TransBtsOptions{}.base;
    bool is_given = false;
    for (const auto* name : {"base", "base_channels"}) {
      if (!has(name)) continue;
      base = integer(name);
      is_given = true;
    }
    for (const auto* name : {"emb", "embedding_dim"}) {
      if (!has(name)) continue;
      if (!is_given) {
        const auto channels = integer(name);
        if (channels % 32 != 0 || channels < 32 || channels > 32 * kMaxBase) {
          fail(name, concat("it must be 32 times 1 to ", kMaxBase));
        }
        given_["base"] = base = channels / 32;
        is_given = true;
      }
      // Another base is an error of its own, later.
      if (base >= 1 && base <= kMaxBase) check(name, 32 * base, "it must be 32 * base");
    }
    given_.erase("emb");
    given_.erase("embedding_dim");
    for (const auto* name : {"img", "img_dim", "img_size"}) {
      if (const auto count = tokens_of(name)) {
        check("tokens", *count, "it must be the number of voxels at 1/8 of the resolution");
      }
    }
    given_.erase("tokens");
  }
  // Nothing where the input's size is not given, or an error of its own, later.
  std::optional<std::int64_t> tokens_of(const std::string& name) const {
    constexpr std::int64_t kMaxSize = 4096;
    if (!has(name)) return std::nullopt;
    const auto sizes = converted("img_size", KeyKind::kIntegers, given_[name]);
    if (!sizes || sizes->size() != 3) return std::nullopt;
    std::int64_t count = 1;
    for (const auto& item : *sizes) {
      const auto size = item.get<std::int64_t>();
      if (size < 1 || size > kMaxSize) return std::nullopt;
      count *= size / 8;
    }
    return count;
  }

  void unet() {
    constexpr std::int64_t kMaxStages = 8;
    if (has("n_stages")) {
      const auto stages = integer("n_stages");
      if (stages < 2 || stages > kMaxStages) {
        fail("n_stages", concat("it must be 2 to ", kMaxStages));
      }
      // One number is that of every stage.
      for (const auto* name : {"features_per_stage", "strides"}) {
        if (has(name) && given_[name].is_number()) {
          given_[name] = Json(static_cast<std::size_t>(stages), given_[name]);
        }
      }
    }
    if (has("features_per_stage") && given_["features_per_stage"].is_array()) {
      const auto& features = given_["features_per_stage"];
      check("n_stages", std::ssize(features), "it must be the length of features_per_stage");
    }
    if (given_.contains("n_stages")) fail("n_stages", "features_per_stage must be given, too");
  }

  // Whoever names norms or activations has the constructor's defaults of what is left out, where no
  // norm_op is no norm; whoever names neither has the layers of the plans.
  void layers_of_unet() {
    const bool names_norm = given_.contains("norm_op"),
               names_activation = given_.contains("nonlin");
    if (!names_norm && !names_activation) return;
    for (const auto& [name, other, layers, only] :
         {std::array{"norm_op", "nonlin", "norms", "InstanceNorm3d"},
          std::array{"nonlin", "norm_op", "activations", "LeakyReLU"}}) {
      if (has(name)) continue;
      throw Error(concat(origin_, ": ", network_,
                         given_.contains(name) ? concat(" with ", name, " = null")
                                               : concat(" without ", name, " beside ", other),
                         " has no ", layers, ", which is not supported, only ", only));
    }
    if (!given_.contains("conv_bias")) given_["conv_bias"] = false;
    if (!given_.contains("norm_affine") && !given_.contains("norm_op_kwargs")) {
      given_["norm_affine"] = false;
    }
  }

  // It stands among the arguments of the norm, and instance norms have no parameters by default.
  void norm_affine() {
    const auto affine = [](const Json& words) {
      return words.is_object() && words.contains("affine") && words["affine"] == true;
    };
    if (given_.contains("norm_op_kwargs")) given_["norm_affine"] = affine(given_["norm_op_kwargs"]);
    if (!has("norm_name") || !given_["norm_name"].is_array()) return;
    const auto& layer = given_["norm_name"];
    if (std::any_of(layer.begin(), layer.end(), affine)) given_["norm_affine"] = true;
  }

  std::string network_;
  Json& given_;
  std::string origin_;
};

// An error of the config reader, which calls an argument by our key and knows of a line.
std::string without_line(const std::string& what, const std::string& origin,
                         const std::map<std::string, std::string>& arguments) {
  const auto place = origin + ":1: ";
  if (!starts_with(what, place)) return what;
  const auto rest = what.substr(place.size());
  const auto found = arguments.find(rest.substr(0, rest.find(' ')));
  if (found == arguments.end()) return concat(origin, ": ", rest);
  return concat(origin, ": ", found->second, rest.substr(found->first.size()));
}

void check_is_object(const Json& arguments, const std::string& origin) {
  if (!arguments.is_object()) throw Error(origin + ": the arguments must be a JSON object");
}

// Sets what the arguments say of `config`, whose keys the arguments of the network or block `model`
// have in the table.
template <class Config>
void read_arguments(const std::string& model, const Json& arguments, const std::string& origin,
                    Config& config) {
  const auto& known = arguments_of(model);
  ConfigKeys keys;
  config.visit(keys);
  const auto& kinds = keys.kinds;
  // By its name, or by the name of its key here.
  const auto find = [&](const std::string& name) {
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const auto& item) { return item.first == name; });
    if (found != known.end() || !kinds.contains(name)) return found;
    return std::find_if(known.begin(), known.end(),
                        [&](const auto& item) { return item.second.key == name; });
  };
  for (const auto& [name, value] : arguments.items()) {
    // Whoever writes files of many networks says so of all of them.
    if (find(name) != known.end() || (name == "deep_supervision" && value == false)) continue;
    std::vector<std::string> names;
    for (const auto& item : known) names.push_back(item.first);
    const auto similar = nearest(name, names);
    throw Error(concat(origin, ": ", model, " has no argument ", name,
                       similar.empty() ? "" : "; did you mean " + similar + "?",
                       similar.empty() ? "; it has " : " It has ", join(names, ", ")));
  }
  Json given = arguments;
  Derivation(model, given, origin).run();

  Json own = Json::object();
  std::map<std::string, std::string> names;  // of the arguments, by key of ours
  for (const auto& [name, value] : given.items()) {
    const auto found = find(name);
    if (found == known.end()) continue;
    const auto& argument = found->second;
    if (value.is_null() && argument.takes_none) continue;
    if (argument.key.empty()) {
      if (argument.allows(value)) continue;
      throw Error(concat(origin, ": ", model, " with ", name, " = ", value.dump(),
                         " is not supported, only ", argument.only));
    }
    const auto kind = kinds.at(argument.key);
    const auto taken = converted(argument.key, kind, value);
    if (!taken) {
      throw Error(concat(origin, ": ", model, ": ", name, " must be ", wanted(kind), ", got ",
                         value.dump()));
    }
    const auto [other, is_new] = names.emplace(argument.key, name);
    if (!is_new && own[argument.key] != *taken) {
      throw Error(concat(origin, ": ", other->second, " and ", name, " are one argument of ", model,
                         " and differ"));
    }
    own[argument.key] = *taken;
  }
  for (const auto& [name, argument] : known) {
    if (argument.otherwise && !own.contains(argument.key)) {
      const auto& key = argument.key;
      own[key] = converted(key, kinds.at(key), *argument.otherwise).value();
    }
    if (argument.is_needed && !own.contains(argument.key)) {
      throw Error(concat(origin, ": ", model, ": ", name, " must be given"));
    }
  }
  try {
    // JSON is YAML.
    ConfigDocument::from_text(own.dump(), origin).read(config);
  } catch (const Error& error) {
    throw Error(without_line(error.what(), origin, names));
  }
}

ModelConfig make_config(const std::string& model, const Json& arguments,
                        const std::string& origin) {
  check_is_object(arguments, origin);
  ModelConfig config;
  config.name = network_of(model, origin);
  if (config.name == "swin_unetr" && arguments.contains("use_v2") && arguments["use_v2"] == true) {
    config.name = "swin_unetr_v2";
  }
  read_arguments(config.name, arguments, origin, config);
  return config;
}

template <class Config>
Config make_block_config(const std::string& block, const Json& arguments,
                         const std::string& origin) {
  check_is_object(arguments, origin);
  Config config;
  read_arguments(block, arguments, origin, config);
  return config;
}

// What the arguments of a file say; names and values of the file are fit for a terminal in errors.
template <class Make>
auto printable_errors(const Make& make) {
  try {
    return make();
  } catch (const Error& error) {
    throw Error(printable(error.what()));
  }
}

constexpr double kMaxChannels = 65536;

}  // namespace

std::optional<Json> json_integer(const Json& value) {
  if (value.is_number_integer()) return value;
  constexpr double kLargest = 9007199254740992;  // 2^53: below, doubles are exact
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  if (number != std::floor(number) || std::abs(number) > kLargest) return std::nullopt;
  return Json(static_cast<std::int64_t>(number));
}

void VimBlocksConfig::visit(ConfigVisitor& v) {
  v.value({.name = "depth", .help = "Blocks", .min = 1, .max = 1024}, depth);
  v.value({.name = "length", .help = "Tokens", .min = 1, .max = 1 << 24}, length);
  v.value({.name = "dim", .help = "Channels", .min = 1, .max = kMaxChannels}, dim);
  v.value({.name = "d_state", .help = "States a channel", .min = 1, .max = 64}, d_state);
  v.value({.name = "if_divide_out", .help = "Mean of the two directions"}, if_divide_out);
}

void VssBlockConfig::visit(ConfigVisitor& v) {
  v.value({.name = "dim", .help = "Channels", .min = 1, .max = kMaxChannels}, dim);
  v.value({.name = "d_state", .help = "States a channel", .min = 1, .max = 64}, d_state);
  v.value({.name = "ssm_ratio", .help = "Scanned over plain channels", .min = 0.01, .max = 64},
          ssm_ratio);
  v.value({.name = "mlp_ratio", .help = "Hidden over plain channels", .min = 0, .max = 64},
          mlp_ratio);
  v.value({.name = "conv_bias", .help = "A bias in the convolution"}, conv_bias);
  v.value({.name = "forward_type", .help = "Of the scans", .choices = {"v05", "v05_noz"}},
          forward_type);
  v.value({.name = "channel_first", .help = "Images [B, C, H, W]"}, channel_first);
}

ModelConfig config_from_upstream(const std::string& model, const Json& arguments,
                                 const std::string& origin) {
  return printable_errors([&] { return make_config(model, arguments, origin); });
}

VimBlocksConfig vim_blocks_from_upstream(const Json& arguments, const std::string& origin) {
  return printable_errors(
      [&] { return make_block_config<VimBlocksConfig>("vim_blocks", arguments, origin); });
}

VssBlockConfig vmamba_block_2d_from_upstream(const Json& arguments, const std::string& origin) {
  return printable_errors(
      [&] { return make_block_config<VssBlockConfig>("vmamba_block_2d", arguments, origin); });
}

std::string in_words_of_original(std::string text, const std::string& model) {
  const std::string prefix = "model.";
  for (auto at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at)) {
    text.erase(at, prefix.size());
    const auto end =
        std::find_if(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), [](char letter) {
          return std::isalnum(static_cast<unsigned char>(letter)) == 0 && letter != '_';
        });
    const auto length = static_cast<std::size_t>(end - text.begin()) - at;
    const auto key = text.substr(at, length);
    const auto& known = arguments_of(model);
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const auto& item) { return item.second.key == key; });
    if (found != known.end()) text.replace(at, length, found->first);
  }
  return text;
}

}  // namespace segmamba::nn
