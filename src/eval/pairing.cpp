#include "segmamba/eval/pairing.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/folder.h"
#include "segmamba/core/text.h"
#include "segmamba/data/case_table.h"

namespace segmamba::eval {
namespace fs = std::filesystem;
namespace {

using LabelFiles = std::map<std::string, std::vector<fs::path>>;

constexpr std::array<std::string_view, 2> kExtensions = {".nii.gz", ".nii"};
constexpr std::array<std::string_view, 8> kModalities = {"t1n", "t1c",  "t2w", "t2f",
                                                         "t1",  "t1ce", "t2",  "flair"};
// What tools append to a case's name, behind '-' or '_' (BraTS -seg, MONAI _seg, ...), or call the
// only label file in a case's folder.
constexpr std::array<std::string_view, 10> kLabelWords = {
    "seg",    "segmentation", "pred", "prediction", "predictions",
    "labels", "label",        "mask", "gt",         "groundtruth"};
// nnU-Net's folders within a data set.
constexpr std::array<std::string_view, 2> kLabelFolders = {"labelsTr", "labelsTs"};

template <class Words>
bool contains(const Words& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// The name without .nii or .nii.gz in any case; "" where it has neither.
std::string stem_of(const fs::path& path) {
  std::string name = path.filename().string();
  const std::string lower = to_lower(name);
  for (const std::string_view extension : kExtensions) {
    if (!ends_with(lower, extension)) continue;
    name.resize(name.size() - extension.size());
    return name;
  }
  return "";
}

bool is_listed(const fs::directory_entry& entry) {
  return !starts_with(entry.path().filename().string(), ".");
}

// Also what cannot be looked at, as a link to itself: reading it tells why, of its case alone.
bool may_be_file(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.is_regular_file(error) || entry.status(error).type() == fs::file_type::none;
}

// The files that a case's own folder may hold.
void add_case_folder(const fs::path& folder, const std::string& name, LabelFiles& files) {
  for (const fs::directory_entry& entry : entries_of(folder)) {
    if (!is_listed(entry) || !may_be_file(entry)) continue;
    const bool is_own = case_of_label_file(entry.path()) == name ||
                        contains(kLabelWords, to_lower(stem_of(entry.path())));
    if (is_own) files[name].push_back(entry.path());
  }
}

}  // namespace

std::string case_of_label_file(const fs::path& path) {
  if (starts_with(path.filename().string(), ".")) return "";
  std::string name = stem_of(path);
  const std::size_t separator = name.find_last_of("-_");
  if (separator == std::string::npos || separator == 0) return name;
  const std::string last = to_lower(name.substr(separator + 1));
  if (contains(kModalities, last)) return "";
  if (contains(kLabelWords, last)) name.resize(separator);
  return name;
}

LabelFiles find_label_files(const fs::path& root) {
  if (!fs::exists(root)) throw Error(concat(root.string(), " does not exist"));
  LabelFiles files;
  if (!fs::is_directory(root)) {
    if (to_lower(root.extension().string()) == ".csv") {
      auto labels = data::labels_of_table(root);
      while (!labels.empty()) {  // moved: there is no need to hold a long table twice
        auto entry = labels.extract(labels.begin());
        files[std::move(entry.key())].push_back(std::move(entry.mapped()));
      }
      if (files.empty()) throw Error(concat(root.string(), ": no case has a file of labels"));
      return files;
    }
    const std::string name = case_of_label_file(root);
    files[name.empty() ? root.filename().string() : name].push_back(root);
    return files;
  }
  std::error_code ignored;
  for (const std::string_view labels : kLabelFolders) {
    if (fs::is_directory(root / labels, ignored)) return find_label_files(root / labels);
  }
  // A trailing slash would leave the name empty.
  add_case_folder(root, fs::canonical(root).filename().string(), files);
  if (!files.empty()) return files;
  for (const fs::directory_entry& entry : entries_of(root)) {
    if (!is_listed(entry)) continue;
    if (entry.is_directory(ignored)) {
      add_case_folder(entry.path(), entry.path().filename().string(), files);
    } else if (const std::string name = case_of_label_file(entry.path()); !name.empty()) {
      files[name].push_back(entry.path());
    }
  }
  if (files.empty()) {
    throw Error(concat("no cases in ", root.string(),
                       ": looked for CASE.nii.gz, CASE-seg.nii.gz and CASE/CASE-seg.nii.gz"));
  }
  for (auto& [name, paths] : files) std::sort(paths.begin(), paths.end());
  return files;
}

}  // namespace segmamba::eval
