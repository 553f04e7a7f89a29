// A folder a case, in it a folder of DICOM files a channel. Names decide; files are looked into
// only where no channels are named.
#include <algorithm>

#include "layouts.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/io/dicom.h"

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
    if (!channels.empty()) return is_named && is_series(folder / name);
    return is_series(folder / name) && io::is_dicom_series(folder / name);
  });
}

void list_dicom(const LayoutJob& job) {
  const auto& channels = job.config.channels;
  job.survey.dataset.class_map = assume_classes(job.config.classes, job.mapped);
  const auto is_case = [&](const fs::path& folder) { return is_dicom_case(folder, channels); };
  std::vector<fs::path> folders;
  // Without channels any series beside the cases would make a case of the root.
  if (!channels.empty() && is_case(job.root)) {
    folders.push_back(job.root);
  } else {
    folders = job.case_folders(is_case, [&](const std::string&) {
      return concat("not taken as a case: no folder in it is named as a channel (",
                    join(channels, ", "), ") and holds DICOM files");
    });
    if (folders.empty() && channels.empty() && is_case(job.root)) folders.push_back(job.root);
  }
  if (folders.empty() && job.survey.missing.empty()) {
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
      item.images.emplace_back();
      std::vector<std::string> found;
      try {
        found = series_of(folder, channel);
      } catch (const ReadError& problem) {
        job.add_missing(item.name, problem.what());
        continue;
      }
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
