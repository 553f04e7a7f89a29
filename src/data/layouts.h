#pragma once
// The layouts of dataset.h, each in a function that lists its cases.

#include <filesystem>
#include <functional>
#include <optional>
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

  // Notes what is missing of a case. Beyond 10,000 notes, the first of a case is the only one, and
  // says that there are more.
  void add_missing(const std::string& case_name, const std::string& message) const;
  // The folders in the root that `is_case` takes. Those that it does not are noted as ignored, with
  // what `why` says of the name; those that cannot be read as missing.
  std::vector<std::filesystem::path> case_folders(
      const std::function<bool(const std::filesystem::path&)>& is_case,
      const std::function<std::string(const std::string& name)>& why) const;
  // Notes a missing file, and empties its path; labels that may be missing go without a note. The
  // file of a channel may be a folder of DICOM files.
  void require_files(Case& item) const;
};

void list_brats(const LayoutJob& job);
void list_csv(const LayoutJob& job);
void list_nnunet_files(const LayoutJob& job);
void list_dicom(const LayoutJob& job);

// Whether a folder is a case by what lies in it: files NAME-*.nii.gz; or folders named as one of
// the channels that have files, and no NIfTI files (where there are no channels: folders of any
// name, one of whose files is DICOM). Throws ReadError where what lies in it cannot be read.
bool is_brats_case(const std::filesystem::path& folder);
bool is_dicom_case(const std::filesystem::path& folder, const std::vector<std::string>& channels);
// Whether a file NAME_0000.nii.gz or .nii lies in it.
bool has_nnunet_files(const std::filesystem::path& folder);

// "NAME_0003" with a NIfTI suffix: channel 3 of case NAME.
struct NnunetFile {
  std::string case_name;
  std::size_t channel = 0;
};
std::optional<NnunetFile> parse_nnunet_file(const std::string& file);
// Without the suffix.
std::string nnunet_stem(const NnunetFile& file);

// The longest path that the system takes, in bytes (PATH_MAX without its end).
inline constexpr std::size_t kLongestPath = 4095;
// The path that a list in `folder` gives, normalised.
std::filesystem::path listed_path(const std::filesystem::path& folder, const std::string& text);

// Refuses a list that names so many files in so few bytes that their paths, which take some hundred
// bytes each, would take hundreds of times its size.
class FileCount {
 public:
  // `bytes` of the list's text.
  FileCount(std::string list, std::size_t bytes);
  std::size_t most() const { return most_; }
  // Adds the files of a case that are there. Throws Error where they are too many.
  void add(const Case& item);

 private:
  std::string list_;
  std::size_t most_, count_ = 0;
};

// A folder with a dataset.json.
struct JsonDataset {
  std::filesystem::path path;  // of the dataset.json
  Json content;
  std::size_t bytes = 0;  // of its text
};
bool is_decathlon(const JsonDataset& dataset);
void list_nnunet(const LayoutJob& job, const JsonDataset& dataset);
void list_decathlon(const LayoutJob& job, const JsonDataset& dataset);

// The names in a folder, sorted, without hidden ones (macOS leaves "._NAME" beside NAME). Empty
// where there is no such folder. Throws ReadError where it cannot be read: to pass over it would
// train on less than the whole data set without a word.
std::vector<std::string> visible_names(const std::filesystem::path& folder);
bool is_file(const std::filesystem::path& path);
bool is_file_or_folder(const std::filesystem::path& path);
// Throws Error beginning with `origin` where outputs could not be files of that name.
void check_case_name(const std::string& name, const std::string& origin);
// `name` without a suffix of NIfTI files; "" where it has none.
std::string without_nifti_suffix(const std::string& name);

}  // namespace segmamba::data
