#include "segmamba/nn/upstream_config.h"

#include <map>
#include <optional>
#include <set>

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

// Arguments that are no choice here: null, any value will do, as it changes no result.
const std::map<std::string, Json>& fixed_arguments(const std::string& network) {
  static const std::map<std::string, Json> monai = {{"spatial_dims", 3},
                                                    {"norm_name", "instance"},
                                                    {"res_block", true},
                                                    {"conv_block", nullptr},
                                                    {"use_checkpoint", nullptr}};
  static const std::map<std::string, std::map<std::string, Json>> networks = [] {
    std::map<std::string, std::map<std::string, Json>> table;
    table["segmamba"] = table["unetr"] = table["swin_unetr"] = table["uxnet"] = monai;
    table["segmamba"].insert({{"drop_path_rate", nullptr}, {"layer_scale_init_value", nullptr}});
    table["segresnet"] = {{"spatial_dims", 3}, {"use_conv_final", true}};
    table["swin_unetr"].insert({{"patch_size", 2}, {"img_size", nullptr}, {"patch_norm", false}});
    table["swin_unetr_v2"] = table["swin_unetr"];
    table["swin_unetr"]["use_v2"] = false;
    table["swin_unetr_v2"]["use_v2"] = true;
    table["uxnet"].insert({{"layer_scale_init_value", nullptr}});
    table["mednext"] = {{"checkpoint_style", nullptr}, {"dim", "3d"}};
    table["nnformer"] = {{"patch_size", Json::array({4, 4, 4})}};
    // As nnU-Net's plans write them.
    table["nnunet"] = {
        {"conv_bias", true},         {"conv_op", nullptr},       {"norm_op", nullptr},
        {"norm_op_kwargs", nullptr}, {"dropout_op", nullptr},    {"dropout_op_kwargs", nullptr},
        {"nonlin", nullptr},         {"nonlin_kwargs", nullptr}, {"nonlin_first", nullptr}};
    table["nnunet_resenc"] = table["umamba_bot"] = table["umamba_enc"] = table["nnunet"];
    return table;
  }();
  static const std::map<std::string, Json> none;
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

// Which keys are lists, and which are lists of lists.
class ListKeys final : public ConfigVisitor {
 public:
  void value(const ConfigKey&, bool&) override {}
  void value(const ConfigKey&, std::int64_t&) override {}
  void value(const ConfigKey&, double&) override {}
  void value(const ConfigKey&, std::string&) override {}
  void value(const ConfigKey& key, std::vector<std::int64_t>&) override { lists.emplace(key.name); }
  void value(const ConfigKey& key, std::vector<double>&) override { lists.emplace(key.name); }
  void value(const ConfigKey& key, std::vector<std::string>&) override { lists.emplace(key.name); }
  void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>&) override {
    nested.emplace(key.name);
  }

  std::set<std::string> lists, nested;

 protected:
  bool begin_section(std::string_view, std::string_view) override { return false; }
  void end_section() override {}
};

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

}  // namespace

ModelConfig config_from_upstream(const std::string& model, const Json& arguments,
                                 const std::string& origin) {
  if (!arguments.is_object()) throw Error(origin + ": the arguments must be a JSON object");
  ModelConfig config;
  config.name = network_of(model, origin);
  if (config.name == "swin_unetr" && arguments.contains("use_v2") && arguments["use_v2"] == true) {
    config.name = "swin_unetr_v2";
  }
  ListKeys keys;
  config.visit(keys);

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
  for (const auto& [argument, value] : given.items()) {
    const auto& fixed = fixed_arguments(config.name);
    if (const auto found = fixed.find(argument); found != fixed.end()) {
      if (found->second.is_null() || value == found->second) continue;
      throw Error(concat(origin, ": ", config.name, " with ", argument, " = ", value.dump(),
                         " is not supported, only ", found->second.dump()));
    }
    auto key = own_name(argument);
    if (config.name == "segmamba" && key == "feat_size") key = "dims";
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

}  // namespace segmamba::nn
