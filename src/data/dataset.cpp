#include "segmamba/data/dataset.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>

#include "layouts.h"
#include "names.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/folder.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

fs::path absolute_root(const std::string& root) {
  if (root.empty()) throw Error("data.root: is empty; give the folder of the data set");
  std::error_code error;
  fs::path full = fs::canonical(root, error);
  if (error) throw Error(concat(root, ": ", error.message()));
  // "DATA/dataset.json" means DATA.
  if (full.filename() == "dataset.json") return full.parent_path();
  return full;
}

JsonDataset read_dataset_json(const fs::path& path) {
  if (!is_file(path)) throw Error(concat(path.string(), ": does not exist"));
  const std::string text = read_file(path);
  return {path, parse_json(text, path.string()), text.size()};
}

void list_json(const LayoutJob& job, const std::string& layout) {
  const JsonDataset dataset = read_dataset_json(job.root / "dataset.json");
  if (!dataset.content.is_object()) {
    throw Error(concat(dataset.path.string(), ": is not a JSON object"));
  }
  const bool decathlon = layout == "auto" ? is_decathlon(dataset) : layout == "decathlon";
  job.survey.dataset.layout = decathlon ? "decathlon" : "nnunet";
  decathlon ? list_decathlon(job, dataset) : list_nnunet(job, dataset);
}

std::string found_layout(const DatasetConfig& config, const fs::path& root) {
  if (config.layout != "auto") return config.layout;
  if (!fs::is_directory(root)) {
    if (to_lower(root.extension().string()) == ".csv") return "csv";
    throw Error(concat(root.string(), ": is neither a folder of cases nor a table of them (.csv)"));
  }
  if (is_file(root / "dataset.json")) return "auto";
  if (has_nnunet_files(root)) return "nnunet-files";
  // The first case decides: a data set has thousands.
  const auto layout_of_case = [&](const fs::path& folder) {
    if (is_brats_case(folder)) return "brats";
    return is_dicom_case(folder, config.channels) ? "dicom" : "";
  };
  // Without channels any series beside the cases would make a case of the root.
  std::string layout = config.channels.empty() && !is_brats_case(root) ? "" : layout_of_case(root);
  for (const auto& name : visible_names(root)) {
    if (!layout.empty()) break;
    try {
      layout = layout_of_case(root / name);
    } catch (const ReadError&) {
      continue;  // listing the cases tells of it
    }
  }
  if (layout.empty()) layout = layout_of_case(root);
  return layout.empty() ? "brats" : layout;
}

// "" where a case can be named so.
std::string refusal_of_name(const std::string& name, const std::string& origin) {
  if (is_case_name(name)) return "";
  constexpr std::size_t kMostShown = 100;
  const auto too_long =
      concat(", which has ", name.size(), " bytes; ", kLongestCaseName, " are possible");
  return concat(origin, ": a case cannot be named '", printable(name, kMostShown),
                "': its outputs are files of that name",
                name.size() > kLongestCaseName ? too_long : "");
}

// By name, without those whose names are refused.
void sort_cases(const LayoutJob& job) {
  auto& cases = job.survey.dataset.cases;
  std::erase_if(cases, [&](const Case& item) {
    const std::string refusal = refusal_of_name(item.name, job.root.string());
    if (!refusal.empty()) job.add_missing(item.name, refusal);
    return !refusal.empty();
  });
  std::sort(cases.begin(), cases.end(),
            [](const Case& a, const Case& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(
      cases.begin(), cases.end(), [](const Case& a, const Case& b) { return a.name == b.name; });
  if (twice == cases.end()) return;
  throw Error(concat(job.root.string(), ": there are two cases '", twice->name, "'"));
}

// By case. Names of folders may hold anything, and problems are told on terminals.
void sort_problems(std::vector<DatasetProblem>& problems) {
  for (auto& [name, message] : problems) {
    name = printable(std::move(name), kLongestCaseName);
    const std::size_t bytes = message.size();
    message = printable(std::move(message), bytes);
  }
  std::stable_sort(
      problems.begin(), problems.end(),
      [](const DatasetProblem& a, const DatasetProblem& b) { return a.case_name < b.case_name; });
}

}  // namespace

void DatasetConfig::visit(ConfigVisitor& visitor) {
  visitor.value({.name = "root", .help = "Folder of the data set, or a CSV file of its cases"},
                root);
  visitor.value(
      {.name = "layout",
       .help = "How its files lie: brats, nnunet, nnunet-files, decathlon, dicom, csv; auto "
               "finds out",
       .choices = kLayouts},
      layout);
  visitor.value(
      {.name = "channels",
       .help = "What the model sees, in this order; common aliases (flair, t1ce) are known",
       .min_items = 1},
      channels);
  visitor.value({.name = "classes",
                 .help = "What it tells apart, background first; common aliases (edema) are known",
                 .min_items = 2,
                 .max_items = ClassMap::kNone},
                classes);
  visitor.value({.name = "label_map",
                 .help = "Values of the label files whose class is not found by name: 4=enhancing"},
                label_map);
}

std::string ClassMap::values() const {
  std::vector<std::string> ranges;
  for (int value = 0; value < 256; ++value) {
    const int first = value;
    if (classes_[static_cast<std::size_t>(value)] == kNone) continue;
    while (value + 1 < 256 && classes_[static_cast<std::size_t>(value) + 1] != kNone) ++value;
    ranges.push_back(first == value       ? concat(first)
                     : first + 1 == value ? concat(first, " and ", value)
                                          : concat(first, " to ", value));
  }
  if (ranges.size() < 2) return join(ranges, "");
  const std::string last = ranges.back();
  ranges.pop_back();
  return concat(join(ranges, ", "), " and ", last);
}

DatasetSurvey survey_dataset(const DatasetConfig& config, Labels labels) {
  check_names(config);
  DatasetSurvey survey;
  Dataset& dataset = survey.dataset;
  dataset.channels = config.channels;
  dataset.classes = config.classes;
  const LayoutJob job{config, parse_label_map(config), labels, absolute_root(config.root), survey};
  if (is_file(job.root) && !without_nifti_suffix(job.root.filename().string()).empty()) {
    throw Error(concat(config.root,
                       ": is one image; give the folder of its case, or (segmamba-infer) "
                       "CHANNEL=FILE for each channel"));
  }
  dataset.layout = found_layout(config, job.root);
  if (dataset.layout == "csv") {
    list_csv(job);
  } else if (!fs::is_directory(job.root)) {
    throw Error(concat(config.root, ": is not a folder"));
  } else if (dataset.layout == "brats") {
    list_brats(job);
  } else if (dataset.layout == "nnunet-files") {
    list_nnunet_files(job);
  } else if (dataset.layout == "dicom") {
    list_dicom(job);
  } else {
    list_json(job, dataset.layout);
  }
  sort_cases(job);
  sort_problems(survey.missing);
  sort_problems(survey.ignored);
  return survey;
}

Dataset open_dataset(const DatasetConfig& config, Labels labels) {
  DatasetSurvey survey = survey_dataset(config, labels);
  if (survey.missing.empty()) return std::move(survey.dataset);
  const auto& first = survey.missing.front();
  const std::size_t others = survey.missing.size() - 1;
  throw Error(
      concat(first.case_name.empty() ? "" : concat("case ", first.case_name, ": "), first.message,
             others == 0 ? "" : concat(" (and ", others, " more; see segmamba-data check)")));
}

std::string patient_of(const std::string& case_name) {
  const auto is_number = [](std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](unsigned char c) { return std::isdigit(c) != 0; });
  };
  const std::string_view name = case_name;
  const std::size_t last = name.rfind('-');
  if (last == std::string_view::npos || last == 0) return case_name;
  const std::size_t before = name.rfind('-', last - 1);
  if (before == std::string_view::npos || !is_number(name.substr(last + 1)) ||
      !is_number(name.substr(before + 1, last - before - 1))) {
    return case_name;
  }
  return case_name.substr(0, last);
}

void LayoutJob::add_missing(const std::string& case_name, const std::string& message) const {
  // Where a folder was moved, every file of thousands of cases is missing.
  constexpr std::size_t kMostNotes = 10'000;
  constexpr std::string_view kMore = " (and more)";
  auto& notes = survey.missing;
  if (notes.size() < kMostNotes || notes.back().case_name != case_name) {
    notes.push_back({case_name, message});
  } else if (!ends_with(notes.back().message, kMore)) {
    notes.back().message += kMore;
  }
}

std::vector<fs::path> LayoutJob::case_folders(
    const std::function<bool(const fs::path&)>& is_case,
    const std::function<std::string(const std::string& name)>& why) const {
  std::vector<fs::path> folders;
  for (const auto& name : visible_names(root)) {
    std::error_code error;
    const auto type = fs::status(root / name, error).type();
    if (type == fs::file_type::none) {  // what links in a circle may have been a case
      add_missing(name, concat("cannot read ", (root / name).string(), ": ", error.message()));
    }
    if (type != fs::file_type::directory) continue;
    try {
      if (is_case(root / name)) {
        folders.push_back(root / name);
      } else {
        survey.ignored.push_back({name, why(name)});
      }
    } catch (const ReadError& problem) {
      add_missing(name, problem.what());
    }
  }
  return folders;
}

void LayoutJob::require_files(Case& item) const {
  // clear() would keep the memory of a path.
  const auto empty = [](fs::path& path) { fs::path().swap(path); };
  for (auto& image : item.images) {
    if (image.path.empty() || is_file_or_folder(image.path)) continue;
    const std::string message = concat(image.path.string(), " is missing");
    // A 4-D file is missing once, not once a channel.
    const bool is_new = survey.missing.empty() || survey.missing.back().case_name != item.name ||
                        !starts_with(survey.missing.back().message, message);
    if (is_new) add_missing(item.name, message);
    empty(image.path);
  }
  if (item.labels.empty() || is_file(item.labels)) return;
  if (labels == Labels::kRequired) {
    add_missing(item.name, concat(item.labels.string(), " is missing"));
  }
  empty(item.labels);
}

fs::path listed_path(const fs::path& folder, const std::string& text) {
  const fs::path normal = (folder / text).lexically_normal();
  return fs::path(normal);  // a copy: it has no room to spare, as what was built bit by bit has
}

// Paths of real files take 16 bytes of a list and more: a list of them may have any length.
FileCount::FileCount(std::string list, std::size_t bytes)
    : list_(std::move(list)), most_(100'000 + bytes / 16) {}

void FileCount::add(const Case& item) {
  count_ += item.labels.empty() ? 0 : 1;
  for (const auto& image : item.images) count_ += image.path.empty() ? 0 : 1;
  if (count_ > most_) throw Error(concat(list_, ": lists more than ", most_, " files"));
}

bool is_case_name(const std::string& name) {
  return !name.empty() && name.size() <= kLongestCaseName && name.front() != '.' &&
         name.find('/') == std::string::npos && printable(name, name.size()) == name;
}

void check_case_name(const std::string& name, const std::string& origin) {
  const std::string refusal = refusal_of_name(name, origin);
  if (!refusal.empty()) throw Error(refusal);
}

std::vector<std::string> visible_names(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  if (!fs::is_directory(folder, error)) return names;
  for (const auto& entry : entries_of(folder)) {
    std::string name = entry.path().filename().string();
    if (!starts_with(name, ".")) names.push_back(std::move(name));
  }
  return names;
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

bool is_file_or_folder(const fs::path& path) {
  std::error_code error;
  return is_file(path) || fs::is_directory(path, error);
}

std::string without_nifti_suffix(const std::string& name) {
  for (const std::string_view suffix : {".nii.gz", ".nii"}) {
    if (ends_with(name, suffix)) return name.substr(0, name.size() - suffix.size());
  }
  return "";
}

}  // namespace segmamba::data
