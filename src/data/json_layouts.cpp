// Data sets with a dataset.json: nnU-Net raw (v1 and v2) and the Medical Segmentation Decathlon.
#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include "layouts.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const JsonDataset& dataset, const std::string& what) {
  throw Error(concat(dataset.path.string(), ": ", what));
}

std::string text_of(const JsonDataset& dataset, const Json& value, const std::string& where) {
  if (!value.is_string()) fail(dataset, concat(where, " must be a text, not ", value.dump()));
  return value.get<std::string>();
}

const Json* find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

// A number, or one in quotes.
bool parse_integer(const Json& value, std::int64_t& number) {
  if (value.is_number_integer()) {
    number = value.get<std::int64_t>();
    return true;
  }
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  return result.ec == std::errc() && result.ptr == end;
}

std::uint8_t label_value(const JsonDataset& dataset, const Json& value, const std::string& name) {
  std::int64_t number = -1;
  if (!parse_integer(value, number) || number < 0 || number > 255) {
    fail(dataset,
         concat("labels: '", name, "' must have a value from 0 to 255, not ", value.dump()));
  }
  return static_cast<std::uint8_t>(number);
}

// {"0": "FLAIR", "1": "T1w"}: the names by index.
std::vector<std::string> channel_names(const JsonDataset& dataset) {
  const char* key = dataset.content.contains("channel_names") ? "channel_names" : "modality";
  const Json* channels = find(dataset.content, key);
  if (channels == nullptr || !channels->is_object() || channels->empty()) {
    fail(dataset, R"(needs "channel_names" (or "modality"), as in {"0": "FLAIR", "1": "T1w"})");
  }
  std::vector<std::string> names(channels->size());
  for (const auto& [index, name] : channels->items()) {
    std::int64_t place = -1;
    if (!parse_integer(Json(index), place) || place < 0 || place >= std::ssize(names) ||
        !names[static_cast<std::size_t>(place)].empty()) {
      fail(dataset, concat(key, ": channels must be numbered from 0 to ", names.size() - 1,
                           ", not '", index, "'"));
    }
    auto& target = names[static_cast<std::size_t>(place)];
    target = text_of(dataset, name, concat(key, ": ", index));
    if (target.empty()) fail(dataset, concat(key, ": channel ", index, " has no name"));
  }
  return names;
}

struct Region {
  std::string name;
  std::set<std::uint8_t> values;

  bool holds(const Region& other) const {
    return std::includes(values.begin(), values.end(), other.values.begin(), other.values.end());
  }
};

// The class of what a region has beyond the smaller ones in it.
std::string rest_name(const Region& region, const std::vector<const Region*>& inside) {
  const auto has = [&](const char* name) {
    return std::any_of(inside.begin(), inside.end(), [&](const Region* smaller) {
      return canonical_class(smaller->name) == name;
    });
  };
  const std::string name = canonical_class(region.name);
  if (name == "whole tumour" && has("tumour core")) return "oedema";
  if (name == "tumour core" && has("enhancing")) return "necrosis";
  return region.name;
}

std::vector<NamedValue> values_of_regions(const JsonDataset& dataset,
                                          const std::vector<Region>& regions) {
  std::vector<NamedValue> named;
  for (const auto& region : regions) {
    std::vector<const Region*> inside;
    for (const auto& other : regions) {
      if (&other == &region || !region.holds(other)) continue;
      if (other.holds(region)) {
        fail(dataset, concat("labels: '", region.name, "' and '", other.name, "' are the same"));
      }
      inside.push_back(&other);
    }
    const std::string name = rest_name(region, inside);
    for (const std::uint8_t value : region.values) {
      if (std::any_of(inside.begin(), inside.end(),
                      [&](const Region* other) { return other->values.contains(value); })) {
        continue;
      }
      for (const auto& earlier : named) {
        if (earlier.value != value) continue;
        fail(dataset, concat("labels: value ", int{value}, " belongs to '", earlier.name,
                             "' and to '", name, "', of which neither lies in the other"));
      }
      named.push_back({value, name});
    }
  }
  return named;
}

std::vector<NamedValue> label_names(const JsonDataset& dataset) {
  const Json* labels = find(dataset.content, "labels");
  if (labels == nullptr || !labels->is_object() || labels->empty()) {
    fail(dataset, R"(needs "labels", as in {"background": 0, "edema": 1})");
  }
  constexpr std::size_t kMostLabels = 1000;
  if (labels->size() > kMostLabels) fail(dataset, concat("has more than ", kMostLabels, " labels"));
  std::vector<NamedValue> named;
  std::vector<Region> regions;
  for (const auto& [key, value] : labels->items()) {
    std::int64_t number = 0;
    if (value.is_array()) {
      Region region{key, {}};
      for (const auto& item : value) region.values.insert(label_value(dataset, item, key));
      if (region.values.empty()) fail(dataset, concat("labels: '", key, "' has no values"));
      regions.push_back(std::move(region));
    } else if (value.is_string() && parse_integer(Json(key), number)) {  // v1: value to name
      named.push_back(
          {label_value(dataset, Json(number), value.get<std::string>()), value.get<std::string>()});
    } else {
      named.push_back({label_value(dataset, value, key), key});
    }
  }
  if (!regions.empty()) {
    // A value by itself (the background, or a lesion of its own) is a region of one value.
    for (const auto& [value, name] : named) regions.push_back({name, {value}});
    named = values_of_regions(dataset, regions);
  }
  std::stable_sort(named.begin(), named.end(),
                   [](const NamedValue& a, const NamedValue& b) { return a.value < b.value; });
  for (std::size_t i = 1; i < named.size(); ++i) {
    if (named[i].value != named[i - 1].value) continue;
    fail(dataset, concat("labels: '", named[i - 1].name, "' and '", named[i].name,
                         "' have the same value ", int{named[i].value}));
  }
  return named;
}

std::string path_text(const JsonDataset& dataset, const Json& value, const std::string& where) {
  std::string text = text_of(dataset, value, where);
  if (text.size() > kLongestPath) {
    fail(dataset,
         concat(where, ": a path of ", text.size(), " bytes; ", kLongestPath, " are possible"));
  }
  return text;
}

// Paths in a dataset.json are relative to its folder.
fs::path path_of(const JsonDataset& dataset, const std::string& text) {
  return listed_path(dataset.path.parent_path(), text);
}

// "imagesTr/x.nii.gz" is case x.
std::string case_name_of(const JsonDataset& dataset, const std::string& image) {
  std::string name = without_nifti_suffix(fs::path(image).filename().string());
  if (name.empty()) fail(dataset, concat("'", image, "' is not a NIfTI file (.nii.gz or .nii)"));
  return name;
}

struct NnunetChannels {
  std::vector<std::string> names;   // all of the data set
  std::vector<std::size_t> places;  // those of the config among them
};

// The optional list of files in a dataset.json of nnU-Net v2: any names in any folders.
void list_explicit(const LayoutJob& job, const JsonDataset& dataset, const Json& list,
                   const NnunetChannels& channels) {
  if (!list.is_object()) fail(dataset, R"("dataset" must be an object with a key a case)");
  FileCount files(dataset.path.string(), dataset.bytes);
  for (const auto& [name, entry] : list.items()) {
    const Json* images = entry.is_object() ? find(entry, "images") : nullptr;
    if (images == nullptr || !images->is_array() || images->size() != channels.names.size()) {
      fail(dataset, concat("dataset: case '", name, "' needs \"images\", a list of ",
                           channels.names.size(), " files"));
    }
    Case item;
    item.name = name;
    item.patient = patient_of(name);
    for (const std::size_t place : channels.places) {
      const auto text = path_text(dataset, (*images)[place], concat("dataset: ", name, ": images"));
      item.images.push_back({path_of(dataset, text)});
    }
    if (const Json* label = find(entry, "label")) {
      item.labels =
          path_of(dataset, path_text(dataset, *label, concat("dataset: ", name, ": label")));
    } else if (job.labels == Labels::kRequired) {
      job.add_missing(name, concat(dataset.path.string(), ": dataset: the case has no \"label\""));
    }
    job.require_files(item);
    files.add(item);
    job.survey.dataset.cases.push_back(std::move(item));
  }
}

std::string file_ending(const JsonDataset& dataset) {
  const Json* ending = find(dataset.content, "file_ending");
  if (ending == nullptr) return ".nii.gz";
  std::string text = text_of(dataset, *ending, "file_ending");
  if (text != ".nii.gz" && text != ".nii") {
    fail(dataset, concat("file_ending ", text, " is not supported; .nii.gz and .nii are"));
  }
  return text;
}

const Json& training_list(const JsonDataset& dataset) {
  const Json* list = find(dataset.content, "training");
  if (list == nullptr || !list->is_array()) {
    fail(dataset, R"(needs "training", a list of {"image": ..., "label": ...})");
  }
  return *list;
}

}  // namespace

bool is_decathlon(const JsonDataset& dataset) {
  // nnU-Net v1 has these keys, too, but the files of its list only with a channel in their names.
  if (dataset.content.contains("channel_names") || dataset.content.contains("dataset")) {
    return false;
  }
  const Json* list = find(dataset.content, "training");
  if (list == nullptr || !list->is_array()) return false;
  for (const auto& entry : *list) {
    const Json* image = entry.is_object() ? find(entry, "image") : nullptr;
    if (image == nullptr || !image->is_string()) continue;
    const auto& text = image->get_ref<const std::string&>();
    if (text.size() <= kLongestPath && is_file(path_of(dataset, text))) return true;
  }
  const auto files = visible_names(dataset.path.parent_path() / "imagesTr");
  return std::none_of(files.begin(), files.end(),
                      [](const std::string& file) { return parse_nnunet_file(file).has_value(); });
}

void list_nnunet(const LayoutJob& job, const JsonDataset& dataset) {
  NnunetChannels channels;
  if (!job.config.channels.empty()) {
    channels.names = channel_names(dataset);
    channels.places = match_channels(job.config.channels, channels.names, dataset.path.string());
  }
  if (!job.config.classes.empty()) {
    job.survey.dataset.class_map =
        match_classes(job.config.classes, label_names(dataset), job.mapped, dataset.path.string());
  }
  if (const Json* list = find(dataset.content, "dataset")) {
    if (channels.names.empty()) channels.names = channel_names(dataset);
    list_explicit(job, dataset, *list, channels);
    return;
  }
  const std::string ending = file_ending(dataset);
  const fs::path images = dataset.path.parent_path() / "imagesTr";
  const fs::path labels = dataset.path.parent_path() / "labelsTr";
  std::set<std::string> names;
  const auto ignore = [&](const std::string& file) {
    job.survey.ignored.push_back({"", concat((images / file).string(),
                                             ": not taken, as it is not named NAME_0000", ending)});
  };
  for (const auto& file : visible_names(images)) {
    const auto parsed = parse_nnunet_file(file);
    if (parsed && nnunet_stem(*parsed) + ending == file) {
      names.insert(parsed->case_name);
    } else {
      ignore(file);
    }
  }
  for (const auto& file : visible_names(labels)) {
    if (ends_with(file, ending)) names.insert(file.substr(0, file.size() - ending.size()));
  }
  if (names.empty()) {
    job.add_missing("",
                    concat(images.string(), ": no cases; files must be named NAME_0000", ending));
  }
  for (const auto& name : names) {
    Case item;
    item.name = name;
    item.patient = patient_of(name);
    for (const std::size_t place : channels.places) {
      item.images.push_back({images / (nnunet_stem({name, place}) + ending)});
    }
    item.labels = labels / (name + ending);
    job.require_files(item);
    job.survey.dataset.cases.push_back(std::move(item));
  }
}

void list_decathlon(const LayoutJob& job, const JsonDataset& dataset) {
  std::vector<std::size_t> volumes;
  if (!job.config.channels.empty()) {
    volumes = match_channels(job.config.channels, channel_names(dataset), dataset.path.string());
  }
  if (!job.config.classes.empty()) {
    job.survey.dataset.class_map =
        match_classes(job.config.classes, label_names(dataset), job.mapped, dataset.path.string());
  }
  FileCount files(dataset.path.string(), dataset.bytes);
  std::size_t number = 0;
  for (const auto& entry : training_list(dataset)) {
    const std::string where = concat("training: entry ", ++number);
    const Json* image = entry.is_object() ? find(entry, "image") : nullptr;
    if (image == nullptr) {
      fail(dataset, concat("training: needs {\"image\": ..., \"label\": ...}, not ", entry.dump()));
    }
    const std::string text = path_text(dataset, *image, concat(where, ": image"));
    Case item;
    item.name = case_name_of(dataset, text);
    if (starts_with(item.name, ".")) continue;  // "._NAME" of macOS
    item.patient = patient_of(item.name);
    const fs::path path = path_of(dataset, text);
    for (const std::size_t volume : volumes) {
      item.images.push_back({path, static_cast<std::int64_t>(volume)});
    }
    if (const Json* label = find(entry, "label")) {
      item.labels = path_of(dataset, path_text(dataset, *label, concat(where, ": label")));
    } else if (job.labels == Labels::kRequired) {
      job.add_missing(item.name, concat(dataset.path.string(), ": training: it has no \"label\""));
    }
    job.require_files(item);
    files.add(item);
    job.survey.dataset.cases.push_back(std::move(item));
  }
  if (job.survey.dataset.cases.empty()) {
    job.add_missing("", concat(dataset.path.string(), ": \"training\" lists no cases"));
  }
}

}  // namespace segmamba::data
