// For dicom_test.py:
//   dicom_tool read SERIES OUTPUT.nii.gz
//   dicom_tool segment SERIES LABELS.nii.gz OUTPUT.dcm NAME...   (NAME of label 1, 2, ...)

#include <cstdio>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/io/dicom_seg.h"
#include "segmamba/io/volume.h"

namespace {

using segmamba::io::DicomSegment;

void segment(const std::vector<std::string>& arguments) {
  auto labels = segmamba::io::read_labels(arguments.at(1));
  const auto geometry = segmamba::io::read_geometry(arguments.at(0));
  const auto difference = segmamba::io::geometry_difference(labels.geometry, geometry);
  if (!difference.empty()) throw segmamba::Error("grids differ: " + difference);
  labels.geometry = geometry;
  std::vector<DicomSegment> segments;
  for (std::size_t i = 3; i < arguments.size(); ++i) {
    segments.push_back(
        segmamba::io::dicom_segment(static_cast<std::uint8_t>(i - 2), arguments[i], arguments[i]));
  }
  segmamba::io::write_dicom_seg(arguments.at(2), labels, segments);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::vector<std::string> arguments(argv + 2, argv + argc);
  try {
    if (std::string(argv[1]) == "read") {
      segmamba::io::write_image(arguments.at(1), segmamba::io::read_image(arguments.at(0)));
    } else {
      segment(arguments);
    }
  } catch (const segmamba::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
