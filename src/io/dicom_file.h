#pragma once
// What a DICOM file says of its image, as plain values. GDCM is used in the .cpp file only.

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "dicom_series.h"

namespace segmamba::io {

// A slice. Without a place where the file does not tell it.
struct DicomFrame {
  std::optional<std::array<double, 3>> position;     // LPS, mm
  std::optional<std::array<double, 6>> orientation;  // along a row, along a column
  std::optional<std::array<double, 2>> spacing;      // between rows, between columns; mm
  double thickness = 0;                              // 0: not told
  double slope = 1, intercept = 0;                   // may be anything
};

struct DicomFile {
  std::filesystem::path path;
  std::string sop_class_uid, sop_instance_uid, study_uid, series_uid, frame_of_reference_uid;
  std::string modality, series_description;
  std::int64_t columns = 0, rows = 0;
  int samples_per_pixel = 1, bits_allocated = 16, bits_stored = 16, high_bit = 15;
  bool is_signed = false;
  std::string photometric_interpretation;
  bool has_modality_table = false;  // stored values go through a table, not slope and intercept
  bool is_multi_frame = false;
  std::vector<DicomFrame> frames;
  std::vector<DicomAttribute> context;  // of DicomSeries
};

// Nothing where the file is no image (report, DICOMDIR, segmentation, ...). The pixel data are
// there and as many as the rest says, but not decoded. Throws Error.
std::optional<DicomFile> open_dicom(const std::filesystem::path& path);

}  // namespace segmamba::io
