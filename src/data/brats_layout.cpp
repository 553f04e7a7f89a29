// A folder a case, a file a channel.
#include <algorithm>

#include "layouts.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

// What follows the name of the case in the file's; "" where it is no volume of the case.
std::string file_part(const std::string& case_name, const std::string& file) {
  const std::string stem = without_nifti_suffix(file);
  if (!starts_with(stem, case_name + "-") && !starts_with(stem, case_name + "_")) return "";
  return stem.substr(case_name.size() + 1);
}

// "seg" everywhere but in BraTS-MEN-RT, which marks the gross tumour volume.
bool is_label_part(const std::string& part) {
  const std::string lower = to_lower(part);
  return lower == "seg" || lower == "gtv";
}

// The volume of the case that fits; empty where there is none. What keeps it from being the only
// one goes to `problem`.
template <class Fits>
fs::path find_file(const fs::path& folder, const std::vector<std::string>& files,
                   std::string& problem, Fits fits) {
  const std::string name = folder.filename().string();
  std::string found;
  for (const auto& file : files) {
    const std::string part = file_part(name, file);
    if (part.empty() || !fits(part)) continue;
    // The same file packed and unpacked is common; .nii.gz is taken, which sorts behind .nii.
    if (!found.empty() && without_nifti_suffix(found) != without_nifti_suffix(file)) {
      problem = concat(found, " and ", file, " have the same meaning; keep one of them");
      return {};
    }
    found = file;
  }
  return found.empty() ? fs::path() : folder / found;
}

}  // namespace

bool is_brats_case(const fs::path& folder) {
  const std::string name = folder.filename().string();
  const auto files = visible_names(folder);
  return std::any_of(files.begin(), files.end(),
                     [&](const auto& file) { return !file_part(name, file).empty(); });
}

std::vector<fs::path> find_case_folders(const fs::path& root) {
  std::error_code error;
  const fs::path folder = fs::canonical(root, error);
  if (error) throw Error(concat(root.string(), ": ", error.message()));
  if (!fs::is_directory(folder)) throw Error(concat(root.string(), ": is not a folder"));
  if (is_brats_case(folder)) return {folder};
  std::vector<fs::path> folders;
  for (const auto& name : visible_names(folder)) {
    if (is_brats_case(folder / name)) folders.push_back(folder / name);
  }
  return folders;
}

void list_brats(const LayoutJob& job) {
  job.survey.dataset.class_map = assume_classes(job.config.classes, job.mapped);
  std::vector<fs::path> folders = {job.root};
  if (!is_brats_case(job.root)) {
    folders = job.case_folders(is_brats_case, [](const std::string& name) {
      return concat("not taken as a case: no files ", name, "-CHANNEL.nii.gz in it");
    });
  }
  if (folders.empty()) job.survey.ignored.clear();  // one message says it
  if (folders.empty() && job.survey.missing.empty()) {
    job.add_missing("",
                    concat(job.root.string(),
                           ": no cases; a case is a folder NAME with files NAME-CHANNEL.nii.gz, "
                           "as in BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1n.nii.gz",
                           job.config.layout == "auto"
                               ? ", or with a folder of DICOM files a channel, as in NAME/t1n"
                               : ""));
  }
  for (const auto& folder : folders) {
    Case item;
    item.name = folder.filename().string();
    item.patient = patient_of(item.name);
    std::vector<std::string> files;
    try {
      files = visible_names(folder);
    } catch (const ReadError& problem) {
      job.add_missing(item.name, problem.what());
      continue;
    }
    const auto require = [&](const std::string& what, bool required, auto fits) {
      std::string problem =
          concat((folder / item.name).string(), "-", what, ".nii.gz (or .nii) is missing");
      const std::string only_missing = problem;
      fs::path path = find_file(folder, files, problem, fits);
      if (path.empty() && (required || problem != only_missing)) {
        job.add_missing(item.name, problem);
      }
      return path;
    };
    for (const auto& channel : job.config.channels) {
      const std::string wanted = canonical_channel(channel);
      item.images.push_back({require(channel, true, [&](const std::string& part) {
        return !is_label_part(part) && canonical_channel(part) == wanted;
      })});
    }
    item.labels = require("seg", job.labels == Labels::kRequired, is_label_part);
    job.survey.dataset.cases.push_back(std::move(item));
  }
}

}  // namespace segmamba::data
