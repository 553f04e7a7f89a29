#pragma once
// The layouts of dataset.h, each in a function that lists its cases.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "names.h"
#include "segmamba/core/json.h"
#include "segmamba/data/dataset.h"

namespace segmamba::data {

// What a layout's function is told and fills in.
struct LayoutJob {
  const DatasetConfig& config;
  std::vector<MappedValue> mapped;  // of config.label_map
  Labels labels;
  std::filesystem::path root;  // absolute
  DatasetSurvey& survey;

  void add_missing(const std::string& case_name, const std::string& message) const {
    survey.missing.push_back({case_name, message});
  }
  // Notes a missing file, and empties its path; labels that may be missing go without a note.
  void require_files(Case& item) const;
};

void list_brats(const LayoutJob& job);
void list_csv(const LayoutJob& job);

// A folder with a dataset.json.
struct JsonDataset {
  std::filesystem::path path;  // of the dataset.json
  Json content;
};
bool is_decathlon(const JsonDataset& dataset);
void list_nnunet(const LayoutJob& job, const JsonDataset& dataset);
void list_decathlon(const LayoutJob& job, const JsonDataset& dataset);

// The names in a folder, sorted, without hidden ones (macOS leaves "._NAME" beside NAME). Empty
// where there is no such folder. Throws Error where it cannot be read.
std::vector<std::string> visible_names(const std::filesystem::path& folder);
bool is_file(const std::filesystem::path& path);
// `name` without a suffix of NIfTI files; "" where it has none.
std::string without_nifti_suffix(const std::string& name);

}  // namespace segmamba::data
