#include "segmamba/nn/state_dict.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <set>

#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/core/random_access_file.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/model_config.h"
#include "segmamba/nn/nnunet_plans.h"
#include "segmamba/nn/upstream_config.h"
#include "segmamba/nn/weights.h"

namespace segmamba::nn {
namespace {

constexpr int kMaxNesting = 4;
constexpr std::size_t kShownNames = 5;
constexpr std::size_t kMaxConfigBytes = 256 << 10;  // YAML takes many times its text in memory
// Arguments of an original: the keys of a JSON object are found one by one, in quadratic time.
constexpr std::size_t kMaxArgumentsBytes = 64 << 10;

// Where training programs keep the weights; of two, the first is taken.
const std::vector<std::string>& known_places() {
  static const std::vector<std::string> places = {
      "model",     "network_weights", "state_dict", "model_state_dict", "model_state", "net",
      "network",   "weights",         "params",     "module",           "model_dict",  "ema",
      "generator", "checkpoint"};
  return places;
}

// Tensors stand there as well, but no weights.
bool is_of_training(const std::string& key) {
  for (const auto* word : {"optim", "sched", "scaler", "average", "rng", "loss", "metric", "amp"}) {
    if (to_lower(key).find(word) != std::string::npos) return true;
  }
  return false;
}

bool has_tensors(const Dict& dict) {
  return std::any_of(dict.items().begin(), dict.items().end(),
                     [](const auto& item) { return item.second.is_tensor(); });
}

struct Place {
  const Dict* dict = nullptr;
  std::string name;
};

std::string below(const std::string& place, const std::string& key) {
  return place.empty() ? key : place + "." + key;
}

// Every dict of tensors, in the order of preference: under a known key before any other, that
// before the dict's own tensors (a training program may put a few beside the weights).
void collect(const Dict& dict, const std::string& place, int depth, std::vector<Place>& found) {
  if (depth > kMaxNesting) return;
  const auto before = found.size();
  for (const auto& key : known_places()) {
    const auto* value = dict.find(key);
    if (value != nullptr && value->is_dict()) {
      collect(value->dict(), below(place, key), depth + 1, found);
      if (found.size() > before) return;
    }
  }
  if (has_tensors(dict)) {
    found.push_back({&dict, place});
    return;
  }
  for (const auto& [key, value] : dict.items()) {
    if (value.is_dict() && !is_of_training(key)) {
      collect(value.dict(), below(place, key), depth + 1, found);
    }
  }
}

Place place_named(const Dict& root, const std::string& name) {
  const auto* dict = &root;
  // A key may hold dots itself, so the longest one is tried first.
  std::string rest = name;
  while (!rest.empty()) {
    auto length = rest.size();
    const Value* value = nullptr;
    while (length != std::string::npos && length > 0) {
      value = dict->find(rest.substr(0, length));
      if (value != nullptr && value->is_dict()) break;
      value = nullptr;
      length = rest.rfind('.', length - 1);
    }
    if (value == nullptr) throw Error(concat("there is no dict under \"", name, "\""));
    dict = &value->dict();
    rest = length < rest.size() ? rest.substr(length + 1) : "";
  }
  return {dict, name};
}

Place find_place(const Dict& root, const std::string& wanted) {
  if (!wanted.empty()) return place_named(root, wanted);
  std::vector<Place> found;
  collect(root, "", 0, found);
  if (found.empty()) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : root.items()) keys.push_back(key);
    if (keys.size() > kShownNames) keys.resize(kShownNames);
    throw Error(concat("holds no dict of tensors", keys.empty() ? "" : ", its keys are ",
                       join(keys, ", ")));
  }
  if (found.size() > 1) {
    std::vector<std::string> names;
    for (const auto& place : found) names.push_back(place.name);
    throw Error(concat("holds several dicts of tensors: ", join(names, ", "), "; say which"));
  }
  return found.front();
}

// What messages call a config that stands in a file.
constexpr const char* kConfigInside = "the config inside";

// Keeps the config that `make` gives where it can be read, and otherwise says why not: the tensors
// may be of use all the same.
template <class Make>
void take_config(StateDictFile& file, Make make) {
  try {
    const std::string yaml = make();
    if (yaml.size() > kMaxConfigBytes) throw Error(concat(kConfigInside, ": above 256 KiB"));
    ModelConfig config;
    ConfigDocument::from_text(yaml, kConfigInside).section("model").read(config);
    file.config = yaml;
    // Of another one in the file.
    file.config_problem.clear();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {  // also of JSON that is no UTF-8
    file.config_problem = printable(error.what());
    file.notes.push_back("not used: " + file.config_problem);
  }
}

void take_tensors(const Dict& root, const std::string& wanted, StateDictFile& file) {
  const auto [dict, place] = find_place(root, wanted);
  file.place = place;
  std::size_t others = 0;
  for (const auto& [key, value] : dict->items()) {
    if (value.is_tensor()) {
      file.tensors[key] = value.tensor();
    } else {
      ++others;
    }
  }
  if (!place.empty()) {
    file.notes.push_back("the weights stand under \"" + printable(place) + "\"");
  }
  if (others > 0) file.notes.push_back(concat(others, " entries that are no tensors left out"));
  if (const auto* config = root.find("config"); config != nullptr && config->is_text()) {
    take_config(file, [&] { return config->text(); });
  }
  // A checkpoint of segmamba-train: parameters that were averaged count as such.
  const auto* average = root.find("average");
  if (place != "model" || average == nullptr || !average->is_dict()) return;
  const auto* weights = average->dict().find("weights");
  if (weights == nullptr || !weights->is_dict() || weights->dict().items().empty()) return;
  for (const auto& [name, tensor] : tensor_map(weights->dict())) file.tensors[name] = tensor;
  file.notes.emplace_back("taken: the average of the weights");
}

// By its first bytes; where they tell nothing, by its name.
bool is_safetensors(const std::filesystem::path& path) {
  std::array<char, 9> start{};
  const RandomAccessFile file(path);
  if (file.read_at(0, start.data(), start.size())) {
    // The length of the header and its opening brace. Zip archives and pickles begin with numbers
    // that are larger than files.
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, start.data(), sizeof header_bytes);
    if (start[8] == '{' && header_bytes <= file.size() - sizeof header_bytes) return true;
    const std::string_view begin(start.data(), 4);
    if (begin == "PK\3\4" || begin == "\x80\x02\x8a\x0a") return false;
  }
  return to_lower(path.extension().string()) == ".safetensors";
}

// Leaves the tensors that `prefix` begins, without it.
void keep_below(const std::string& prefix, TensorMap& tensors) {
  TensorMap kept;
  for (const auto& [name, tensor] : tensors) {
    if (starts_with(name, prefix)) kept[name.substr(prefix.size())] = tensor;
  }
  tensors = std::move(kept);
}

// Of the two forms of golden files, the weights: all tensors but those under "golden/", or those
// under "param." where all others have names of such a file.
void keep_weights_of_golden(StateDictFile& file) {
  // What stands before the first dot.
  static const std::set<std::string> words = {"param", "grad",   "gradnorm",    "act",
                                              "input", "output", "grad_output", "skip"};
  const auto before = file.tensors.size();
  const auto& all = file.tensors;
  const auto is_weight = [](const auto& item) { return starts_with(item.first, "param."); };
  const auto is_golden = [](const auto& item) {
    return words.contains(item.first.substr(0, item.first.find('.')));
  };
  if (std::any_of(all.begin(), all.end(), is_weight) &&
      std::all_of(all.begin(), all.end(), is_golden)) {
    keep_below("param.", file.tensors);
  }
  std::erase_if(file.tensors, [](const auto& item) { return starts_with(item.first, "golden/"); });
  const auto dropped = before - file.tensors.size();
  if (dropped == 0) return;
  file.notes.push_back(concat(dropped, " tensors of a golden file left out beside its weights"));
}

// "float32 [16, 4, 3, 3, 3]"
std::string describe_tensor(const torch::Tensor& tensor) {
  std::string type(tensor.dtype().name());
  static const std::map<std::string, std::string> names = {
      {"double", "float64"},    {"float", "float32"},
      {"c10::Half", "float16"}, {"c10::BFloat16", "bfloat16"},
      {"long int", "int64"},    {"long", "int64"},
      {"int", "int32"},         {"short int", "int16"},
      {"signed char", "int8"},  {"unsigned char", "uint8"}};
  if (const auto found = names.find(type); found != names.end()) type = found->second;
  return concat(type, " [", join(tensor.sizes(), ", "), "]");
}

// Tables that a network computes from its config. Another one is of another network.
bool is_index_table(const std::string& name) { return ends_with(name, "relative_position_index"); }

bool fits(const std::string& name, const torch::Tensor& own, const torch::Tensor& given) {
  if (own.sizes() != given.sizes()) return false;
  if (torch::isFloatingType(own.scalar_type()) != torch::isFloatingType(given.scalar_type()) ||
      torch::isComplexType(given.scalar_type())) {
    return false;
  }
  if (!is_index_table(name) || own.is_meta() || given.is_meta()) return true;
  return torch::equal(own.cpu().to(torch::kInt64), given.cpu().to(torch::kInt64));
}

bool is_finite(const torch::Tensor& tensor) {
  if (!torch::isFloatingType(tensor.scalar_type()) || tensor.is_meta()) return true;
  // Some narrow types have no isfinite of their own.
  const auto values = tensor.element_size() < 4 ? tensor.to(torch::kFloat32) : tensor;
  return torch::isfinite(values).all().item<bool>();
}

// "7 missing: a, b, c, d, e, ..."; nothing where there are no names.
std::vector<std::string> list_names(const std::string& what, std::vector<std::string> names,
                                    bool all_names) {
  if (names.empty()) return {};
  const auto count = names.size();
  const bool cut = !all_names && count > kShownNames;
  if (cut) names.resize(kShownNames);
  for (auto& name : names) name = printable(name);
  return {concat(count, " ", what, ": ", join(names, ", "), cut ? ", ..." : "")};
}

// Downwards: "100 %" is all of them.
std::string percent_loaded(const LoadReport& report) {
  const auto all = std::max<std::int64_t>(report.numbers, 1);
  const auto tenths = report.numbers == 0 ? 1000 : 1000 * report.numbers_loaded / all;
  return concat(tenths / 10, tenths % 10 == 0 ? "" : concat(".", tenths % 10), " %");
}

// Of our files, the section `model`; of golden files, the original's name and arguments.
std::string config_of(const std::string& model, const std::string* arguments) {
  if (arguments == nullptr) return model_section(model);
  if (arguments->size() > kMaxArgumentsBytes) {
    throw Error(concat(kConfigInside, ": the arguments take more than 64 KiB"));
  }
  return model_section(config_to_yaml(
      config_from_upstream(model, parse_json(*arguments, kConfigInside), kConfigInside)));
}

}  // namespace

StateDictFile read_state_dict(const std::filesystem::path& path, const std::string& place) {
  const std::string where = path.string();
  try {
    StateDictFile file;
    Value content;
    if (is_safetensors(path)) {
      if (!place.empty()) throw Error("a safetensors file has no keys to choose from");
      auto read = read_safetensors(path);
      file.tensors = std::move(read.tensors);
      const auto model = read.metadata.find("model"), arguments = read.metadata.find("config");
      if (model != read.metadata.end()) {
        take_config(file, [&] {
          return config_of(model->second,
                           arguments == read.metadata.end() ? nullptr : &arguments->second);
        });
      }
    } else {
      content = read_archive(path);
      if (!content.is_dict()) throw Error("holds no dict of tensors");
      take_tensors(content.dict(), place, file);
    }
    keep_weights_of_golden(file);
    for (const auto& prefix : strip_prefixes(file.tensors)) {
      file.notes.push_back("\"" + prefix + "\" removed from the names");
    }
    if (file.tensors.empty()) throw Error("holds no weights");
    // Our own config, where there is one, says more than plans do.
    if (file.config.empty() && content.is_dict() && holds_plans(content.dict())) {
      take_config(file, [&] {
        return model_section(config_to_yaml(
            config_from_nnunet_checkpoint(content.dict(), file.tensors, kConfigInside)));
      });
    }
    return file;
  } catch (const ReadError&) {
    throw;  // it names the file
  } catch (const Error& error) {
    const std::string what = printable(error.what());
    throw Error(starts_with(what, where) ? what : where + ": " + what);
  }
}

std::vector<std::string> strip_prefixes(TensorMap& tensors) {
  std::vector<std::string> stripped;
  bool again = !tensors.empty();
  while (again) {
    again = false;
    for (const std::string prefix :
         {"module.", "_orig_mod.", "_forward_module.", "net.", "network.", "model."}) {
      const bool all = std::all_of(tensors.begin(), tensors.end(), [&](const auto& item) {
        return starts_with(item.first, prefix) && item.first.size() > prefix.size();
      });
      if (!all) continue;
      keep_below(prefix, tensors);
      stripped.push_back(prefix);
      again = true;
    }
  }
  return stripped;
}

TensorMap read_weights(const std::filesystem::path& path) { return read_state_dict(path).tensors; }

std::string model_section(const std::string& keys) {
  std::string text = "model:\n";
  for (const auto& line : split(keys, '\n')) {
    if (!line.empty()) text += "  " + line + "\n";
  }
  return text;
}

LoadReport match_state_dict(const torch::nn::Module& module, const TensorMap& tensors) {
  LoadReport report;
  const auto own = state_dict(module);
  for (const auto& [name, tensor] : own) {
    const auto found = tensors.find(name);
    const bool is_real = torch::isFloatingType(tensor.scalar_type());
    if (is_real) report.numbers += tensor.numel();
    if (found == tensors.end()) {
      (is_real ? report.missing : report.filled).push_back(name);
    } else if (!fits(name, tensor, found->second)) {
      const bool same = describe_tensor(tensor) == describe_tensor(found->second);
      report.mismatched.push_back(
          {name, describe_tensor(found->second), same ? "other values" : describe_tensor(tensor)});
    } else {
      report.loaded.push_back(name);
      if (is_real) report.numbers_loaded += tensor.numel();
      const bool same_type = tensor.scalar_type() == found->second.scalar_type();
      if (is_real && !same_type) report.converted.push_back(name);
      if (!is_finite(found->second)) report.non_finite.push_back(name);
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (!own.contains(name)) report.extra.push_back(name);
  }
  return report;
}

LoadReport load_matching(torch::nn::Module& module, const TensorMap& tensors) {
  auto report = match_state_dict(module, tensors);
  const torch::NoGradGuard no_grad;
  auto own = state_dict(module);
  for (const auto& name : report.loaded) own.at(name).copy_(tensors.at(name));
  return report;
}

std::string warning_of_few(const LoadReport& report) {
  if (2 * report.numbers_loaded >= report.numbers) return "";
  return concat("only ", percent_loaded(report),
                " of the network's numbers were loaded, the rest are as it starts: is the file of "
                "another network, or of one with other sizes?");
}

std::vector<std::string> describe(const LoadReport& report, bool all_names) {
  std::vector<std::string> lines = {concat(report.loaded.size(), " tensors loaded, ",
                                           percent_loaded(report), " of the network's numbers")};
  const auto add = [&](const std::vector<std::string>& more) {
    lines.insert(lines.end(), more.begin(), more.end());
  };
  add(list_names("of another precision than the model", report.converted, all_names));
  add(list_names("not in the file, known to the model", report.filled, all_names));
  add(describe_misfits(report, all_names));
  add(list_names("with NaN or infinite values", report.non_finite, all_names));
  return lines;
}

std::vector<std::string> describe_misfits(const LoadReport& report, bool all_names) {
  std::vector<std::string> mismatches;
  for (const auto& [name, file, model] : report.mismatched) {
    mismatches.push_back(concat(name, " (file ", file, ", model ", model, ")"));
  }
  std::vector<std::string> lines;
  for (const auto& [what, names] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"missing", report.missing},
           {"extra", report.extra},
           {"of another shape, type or content", mismatches}}) {
    const auto line = list_names(what, names, all_names);
    lines.insert(lines.end(), line.begin(), line.end());
  }
  return lines;
}

}  // namespace segmamba::nn
