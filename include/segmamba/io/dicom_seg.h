#pragma once
// DICOM segmentations (SEG, PS3.3 A.51), for viewers and archives of hospitals.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/io/png.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {

// A concept of a coding scheme: {"6574001", "SCT", "Necrosis"}.
struct DicomCode {
  std::string value, scheme, meaning;
};

// One label of a map, as viewers show it.
struct DicomSegment {
  std::uint8_t label = 0;    // in the label map, not 0
  std::string name;          // 1 to 64 printable characters of UTF-8, no backslash
  DicomCode category, type;  // contexts 7150 and 7151 of PS3.16, e.g. SNOMED CT
  std::optional<Colour> colour;
};

// A segment of that name; what DICOM does not take is replaced, what is too long cut. `part` is
// what it is, as data::canonical_class calls it: "necrosis", "oedema", "enhancing" give codes and
// the colour of draw_overlay, "tumour core" and "whole tumour" codes, all others those of "Tissue".
DicomSegment dicom_segment(std::uint8_t label, const std::string& name, const std::string& part);

struct DicomSegOptions {
  std::string series_description = "Segmentation";  // as DicomSegment::name
  int series_number = 1000;                         // viewers list series by it
  std::string algorithm = "SegMamba";               // as DicomSegment::name
};

// A binary Segmentation Storage object of a label map on the grid of the DICOM series that its
// geometry comes from (as read_image returned it): patient, study and frame of reference are those
// of the source, whose slices the frames refer to. Slices where a segment has no voxel are left out
// (a map without any gets one empty frame, as the standard demands one). Text of the source
// survives in any character set; names that are not ASCII are written in UTF-8, or, where the
// source is in neither ASCII, Latin-1 nor UTF-8, with ? for what is not ASCII. Atomic. Throws Error
// where the map is on no such grid, has a label without a segment, a segment is badly named, or the
// file cannot be written.
void write_dicom_seg(const std::filesystem::path& path, const LabelMap& labels,
                     const std::vector<DicomSegment>& segments,
                     const DicomSegOptions& options = {});

}  // namespace segmamba::io
