#include "case_files.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/io/dicom_seg.h"
#include "segmamba/io/maps.h"
#include "segmamba/io/picture.h"

namespace segmamba::engine {

namespace fs = std::filesystem;

fs::path CaseFiles::path(const fs::path& kind, const std::string& name, const char* suffix) const {
  return options_.folder / kind / (name + suffix);
}

fs::path CaseFiles::labels_path(const std::string& name) const { return path("", name); }

// A DICOM SEG is not asked for: it comes with the label map.
fs::path CaseFiles::missing_file(const std::string& name) const {
  std::vector<fs::path> files;
  if (options_.probabilities) files.push_back(path("probabilities", name));
  if (options_.uncertainty) {
    files.push_back(path("entropy", name));
    files.push_back(path("disagreement", name));
  }
  if (options_.region_masks) {
    for (const auto& region : regions_) {
      files.push_back(path(fs::path("regions") / region.name, name));
    }
  }
  if (options_.pictures) files.push_back(path("pictures", name, ".png"));
  const auto missing = std::find_if(
      files.begin(), files.end(), [](const fs::path& file) { return !fs::is_regular_file(file); });
  return missing == files.end() ? fs::path() : *missing;
}

void CaseFiles::make_folders() const {
  std::vector<fs::path> folders = {options_.folder};
  const auto add = [&](bool wanted, const fs::path& name) {
    if (wanted) folders.push_back(options_.folder / name);
  };
  add(options_.probabilities, "probabilities");
  add(options_.uncertainty, "entropy");
  add(options_.uncertainty, "disagreement");
  add(options_.pictures, "pictures");
  for (const auto& region : regions_) {
    add(options_.region_masks, fs::path("regions") / region.name);
  }
  for (const auto& folder : folders) {
    segmamba::make_folders(folder);
    remove_stale_temporaries(folder);
  }
}

// Where writing ends half-way, no label map must stand beside the new files.
void CaseFiles::remove_earlier_labels(const std::string& name) const {
  if (options_.existing != Existing::kOverwrite) return;
  remove_file(labels_path(name));
}

void CaseFiles::write_region_masks(const Prediction& prediction) const {
  const auto& labels = prediction.labels;
  for (const auto& region : regions_) {
    io::LabelMap mask{labels.geometry, std::vector<std::uint8_t>(labels.voxels.size())};
    std::array<std::uint8_t, 256> inside{};
    for (const auto label : region.labels) inside[label] = 1;
    std::transform(labels.voxels.begin(), labels.voxels.end(), mask.voxels.begin(),
                   [&](std::uint8_t label) { return inside[label]; });
    io::write_labels(path(fs::path("regions") / region.name, prediction.name), mask);
  }
}

void CaseFiles::write_dicom(const Prediction& prediction) const {
  segmamba::make_folders(options_.folder / "dicom");
  std::vector<io::DicomSegment> segments;
  for (std::size_t i = 1; i < classes_.size(); ++i) {
    segments.push_back(io::dicom_segment(static_cast<std::uint8_t>(i), classes_[i],
                                         data::canonical_class(classes_[i])));
  }
  io::write_dicom_seg(path("dicom", prediction.name, ".dcm"), prediction.labels, segments);
}

void CaseFiles::write(const Prediction& prediction, const std::vector<io::Image>& images) const {
  const auto& name = prediction.name;
  const auto& labels = prediction.labels;
  remove_earlier_labels(name);
  if (options_.probabilities) {
    io::write_probabilities(path("probabilities", name), labels.geometry, prediction.outputs,
                            prediction.probabilities);
  }
  if (options_.uncertainty) {
    io::write_map(path("entropy", name), labels.geometry, "entropy", prediction.entropy);
    io::write_map(path("disagreement", name), labels.geometry, "disagreement",
                  prediction.disagreement);
  }
  if (options_.region_masks) write_region_masks(prediction);
  if (labels.geometry.dicom != nullptr) write_dicom(prediction);
  if (options_.pictures) {
    io::write_overlay_picture(path("pictures", name, ".png"), images.back(), nullptr, &labels,
                              {.style = io::LabelStyle::kOutlined});
  }
  io::write_labels(labels_path(name), labels);
}

}  // namespace segmamba::engine
