#include "segmamba/nn/nnunet_plans.h"

#include <algorithm>
#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/upstream_config.h"

namespace segmamba::nn {
namespace {

// Plans hold some hundreds. The keys of a JSON object are found one by one, in quadratic time, and
// what plans say of a network is copied several times.
constexpr std::size_t kMaxValues = 10'000;
// nnU-Net's own configurations inherit from one that inherits from none.
constexpr std::size_t kMaxInherited = 32;

// Counts the values down.
void refuse_excess(const Json& plans, const std::string& origin, std::size_t& left) {
  if (left-- == 0) {
    throw Error(concat(origin, ": the plans hold more than ", kMaxValues, " values"));
  }
  if (!plans.is_structured()) return;
  for (const auto& item : plans) refuse_excess(item, origin, left);
}

// `json[key]`, which must be there.
const Json& at(const Json& json, const std::string& key, const std::string& where) {
  if (!json.is_object() || !json.contains(key)) {
    throw Error(concat(where, ": no plans of nnU-Net v2: there is no \"", key, "\""));
  }
  return json[key];
}

const std::string& text_at(const Json& json, const std::string& key, const std::string& where) {
  const auto& value = at(json, key, where);
  if (!value.is_string()) throw Error(concat(where, ": \"", key, "\" must be a text"));
  return value.get_ref<const std::string&>();
}

// A configuration with what it inherits.
Json configuration_of(const Json& plans, const std::string& name, const std::string& origin) {
  const auto& all = at(plans, "configurations", origin);
  Json result = Json::object();
  std::set<std::string> visited;
  for (std::string next = name; !next.empty();) {
    const auto found = all.is_object() ? all.find(next) : all.end();
    if (found == all.end() || !found->is_object()) {
      std::vector<std::string> known;
      if (all.is_object()) {
        for (const auto& item : all.items()) known.push_back(item.key());
      }
      throw Error(
          concat(origin, ": there is no configuration \"", next, "\", only ", join(known, ", ")));
    }
    if (!visited.insert(next).second) {
      throw Error(concat(origin, ": the configuration ", next, " inherits from itself"));
    }
    if (visited.size() > kMaxInherited + 1) {
      throw Error(concat(origin, ": the configuration ", name, " inherits from more than ",
                         kMaxInherited, " others"));
    }
    const auto& own = *found;
    for (const auto& [key, value] : own.items()) {
      if (!result.contains(key)) result[key] = value;
    }
    const bool inherits = own.contains("inherits_from") && !own["inherits_from"].is_null();
    next = inherits ? text_at(own, "inherits_from", origin) : "";
  }
  return result;
}

// Those of the constructor, of which the numbers of features have no default.
Json arguments_of_plans(const Json& architecture, const std::string& where) {
  const auto& arguments = at(architecture, "arch_kwargs", where);
  if (!arguments.is_object()) {
    throw Error(concat(where, ": \"arch_kwargs\" must be an object with the network's arguments"));
  }
  at(arguments, "features_per_stage", where);
  return arguments;
}

// Of plans before 2.4, which have no arguments of a constructor.
Json arguments_of_old_plans(const Json& configuration, const std::string& network,
                            const std::string& where) {
  const auto& counts = at(configuration, "n_conv_per_stage_encoder", where);
  const auto &base = at(configuration, "UNet_base_num_features", where),
             &most = at(configuration, "unet_max_num_features", where);
  const auto is_count = [](const Json& value) {
    return value.is_number_integer() && value.get<std::int64_t>() > 0;
  };
  if (!is_count(base) || !is_count(most) || !counts.is_array() || counts.size() > 30) {
    throw Error(where + ": the numbers of features or of stages are none");
  }
  // Twice as many at each stage, up to the most.
  Json features = Json::array();
  const auto limit = most.get<std::int64_t>();
  auto width = std::min(base.get<std::int64_t>(), limit);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    features.push_back(width);
    width = width > limit / 2 ? limit : 2 * width;
  }
  return {{"features_per_stage", features},
          {"kernel_sizes", at(configuration, "conv_kernel_sizes", where)},
          {"strides", at(configuration, "pool_op_kernel_sizes", where)},
          {network == "nnunet_resenc" ? "n_blocks_per_stage" : "n_conv_per_stage", counts},
          {"n_conv_per_stage_decoder", at(configuration, "n_conv_per_stage_decoder", where)},
          // What nnU-Net adds to them.
          {"conv_op", "torch.nn.Conv3d"},
          {"conv_bias", true},
          {"norm_op", "torch.nn.InstanceNorm3d"},
          {"norm_op_kwargs", {{"eps", 1e-5}, {"affine", true}}},
          {"nonlin", "torch.nn.LeakyReLU"}};
}

std::string network_of_class(const std::string& path, const std::string& where) {
  const auto name = path.substr(path.rfind('.') + 1);  // npos + 1 is 0
  if (name == "PlainConvUNet") return "nnunet";
  if (name == "ResidualEncoderUNet") return "nnunet_resenc";
  throw Error(concat(where, ": the network is a ", name,
                     ", only PlainConvUNet and ResidualEncoderUNet are known"));
}

// Size of the first of these tensors that is there, along `axis`.
std::int64_t size_of(const TensorMap& tensors, const std::vector<std::string>& names,
                     std::int64_t axis, const std::string& where) {
  for (const auto& name : names) {
    const auto found = tensors.find(name);
    if (found != tensors.end() && found->second.dim() == 5) return found->second.size(axis);
  }
  throw Error(concat(where, ": the plans do not tell the channels, and the weights hold no ",
                     names.front()));
}

// What JSON has a word for; anything else is null. Counts the values down.
Json to_json(const Value& value, std::size_t& left) {
  if (left-- == 0) throw Error(concat("the plans hold more than ", kMaxValues, " values"));
  if (value.is_bool()) return value.boolean();
  if (value.is_integer()) return value.integer();
  if (value.is_real()) return value.real();
  if (value.is_text()) return value.text();
  Json json;
  if (value.is_list()) {
    json = Json::array();
    for (const auto& item : value.list()) json.push_back(to_json(item, left));
  } else if (value.is_dict()) {
    json = Json::object();
    for (const auto& [key, item] : value.dict().items()) json[key] = to_json(item, left);
  }
  return json;
}

const Dict* dict_at(const Dict& dict, const std::string& key) {
  const auto* value = dict.find(key);
  return value != nullptr && value->is_dict() ? &value->dict() : nullptr;
}

}  // namespace

ModelConfig config_from_plans(const Json& plans, const std::string& configuration_name,
                              const std::string& network, const TensorMap& tensors,
                              const std::string& origin) {
  auto left = kMaxValues;
  refuse_excess(plans, origin, left);
  const auto configuration = configuration_of(plans, configuration_name, origin);
  const auto where = concat(origin, ": ", configuration_name);
  const bool is_new = configuration.contains("architecture");
  const auto& architecture = is_new ? configuration["architecture"] : configuration;
  const auto name =
      network.empty()
          ? network_of_class(
                text_at(architecture, is_new ? "network_class_name" : "UNet_class_name", where),
                where)
          : network;
  auto arguments = is_new ? arguments_of_plans(architecture, where)
                          : arguments_of_old_plans(configuration, name, where);
  if (name == "umamba_enc") arguments["input_size"] = at(configuration, "patch_size", where);
  // The first convolution, under either of its names.
  arguments["input_channels"] = size_of(
      tensors,
      {"encoder.stem.0.conv1.weight", "encoder.stem.convs.0.conv.weight",
       "encoder.stem.convs.0.all_modules.0.weight", "encoder.stages.0.0.convs.0.conv.weight",
       "encoder.stages.0.0.convs.0.all_modules.0.weight"},
      1, where);
  arguments["num_classes"] = size_of(tensors, {"decoder.seg_layers.0.weight"}, 0, where);
  return config_from_upstream(name, arguments, where);
}

bool holds_plans(const Dict& checkpoint) {
  const auto* arguments = dict_at(checkpoint, "init_args");
  return arguments != nullptr && dict_at(*arguments, "plans") != nullptr;
}

ModelConfig config_from_nnunet_checkpoint(const Dict& checkpoint, const TensorMap& tensors,
                                          const std::string& origin) {
  const auto& arguments = checkpoint.at("init_args").dict();
  // U-Mamba's trainers take nnU-Net's plans, which name its network.
  const auto* trainer = checkpoint.find("trainer_name");
  const auto is_of = [&](const char* name) {
    return trainer != nullptr && trainer->is_text() &&
           trainer->text().find(name) != std::string::npos;
  };
  const std::string network = is_of("UMambaBot")   ? "umamba_bot"
                              : is_of("UMambaEnc") ? "umamba_enc"
                                                   : "";
  auto left = kMaxValues;
  return config_from_plans(to_json(arguments.at("plans"), left),
                           arguments.at("configuration").text(), network, tensors, origin);
}

}  // namespace segmamba::nn
