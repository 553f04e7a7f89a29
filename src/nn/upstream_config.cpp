#include "segmamba/nn/upstream_config.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "printable.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

// What the originals call a key of ours.
std::string own_name(const std::string& argument) {
  static const std::map<std::string, std::string> names = {
      {"in_chans", "in_channels"},   {"input_channels", "in_channels"},
      {"out_chans", "out_channels"}, {"num_classes", "out_channels"},
      {"n_classes", "out_channels"}, {"embed_dim", "embedding_dim"},
      {"img", "img_size"},           {"downsample", "merging"},
  };
  const auto found = names.find(argument);
  return found == names.end() ? argument : found->second;
}

// An argument that is no choice here: what it may be, and how an error puts that.
struct FixedArgument {
  std::function<bool(const Json&)> allows;
  std::string only;
};
using FixedArguments = std::map<std::string, FixedArgument>;

FixedArgument only(const Json& wanted) {
  return {[wanted](const Json& value) { return value == wanted; }, wanted.dump()};
}
// It changes no result.
FixedArgument any() {
  return {[](const Json&) { return true; }, ""};
}
// A class of Python, in any module: "torch.nn.modules.conv.Conv3d" is Conv3d.
FixedArgument only_class(const std::string& name) {
  return {[name](const Json& value) {
            if (!value.is_string()) return false;
            const auto& path = value.get_ref<const std::string&>();
            return path.substr(path.rfind('.') + 1) == name;  // npos + 1 is 0
          },
          name};
}
// Arguments of such a class: each of them fixed, too, and some that must be there, as their own
// defaults are others.
FixedArgument only_words(const FixedArguments& words, const std::set<std::string>& needed,
                         const std::string& only) {
  return {[words, needed](const Json& value) {
            if (value.is_null()) return needed.empty();
            if (!value.is_object()) return false;
            const bool fits =
                std::all_of(value.items().begin(), value.items().end(), [&](const auto& item) {
                  const auto found = words.find(item.key());
                  return found != words.end() && found->second.allows(item.value());
                });
            return fits && std::all_of(needed.begin(), needed.end(),
                                       [&](const auto& name) { return value.contains(name); });
          },
          only};
}

// The layers of nnU-Net's family, as its plans name them.
FixedArguments layers_of_nnunet() {
  return {{"conv_op", only_class("Conv3d")},
          {"conv_bias", only(true)},
          {"norm_op", only_class("InstanceNorm3d")},
          {"norm_op_kwargs", only_words({{"eps", only(1e-5)},
                                         {"affine", only(true)},
                                         {"momentum", any()},
                                         {"track_running_stats", only(false)}},
                                        {"affine"}, R"({"eps": 1e-05, "affine": true})")},
          {"dropout_op", only(nullptr)},
          {"dropout_op_kwargs", any()},
          {"nonlin", only_class("LeakyReLU")},
          {"nonlin_kwargs", only_words({{"negative_slope", only(0.01)}, {"inplace", any()}}, {},
                                       R"({"negative_slope": 0.01})")},
          {"nonlin_first", only(false)}};
}

const FixedArguments& fixed_arguments(const std::string& network) {
  static const std::map<std::string, FixedArguments> networks = [] {
    std::map<std::string, FixedArguments> table;
    const FixedArguments monai = {{"spatial_dims", only(3)},
                                  {"norm_name", only("instance")},
                                  {"res_block", only(true)},
                                  {"conv_block", any()},
                                  {"use_checkpoint", any()}};
    table["segmamba"] = table["unetr"] = table["swin_unetr"] = table["uxnet"] = monai;
    table["segmamba"].insert({{"drop_path_rate", any()}, {"layer_scale_init_value", any()}});
    table["segresnet"] = {{"spatial_dims", only(3)}, {"use_conv_final", only(true)}};
    table["unetr"]["conv_block"] = only(true);
    table["swin_unetr"].insert(
        {{"patch_size", only(2)}, {"img_size", any()}, {"patch_norm", only(false)}});
    table["swin_unetr_v2"] = table["swin_unetr"];
    table["swin_unetr"]["use_v2"] = only(false);
    table["swin_unetr_v2"]["use_v2"] = only(true);
    table["uxnet"].insert({{"layer_scale_init_value", any()}});
    table["mednext"] = {{"checkpoint_style", any()}, {"dim", only("3d")}};
    table["nnformer"] = {{"patch_size", only(Json::array({4, 4, 4}))}};
    table["nnunet"] = table["nnunet_resenc"] = table["umamba_bot"] = table["umamba_enc"] =
        layers_of_nnunet();
    return table;
  }();
  static const FixedArguments none;
  const auto found = networks.find(network);
  return found == networks.end() ? none : found->second;
}

// What the originals take where an argument is left out, and ours do not.
const Json& default_arguments(const std::string& network) {
  static const Json defaults = {
      {"segresnet", {{"in_channels", 1}, {"out_channels", 2}, {"init_filters", 8}}},
      {"swin_unetr", {{"feature_size", 24}}},
      {"swin_unetr_v2", {{"feature_size", 24}}},
      {"uxnet", {{"in_chans", 1}, {"out_chans", 13}}},
      {"mednext",
       {{"exp_r", 4},
        {"kernel_size", 7},
        {"do_res", false},
        {"do_res_up_down", false},
        {"block_counts", Json::array({2, 2, 2, 2, 2, 2, 2, 2, 2})}}},
      {"segmamba", {{"in_chans", 1}, {"out_chans", 13}}},
  };
  static const Json none = Json::object();
  return defaults.contains(network) ? defaults[network] : none;
}

// The network of a name such as "mednext_k5".
std::string network_of(const std::string& model, const std::string& origin) {
  std::string best;
  for (const auto& name : model_names()) {
    if ((model == name || starts_with(model, name + "_")) && name.size() > best.size()) best = name;
  }
  if (best.empty()) {
    throw Error(concat(origin, ": there is no network \"", model, "\"; choose one of ",
                       join(model_names(), ", ")));
  }
  return best;
}

// The keys of a config, and which of them are lists and lists of lists.
class Keys final : public ConfigVisitor {
 public:
  explicit Keys(ModelConfig config) { config.visit(*this); }

  void value(const ConfigKey& key, bool&) override { all.emplace(key.name); }
  void value(const ConfigKey& key, std::int64_t&) override { all.emplace(key.name); }
  void value(const ConfigKey& key, double&) override { all.emplace(key.name); }
  void value(const ConfigKey& key, std::string&) override { all.emplace(key.name); }
  void value(const ConfigKey& key, std::vector<std::int64_t>&) override { add(key, lists); }
  void value(const ConfigKey& key, std::vector<double>&) override { add(key, lists); }
  void value(const ConfigKey& key, std::vector<std::string>&) override { add(key, lists); }
  void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>&) override {
    add(key, nested);
  }
  // Keys of other networks.
  void unused(const std::vector<std::string>& names, const std::string&) override {
    others.insert(names.begin(), names.end());
  }

  std::set<std::string> all, lists, nested, others;

 protected:
  bool begin_section(std::string_view, std::string_view) override { return false; }
  void end_section() override {}

 private:
  void add(const ConfigKey& key, std::set<std::string>& kind) {
    all.emplace(key.name);
    kind.emplace(key.name);
  }
};

// Keys of `model` that no constructor has.
bool is_of_training(const std::string& key) {
  return key == "name" || key == "init_from" || key == "freeze";
}

Json cube(const Json& size) { return Json::array({size, size, size}); }

// One number where ours has a list: the same on every axis, or for every stage.
Json as_list(const std::string& key, const Json& value) {
  static const std::set<std::string> kOfAxes = {"img_size", "crop_size", "input_size", "pos_grid",
                                                "window_size"};
  if (value.is_array()) return value;
  return kOfAxes.contains(key) ? cube(value) : Json::array({value});
}

Json as_nested_list(const Json& value) {
  if (!value.is_array()) return Json::array({cube(value)});
  Json list = Json::array();
  for (const auto& item : value) list.push_back(item.is_array() ? item : cube(item));
  return list;
}

// Arguments that follow from others. Removes them; throws Error where they contradict.
void check_derived(const std::string& network, Json& arguments, const std::string& origin) {
  const auto check = [&](const char* name, const std::optional<Json>& expected,
                         const std::string& why) {
    if (!arguments.contains(name)) return;
    if (expected && arguments[name] != *expected) {
      throw Error(concat(origin, ": ", network, " with ", name, " = ", arguments[name].dump(), ": ",
                         why, ", ", expected->dump()));
    }
    arguments.erase(name);
  };
  if (arguments.contains("features_per_stage") && arguments["features_per_stage"].is_array()) {
    check("n_stages", Json(arguments["features_per_stage"].size()),
          "it must be the length of features_per_stage");
  }
  if (network == "transbts") {
    const auto base = arguments.value("base", Json(TransBtsOptions{}.base));
    if (!base.is_number_integer()) return;
    check("emb", Json(32 * base.get<std::int64_t>()), "it must be 32 * base");
  }
}

ModelConfig make_config(const std::string& model, const Json& arguments,
                        const std::string& origin) {
  if (!arguments.is_object()) throw Error(origin + ": the arguments must be a JSON object");
  ModelConfig config;
  config.name = network_of(model, origin);
  if (config.name == "swin_unetr" && arguments.contains("use_v2") && arguments["use_v2"] == true) {
    config.name = "swin_unetr_v2";
  }
  const Keys keys(config);
  Json given = arguments;
  check_derived(config.name, given, origin);
  for (const auto& [argument, value] : default_arguments(config.name).items()) {
    bool is_given = false;
    for (const auto& item : given.items()) {
      is_given = is_given || own_name(item.key()) == own_name(argument);
    }
    if (!is_given) given[argument] = value;
  }
  Json own = {{"name", config.name}};
  std::map<std::string, std::string> arguments_of;  // of keys of ours
  for (const auto& [argument, value] : given.items()) {
    const auto& fixed = fixed_arguments(config.name);
    if (const auto found = fixed.find(argument); found != fixed.end()) {
      if (found->second.allows(value)) continue;
      throw Error(concat(origin, ": ", config.name, " with ", argument, " = ", value.dump(),
                         " is not supported, only ", found->second.only));
    }
    auto key = own_name(argument);
    if (config.name == "segmamba" && key == "feat_size") key = "dims";
    if (is_of_training(key) || (keys.others.contains(key) && !keys.all.contains(key))) {
      throw Error(concat(origin, ": ", config.name, " has no argument ", argument));
    }
    const auto [other, is_new] = arguments_of.emplace(key, argument);
    if (!is_new) {
      throw Error(concat(origin, ": ", other->second, " and ", argument, " are one argument of ",
                         config.name));
    }
    if (keys.nested.contains(key)) {
      own[key] = as_nested_list(value);
    } else {
      own[key] = keys.lists.contains(key) ? as_list(key, value) : value;
    }
  }
  // JSON is YAML.
  ConfigDocument::from_text(own.dump(), origin).read(config);
  return config;
}

}  // namespace

ModelConfig config_from_upstream(const std::string& model, const Json& arguments,
                                 const std::string& origin) {
  try {
    return make_config(model, arguments, origin);
  } catch (const Error& error) {
    throw Error(printable(error.what()));  // names and values of the file
  }
}

}  // namespace segmamba::nn
