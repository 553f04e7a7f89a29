#include "model_weights.h"

#include <torch/torch.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "model_options.h"
#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/network_difference.h"
#include "segmamba/nn/nnunet_plans.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_weights.h"
#include "segmamba/nn/weights.h"

namespace segmamba::apps {
namespace {

struct Options {
  std::filesystem::path from, output, config, plans;
  std::string model, key, configuration = "3d_fullres", dtype = "as-is", layout = "auto",
                          first_layer = "random";
  std::vector<std::string> set;
  std::int64_t seed = 0;
  bool strict = false;
};

// Real ones take some tens of KiB. Keys of JSON are found one by one, in quadratic time.
constexpr std::uint64_t kMaxPlansBytes = 256 << 10;

// The network that is asked for: by name, by a config, by plans of nnU-Net, or by the file itself.
nn::ModelConfig read_model_config(const Options& options, const nn::StateDictFile& file) {
  if (!options.config.empty() && (!options.model.empty() || !options.plans.empty())) {
    throw UsageError("--config names the network: give it without --model and --plans");
  }
  auto document = [&] {
    if (!options.config.empty()) return ConfigDocument::from_file(options.config);
    if (!options.plans.empty()) {
      const auto plans = options.plans.string();
      const auto config =
          nn::config_from_plans(parse_json(read_file(options.plans, kMaxPlansBytes), plans),
                                options.configuration, options.model, file.tensors, plans);
      return ConfigDocument::from_text(nn::model_section(config_to_yaml(config)), plans);
    }
    if (!options.model.empty()) {
      return ConfigDocument::from_text("model:\n  name: " + options.model + "\n", "--model");
    }
    return config_inside(file, options.from, "--model, --config or --plans");
  }();
  for (const auto& assignment : options.set) document.override_value(assignment);
  auto config = apps::read_model_config(document);
  config.init_from.clear();  // the weights are here
  config.freeze.clear();
  return config;
}

bool is_archive(const std::filesystem::path& path) {
  const auto suffix = to_lower(path.extension().string());
  if (suffix == ".pt" || suffix == ".pth") return true;
  if (suffix == ".safetensors") return false;
  throw UsageError("--output: expected a name that ends in .safetensors, .pt or .pth, got \"" +
                   path.string() + "\"");
}

std::optional<torch::ScalarType> stored_dtype(const std::string& name) {
  if (name == "as-is") return std::nullopt;
  if (name == "float64") return torch::kFloat64;
  if (name == "float32") return torch::kFloat32;
  if (name == "float16") return torch::kFloat16;
  if (name == "bfloat16") return torch::kBFloat16;
  throw UsageError("--dtype: expected as-is, float64, float32, float16 or bfloat16, got \"" + name +
                   "\"");
}

void print_notes(const std::vector<std::string>& notes) {
  for (const auto& note : notes) std::printf("  %s\n", note.c_str());
}

// What a file holds for a network.
struct Imported {
  nn::ModelConfig config;
  std::shared_ptr<nn::SegmentationModel> model;
  nn::TensorMap tensors;
  nn::LoadReport report;
};

nn::FirstLayer parse_first_layer(const std::string& name) {
  if (name == "random") return nn::FirstLayer::kRandom;
  if (name == "repeat") return nn::FirstLayer::kRepeat;
  if (name == "mean") return nn::FirstLayer::kMean;
  throw UsageError("--first-layer: expected random, repeat or mean, got \"" + name + "\"");
}

bool names_no_network(const Options& options) {
  return options.config.empty() && options.plans.empty() && options.model.empty();
}

// What a file says of its network counts only where it holds most of it: plans of nnU-Net, for one,
// also lie beside the weights of networks that its users have put in place of its own. And a file
// must not ask for more memory than it has numbers for.
void check_own_word(const Options& options, const Imported& imported,
                    const torch::nn::Module& shape) {
  const auto report = nn::match_state_dict(shape, imported.tensors);
  if (nn::warning_of_few(report).empty()) return;
  throw Error(concat(options.from.string(), ": the file says that it is of ", imported.config.name,
                     ", but holds less than half of that network's numbers: which one is it of? "
                     "Give --model, --config or --plans"));
}

// `fits_sizes`: weights of a network of other sizes are made to fit where there is a way.
Imported read_for_network(const Options& options, bool fits_sizes) {
  auto file = nn::read_state_dict(options.from, options.key);
  Imported result;
  result.config = read_model_config(options, file);
  std::printf("%s: %zu tensors\n", options.from.c_str(), file.tensors.size());
  print_notes(file.notes);
  try {
    auto adapted = nn::adapt_state_dict(result.config, std::move(file.tensors),
                                        nn::is_of_network(file.config, result.config));
    print_notes(adapted.notes);
    result.tensors = std::move(adapted.tensors);
  } catch (const Error& error) {
    throw Error(concat(options.from.string(), ": ", error.what()));
  }
  const auto shape = [&] {
    try {
      return nn::make_meta_model(result.config);
    } catch (const Error& error) {
      const auto* size = nn::fixed_input_size(result.config);
      if (size == nullptr || !size->empty()) throw;
      throw Error(concat(error.what(), ": ",
                         nn::input_size_hint(result.config, result.tensors, nullptr),
                         ", what the weights were trained with"));
    }
  }();
  print_notes(nn::fit_first_layer(result.config, *shape, parse_first_layer(options.first_layer),
                                  result.tensors));
  if (fits_sizes) {
    print_notes(nn::enlarge_kernels(result.config, *shape, result.tensors));
  }
  if (names_no_network(options)) check_own_word(options, result, *shape);
  torch::manual_seed(static_cast<std::uint64_t>(options.seed));
  result.model = nn::make_model(result.config);
  result.report = nn::match_state_dict(*result.model, result.tensors);
  std::printf("network %s:\n", result.config.name.c_str());
  print_notes(nn::describe(result.report, /*all_names=*/log_level() == LogLevel::kDebug));
  if (const auto difference = nn::network_difference(file.config, result.config);
      !difference.empty()) {
    print_notes({difference});
  }
  if (const auto hint = nn::input_size_hint(result.config, result.tensors, &result.report);
      !hint.empty()) {
    print_notes({"for inputs of the size that they were trained with: " + hint});
  }
  return result;
}

[[noreturn]] void refuse(const Options& options, const Imported& imported, const char* why) {
  const auto& report = imported.report;
  throw Error(concat(options.from.string(), ": ", report.missing.size(), " tensors missing, ",
                     report.extra.size(), " extra, ", report.mismatched.size(),
                     " of another shape or type for ", imported.config.name, ": ", why));
}

// The state of the network: what the file has of it, in the file's own precision, and the rest as
// the network starts.
nn::TensorMap merged_state(const Imported& imported, std::optional<torch::ScalarType> dtype) {
  auto state = nn::state_dict(*imported.model);
  for (const auto& name : imported.report.loaded) {
    auto& own = state.at(name);
    const auto& given = imported.tensors.at(name);
    own = torch::isFloatingType(own.scalar_type()) ? given : given.to(own.scalar_type());
  }
  for (auto& [name, tensor] : state) {
    if (dtype && torch::isFloatingType(tensor.scalar_type())) tensor = tensor.to(*dtype);
  }
  return state;
}

void import_weights(const Options& options) {
  const auto dtype = stored_dtype(options.dtype);
  const bool to_archive = is_archive(options.output);
  // Complain before the work is done.
  check_output_is_no_input(options.output, options.from, "the file of --from");
  if (parse_first_layer(options.first_layer) != nn::FirstLayer::kRandom && options.strict) {
    throw UsageError("--first-layer " + options.first_layer +
                     " changes weights that do not fit, --strict takes none of them: give one");
  }
  const auto imported = read_for_network(options, /*fits_sizes=*/!options.strict);
  const auto& report = imported.report;
  if (report.loaded.empty()) {
    refuse(options, imported, "nothing fits (is it another network, or of other sizes?)");
  }
  if (options.strict && !report.is_complete()) {
    refuse(options, imported, "nothing was written (--strict)");
  }
  if (const auto warning = nn::warning_of_few(report); !warning.empty()) log_warning(warning);
  if (!report.non_finite.empty()) {
    log_warning(concat(report.non_finite.size(), " tensors hold NaN or infinite values, as ",
                       report.non_finite.front()));
  }
  const auto state = merged_state(imported, dtype);
  const auto yaml = config_to_yaml(imported.config);
  if (to_archive) {
    nn::Dict content;
    content.set("model", nn::tensor_dict(state));
    content.set("config", nn::model_section(yaml));
    nn::write_archive(options.output, content);
  } else {
    nn::write_safetensors(options.output, {state, {{"format", "pt"}, {"model", yaml}}});
  }
  const auto kept = report.missing.size() + report.mismatched.size();
  std::printf("%zu tensors -> %s", state.size(), options.output.c_str());
  if (kept > 0) std::printf(" (%zu of them as the network starts)", kept);
  std::printf("\n");
}

std::string place_of(const Options& options, const std::string& network) {
  if (options.layout == "auto") return nn::upstream_place(network);
  if (options.layout == "state_dict") return "";
  if (options.layout == "nnunet") return "network_weights";
  if (options.layout == "checkpoint") return "state_dict";
  throw UsageError("--layout: expected auto, state_dict, nnunet or checkpoint, got \"" +
                   options.layout + "\"");
}

void export_weights(const Options& options) {
  const bool to_archive = is_archive(options.output);
  // Complain before the work is done.
  check_output_is_no_input(options.output, options.from, "the file of --from");
  if (const auto asked = place_of(options, ""); !to_archive && !asked.empty()) {
    throw UsageError("--layout " + options.layout + " puts the weights under \"" + asked +
                     "\", which a .safetensors file has no place for: name a .pt or .pth file");
  }
  const auto exported = read_for_network(options, /*fits_sizes=*/false);
  if (!exported.report.is_complete()) {
    refuse(options, exported, "the original would not take them");
  }
  const auto state = nn::upstream_state_dict(exported.config, merged_state(exported, std::nullopt));
  std::string place;
  if (to_archive) {
    auto content = nn::tensor_dict(state);
    place = place_of(options, exported.config.name);
    if (!place.empty()) {
      nn::Dict outer;
      outer.set(place, std::move(content));
      content = std::move(outer);
    }
    nn::write_archive(options.output, content);
  } else {
    nn::write_safetensors(options.output, {state, {{"format", "pt"}}});
  }
  std::printf("%zu names -> %s%s\n", state.size(), options.output.c_str(),
              place.empty() ? "" : (", under \"" + place + "\"").c_str());
}

void add_network_options(CommandLine& line, Options& options) {
  line.option("--from", options.from,
              "Weights: .pt, .pth (of any PyTorch), safetensors, or a training checkpoint",
              Need::kRequired);
  line.option("--output", options.output, "File to write: .safetensors, .pt or .pth",
              Need::kRequired);
  line.option("--model", options.model, "Network, with its default options (see --set)");
  line.option("--config", options.config, "YAML with a section `model`, instead of --model");
  line.option("--plans", options.plans,
              "plans.json of nnU-Net v2 or U-Mamba (--model umamba_bot or umamba_enc), where the "
              "checkpoint does not hold it");
  line.option("--configuration", options.configuration, "Of the plans");
  line.option("--set,-s", options.set, "Overrides of config keys, as in model.out_channels=3");
  line.option("--key", options.key,
              "Where in the file the weights stand, as in state_dict (default: found)");
}

}  // namespace

void add_weight_commands(CommandLine& line) {
  static Options import_options, export_options;
  auto& import_line =
      line.command("import", "Weights of an original under our names, with a report of what fits",
                   [] { import_weights(import_options); });
  add_network_options(import_line, import_options);
  import_line.flag("--strict", import_options.strict,
                   "Write nothing unless every tensor of file and network fits");
  import_line.option("--first-layer", import_options.first_layer,
                     "Convolutions of the image where the file has another number of channels: "
                     "random, repeat or mean");
  import_line.option("--dtype", import_options.dtype,
                     "Precision to store: as-is, float64, float32, float16 or bfloat16");
  import_line.option("--seed", import_options.seed,
                     "Of the initial values that parameters keep which the file has not");
  auto& export_line =
      line.command("export", "Weights under the names that the original's load_state_dict takes",
                   [] { export_weights(export_options); });
  add_network_options(export_line, export_options);
  export_line.option("--layout", export_options.layout,
                     "Of a .pt file: state_dict (the names themselves), nnunet (under "
                     "network_weights), checkpoint (under state_dict), auto (as the original)");
}

}  // namespace segmamba::apps
