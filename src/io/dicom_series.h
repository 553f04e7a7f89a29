#pragma once
// What a geometry remembers of the DICOM series it came from.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/io/volume.h"

namespace segmamba::io {

// An element of a data set whose value is text.
struct DicomAttribute {
  std::uint16_t group = 0, element = 0;
  std::string value;
};

struct DicomSlice {
  std::string sop_class_uid, sop_instance_uid;
  int frame = 0;                     // from 1 on; 0 where the instance is one slice
  std::array<double, 3> position{};  // LPS, mm: centre of the first voxel, as the file says
};

struct DicomSeries {
  std::string study_uid, uid, frame_of_reference_uid;
  // Patient and study, as a derived object repeats them. Text in the series' character set.
  std::vector<DicomAttribute> context;
  std::vector<DicomSlice> slices;  // in the order of z
  Geometry grid;                   // of the slices; its `dicom` is null
};

// Whether the path is a folder or FOLDER#SERIES_INSTANCE_UID of one.
bool names_dicom_series(const std::filesystem::path& path);

}  // namespace segmamba::io
