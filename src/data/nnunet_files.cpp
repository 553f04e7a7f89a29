// Names of nnU-Net's files, and the layout of a folder of them without a dataset.json.
#include <algorithm>
#include <set>

#include "layouts.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

// Of a file that is in the folder packed and unpacked, .nii.gz is taken.
fs::path find_file(const fs::path& stem) {
  const fs::path packed = stem.string() + ".nii.gz", unpacked = stem.string() + ".nii";
  return !is_file(packed) && is_file(unpacked) ? unpacked : packed;
}

}  // namespace

std::optional<NnunetFile> parse_nnunet_file(const std::string& file) {
  constexpr std::size_t kMark = 5;  // "_0003"
  const std::string stem = without_nifti_suffix(file);
  if (stem.size() <= kMark) return {};
  const std::string mark = stem.substr(stem.size() - kMark);
  if (mark[0] != '_' || mark.find_first_not_of("0123456789", 1) != std::string::npos) return {};
  return NnunetFile{stem.substr(0, stem.size() - kMark), std::stoul(mark.substr(1))};
}

std::string nnunet_stem(const NnunetFile& file) {
  const std::string digits = std::to_string(file.channel);
  return concat(file.case_name, "_", std::string(4 - std::min<std::size_t>(digits.size(), 4), '0'),
                digits);
}

bool has_nnunet_files(const fs::path& folder) {
  const auto names = visible_names(folder);
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    const auto file = parse_nnunet_file(name);
    return file && file->channel == 0;
  });
}

void list_nnunet_files(const LayoutJob& job) {
  const auto& channels = job.config.channels;
  job.survey.dataset.class_map = assume_classes(job.config.classes, job.mapped);
  std::set<std::string> names;
  for (const auto& name : visible_names(job.root)) {
    if (without_nifti_suffix(name).empty()) continue;
    const auto file = parse_nnunet_file(name);
    if (!file) {
      job.survey.ignored.push_back(
          {"", concat((job.root / name).string(), ": not taken, as it is not named NAME_0000")});
      continue;
    }
    names.insert(file->case_name);
    if (channels.empty() || file->channel < channels.size()) continue;
    job.survey.ignored.push_back(
        {file->case_name,
         concat((job.root / name).string(), ": not taken, as the config has ", channels.size(),
                " channels, 0000 to ", nnunet_stem({"", channels.size() - 1}).substr(1))});
  }
  if (names.empty()) {
    job.add_missing("", concat(job.root.string(),
                               ": no cases; files must be named NAME_0000.nii.gz, NAME_0001.nii.gz "
                               "... in the order of data.channels"));
  }
  for (const auto& name : names) {
    Case item{.name = name, .patient = patient_of(name), .images = {}, .labels = {}};
    for (std::size_t channel = 0; channel < channels.size(); ++channel) {
      item.images.push_back({find_file(job.root / nnunet_stem({name, channel}))});
    }
    if (job.labels == Labels::kRequired) {
      job.add_missing(name, "this layout has no labels; add a dataset.json, or list it in a CSV");
    }
    job.require_files(item);
    job.survey.dataset.cases.push_back(std::move(item));
  }
}

}  // namespace segmamba::data
