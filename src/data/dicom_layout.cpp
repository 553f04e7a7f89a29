// A folder a case, in it a folder of DICOM files a channel. Only names are looked at here.
#include <algorithm>

#include "layouts.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

// Whether the folder can be a series: it has files, and no NIfTI files.
bool is_series(const fs::path& folder) {
  const auto names = visible_names(folder);
  return std::none_of(names.begin(), names.end(),
                      [](const auto& name) { return !without_nifti_suffix(name).empty(); }) &&
         std::any_of(names.begin(), names.end(),
                     [&](const auto& name) { return is_file(folder / name); });
}

// The series in a case's folder that are named as the channel is.
std::vector<std::string> series_of(const fs::path& folder, const std::string& channel) {
  auto names = visible_names(folder);
  std::erase_if(names, [&](const std::string& name) {
    return canonical_channel(name) != canonical_channel(channel) || !is_series(folder / name);
  });
  return names;
}

}  // namespace

bool is_dicom_case(const fs::path& folder, const std::vector<std::string>& channels) {
  const auto names = visible_names(folder);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    const bool is_named = std::any_of(channels.begin(), channels.end(), [&](const auto& channel) {
      return canonical_channel(name) == canonical_channel(channel);
    });
    return (is_named || channels.empty()) && is_series(folder / name);
  });
}

void list_dicom(const LayoutJob& job) {
  const auto& channels = job.config.channels;
  job.survey.dataset.class_map = assume_classes(job.config.classes, job.mapped);
  std::vector<fs::path> folders;
  if (is_dicom_case(job.root, channels)) {
    folders.push_back(job.root);
  } else {
    for (const auto& name : visible_names(job.root)) {
      const fs::path folder = job.root / name;
      if (is_dicom_case(folder, channels)) {
        folders.push_back(folder);
      } else if (fs::is_directory(folder)) {
        job.survey.ignored.push_back(
            {name, concat("not taken as a case: no folder in it is named as a channel (",
                          join(channels, ", "), ") and holds DICOM files")});
      }
    }
  }
  if (folders.empty()) {
    job.add_missing("", concat(job.root.string(),
                               ": no cases; a case is a folder NAME with a "
                               "folder of DICOM files a channel, as in NAME/",
                               channels.empty() ? "t1c" : channels.front()));
  }
  for (const auto& folder : folders) {
    Case item;
    item.name = folder.filename().string();
    item.patient = patient_of(item.name);
    for (const auto& channel : channels) {
      const auto found = series_of(folder, channel);
      item.images.emplace_back();
      if (found.size() == 1) {
        item.images.back().path = folder / found.front();
      } else if (found.empty()) {
        job.add_missing(item.name, concat((folder / channel).string(),
                                          " is missing: a folder of the DICOM files of ", channel));
      } else {
        job.add_missing(item.name, concat(folder.string(), ": ", found[0], " and ", found[1],
                                          " have the same meaning; keep one of them"));
      }
    }
    if (job.labels == Labels::kRequired) {
      job.add_missing(item.name, "this layout has no labels; list files in a CSV");
    }
    job.survey.dataset.cases.push_back(std::move(item));
  }
}

}  // namespace segmamba::data
