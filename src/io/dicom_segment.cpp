// What dicom_segment of dicom_seg.h says of the parts of a tumour.

#include <map>
#include <string>
#include <utility>

#include "dicom_text.h"
#include "segmamba/core/text.h"
#include "segmamba/io/dicom_seg.h"
#include "segmamba/io/picture.h"

namespace segmamba::io {

DicomSegment dicom_segment(std::uint8_t label, const std::string& name, const std::string& part) {
  const DicomCode tissue = {"85756007", "SCT", "Tissue"};
  const DicomCode abnormal = {"49755003", "SCT", "Morphologically Abnormal Structure"};
  const DicomCode neoplasm = {"108369006", "SCT", "Neoplasm"};
  // The first three are of context 7168, brain lesion segmentation types.
  const std::map<std::string, std::pair<DicomCode, std::optional<Colour>>> parts = {
      {"necrosis", {{"6574001", "SCT", "Necrosis"}, label_colour(1)}},
      {"oedema", {{"79654002", "SCT", "Edema"}, label_colour(2)}},
      {"enhancing", {{"C113842", "NCIt", "Enhancing Lesion"}, label_colour(3)}},
      {"tumour core", {neoplasm, std::nullopt}},
      {"whole tumour", {neoplasm, std::nullopt}}};
  const std::string text = to_dicom_text(name, concat("label ", +label));
  const auto found = parts.find(part);
  if (found == parts.end()) return {label, text, tissue, tissue, std::nullopt};
  return {label, text, abnormal, found->second.first, found->second.second};
}

}  // namespace segmamba::io
