#include "segmamba/io/dicom_seg.h"

#include <gdcmDict.h>
#include <gdcmDicts.h>
#include <gdcmGlobal.h>
#include <gdcmUIDGenerator.h>
#include <gdcmWriter.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <set>
#include <sstream>
#include <utility>

#include "cielab.h"
#include "dicom_elements.h"
#include "dicom_series.h"
#include "dicom_text.h"
#include "gdcm_door.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
using gdcm::DataSet;

constexpr auto kSegmentationStorage = "1.2.840.10008.5.1.4.1.1.66.4";
constexpr auto kMaker = "segmamba";

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat("cannot write ", path.string(), ": ", what));
}

// Decimal strings have at most 16 characters.
std::string decimal(double value) {
  if (value == 0) value = 0;  // not "-0"
  constexpr std::size_t kLongest = 16;
  std::string text = format_double(value);
  for (int digits = 15; text.size() > kLongest; --digits) {
    std::array<char, 32> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "%.*g", digits, value);
    text = buffer.data();
  }
  return text;
}

template <class Range>
std::string decimals(const Range& values) {
  std::vector<std::string> texts;
  for (const double value : values) texts.push_back(decimal(value));
  return join(texts, "\\");
}

std::string new_uid() { return gdcm::UIDGenerator().Generate(); }

DataSet item_of(const DicomCode& code) {
  DataSet item;
  put<kw::CodeValue>(item, code.value);
  put<kw::CodingSchemeDesignator>(item, code.scheme);
  put<kw::CodeMeaning>(item, code.meaning);
  return item;
}

struct Frame {
  std::size_t segment = 0;  // from 0 on
  std::size_t z = 0;
};

// Frames with their voxels: one bit each, x fastest, from the lowest bit of each byte on, without
// gaps between frames.
struct Frames {
  std::vector<Frame> list;
  std::string bits;
};

class SegBuilder {
 public:
  SegBuilder(const fs::path& path, const LabelMap& labels,
             const std::vector<DicomSegment>& segments, const DicomSegOptions& options)
      : path_(path), labels_(labels), segments_(segments), options_(options) {
    check();
    choose_text();
  }

  DataSet data_set() const {
    DataSet set;
    put_context(set);
    put_identity(set);
    put_segments(set);
    const Frames frames = make_frames();
    put_dimensions(set);
    put_shared_groups(set);
    std::vector<DataSet> groups;
    for (const auto& frame : frames.list) groups.push_back(groups_of(frame));
    put<kw::PerFrameFunctionalGroupsSequence>(set, groups);
    put_references(set);
    put_pixels(set, frames);
    return set;
  }

 private:
  void check() const {
    const auto& geometry = labels_.geometry;
    if (!geometry.dicom) {
      fail(path_, "the label map is not on the grid of a DICOM series; write NIfTI instead");
    }
    const std::string difference = geometry_difference(series().grid, geometry);
    if (!difference.empty() || std::ssize(labels_.voxels) != series().grid.voxel_count()) {
      fail(path_, concat("the label map is not on the grid of its DICOM series",
                         difference.empty() ? "" : ": ", difference));
    }
    if (series().frame_of_reference_uid.empty()) {
      fail(path_,
           "the DICOM series has no Frame of Reference UID, so that a segmentation could "
           "not be placed; write NIfTI instead");
    }
    check_segments();
  }

  void check_segments() const {
    if (segments_.empty()) fail(path_, "a DICOM segmentation has at least one segment");
    std::array<bool, 256> known{};
    known[0] = true;
    for (const auto& segment : segments_) {
      if (std::exchange(known[segment.label], true)) {
        fail(path_, concat("label ", +segment.label, " is the background or has two segments"));
      }
      const auto check_name = [&](const std::string& name) {
        if (is_dicom_text(name)) return;
        fail(path_, concat("'", name, "' is not 1 to 64 printable characters without \\"));
      };
      for (const auto& code : {segment.category, segment.type}) {
        for (const auto& text : {code.value, code.scheme, code.meaning}) check_name(text);
      }
      for (const auto& text : {segment.name, options_.series_description, options_.algorithm}) {
        check_name(text);
      }
    }
    for (const std::uint8_t label : labels_.voxels) {
      if (!known[label]) fail(path_, concat("label ", +label, " has no segment"));
    }
  }

  // The source's texts stay as they are where ours are ASCII, which every character set holds.
  void choose_text() {
    context_ = series().context;
    std::vector<std::string*> names = {&options_.series_description, &options_.algorithm};
    for (auto& segment : segments_) {
      for (auto* code : {&segment.category, &segment.type}) names.push_back(&code->meaning);
      names.push_back(&segment.name);
    }
    const bool is_plain = std::all_of(names.begin(), names.end(),
                                      [](const std::string* name) { return is_ascii(*name); });
    if (is_plain || to_utf8(context_)) return;
    for (auto* name : names) *name = to_ascii(*name);
  }

  const DicomSeries& series() const { return *labels_.geometry.dicom; }

  // Patient, study and frame of reference of the source.
  void put_context(DataSet& set) const {
    const gdcm::Dicts& dictionary = gdcm::Global::GetInstance().GetDicts();
    for (const auto& attribute : context_) {
      const gdcm::Tag tag(attribute.group, attribute.element);
      put_bytes(set, tag, dictionary.GetDictEntry(tag).GetVR(), attribute.value);
    }
    put<kw::StudyInstanceUID>(set, series().study_uid);
    put<kw::FrameOfReferenceUID>(set, series().frame_of_reference_uid);
  }

  // The modules General and Segmentation Series, Enhanced General Equipment, SOP Common, and what
  // Segmentation Image says of the whole.
  void put_identity(DataSet& set) const {
    put<kw::SOPClassUID>(set, kSegmentationStorage);
    put<kw::SOPInstanceUID>(set, new_uid());
    put<kw::SeriesInstanceUID>(set, new_uid());
    put<kw::Modality>(set, "SEG");
    put<kw::SeriesNumber>(set, concat(options_.series_number));
    put<kw::SeriesDescription>(set, options_.series_description);
    put<kw::Manufacturer>(set, kMaker);
    put<kw::ManufacturerModelName>(set, options_.algorithm);
    put<kw::DeviceSerialNumber>(set, commit());
    put<kw::SoftwareVersions>(set, version());
    put<kw::InstanceNumber>(set, "1");
    put<kw::ImageType>(set, "DERIVED\\PRIMARY");
    put<kw::ContentLabel>(set, "SEGMENTATION");
    put<kw::ContentDescription>(set, options_.series_description);
    put<kw::ContentCreatorName>(set, "");  // no person
    put<kw::SegmentationType>(set, "BINARY");
    put_bytes(set, gdcm::Tag(0x0062, 0x0013), gdcm::VR::CS, "NO");  // Segments Overlap
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    std::array<char, 16> date{}, time{};
    std::strftime(date.data(), date.size(), "%Y%m%d", &local);
    std::strftime(time.data(), time.size(), "%H%M%S", &local);
    put<kw::SeriesDate>(set, date.data());
    put<kw::SeriesTime>(set, time.data());
    put<kw::ContentDate>(set, date.data());
    put<kw::ContentTime>(set, time.data());
  }

  void put_segments(DataSet& set) const {
    std::vector<DataSet> items;
    for (const auto& segment : segments_) {
      DataSet item;
      put<kw::SegmentNumber>(item, static_cast<std::uint16_t>(items.size() + 1));
      put<kw::SegmentLabel>(item, segment.name);
      put<kw::SegmentAlgorithmType>(item, "AUTOMATIC");
      put<kw::SegmentAlgorithmName>(item, options_.algorithm);
      put<kw::SegmentedPropertyCategoryCodeSequence>(item, item_of(segment.category));
      put<kw::SegmentedPropertyTypeCodeSequence>(item, item_of(segment.type));
      if (segment.colour) {
        put<kw::RecommendedDisplayCIELabValue>(item, to_dicom_cielab(*segment.colour));
      }
      items.push_back(item);
    }
    put<kw::SegmentSequence>(set, items);
  }

  // Frames are told apart by segment, then by position.
  static void put_dimensions(DataSet& set) {
    const std::string organization = new_uid();
    DataSet item;
    put<kw::DimensionOrganizationUID>(item, organization);
    put<kw::DimensionOrganizationSequence>(set, item);

    DataSet segment = item, position = item;
    put<kw::DimensionIndexPointer>(segment, kw::ReferencedSegmentNumber::GetTag());
    put<kw::FunctionalGroupPointer>(segment, kw::SegmentIdentificationSequence::GetTag());
    put<kw::DimensionDescriptionLabel>(segment, "Segment Number");
    put<kw::DimensionIndexPointer>(position, kw::ImagePositionPatient::GetTag());
    put<kw::FunctionalGroupPointer>(position, kw::PlanePositionSequence::GetTag());
    put<kw::DimensionDescriptionLabel>(position, "Image Position Patient");
    put<kw::DimensionIndexSequence>(set, std::vector<DataSet>{segment, position});
  }

  void put_shared_groups(DataSet& set) const {
    const Geometry& grid = series().grid;
    const auto& cosines = grid.direction;
    DataSet orientation;
    put<kw::ImageOrientationPatient>(
        orientation, decimals(std::array{cosines[0], cosines[3], cosines[6], cosines[1], cosines[4],
                                         cosines[7]}));
    DataSet measures;
    put<kw::SliceThickness>(measures, decimal(grid.spacing[2]));
    put<kw::SpacingBetweenSlices>(measures, decimal(grid.spacing[2]));
    put<kw::PixelSpacing>(measures, decimals(std::array{grid.spacing[1], grid.spacing[0]}));
    DataSet shared;
    put<kw::PlaneOrientationSequence>(shared, orientation);
    put<kw::PixelMeasuresSequence>(shared, measures);
    put<kw::SharedFunctionalGroupsSequence>(set, shared);
  }

  DataSet groups_of(const Frame& frame) const {
    const DicomSlice& slice = series().slices[frame.z];
    DataSet source;
    put<kw::ReferencedSOPClassUID>(source, slice.sop_class_uid);
    put<kw::ReferencedSOPInstanceUID>(source, slice.sop_instance_uid);
    if (slice.frame > 0) put<kw::ReferencedFrameNumber>(source, concat(slice.frame));
    put<kw::PurposeOfReferenceCodeSequence>(
        source, item_of({"121322", "DCM", "Source image for image processing operation"}));
    put<kw::SpatialLocationsPreserved>(source, "YES");
    DataSet derivation;
    put<kw::SourceImageSequence>(derivation, source);
    put<kw::DerivationCodeSequence>(derivation, item_of({"113076", "DCM", "Segmentation"}));

    DataSet content;
    put<kw::DimensionIndexValues>(content, std::array{static_cast<std::uint32_t>(frame.segment + 1),
                                                      static_cast<std::uint32_t>(frame.z + 1)});
    DataSet position;
    put<kw::ImagePositionPatient>(position, decimals(slice.position));
    DataSet segment;
    put<kw::ReferencedSegmentNumber>(segment, static_cast<std::uint16_t>(frame.segment + 1));

    DataSet groups;
    put<kw::DerivationImageSequence>(groups, derivation);
    put<kw::FrameContentSequence>(groups, content);
    put<kw::PlanePositionSequence>(groups, position);
    put<kw::SegmentIdentificationSequence>(groups, segment);
    return groups;
  }

  // Common Instance Reference: each instance of the source once.
  void put_references(DataSet& set) const {
    std::vector<DataSet> instances;
    std::set<std::string> seen;
    for (const auto& slice : series().slices) {
      if (!seen.insert(slice.sop_instance_uid).second) continue;
      DataSet instance;
      put<kw::ReferencedSOPClassUID>(instance, slice.sop_class_uid);
      put<kw::ReferencedSOPInstanceUID>(instance, slice.sop_instance_uid);
      instances.push_back(instance);
    }
    DataSet referenced;
    put<kw::SeriesInstanceUID>(referenced, series().uid);
    put<kw::ReferencedInstanceSequence>(referenced, instances);
    put<kw::ReferencedSeriesSequence>(set, referenced);
  }

  Frames make_frames() const {
    Frames frames;
    const std::size_t pixels = plane_voxels();
    for (std::size_t segment = 0; segment < segments_.size(); ++segment) {
      const std::uint8_t label = segments_[segment].label;
      for (std::size_t z = 0; z < series().slices.size(); ++z) {
        const std::uint8_t* plane = labels_.voxels.data() + z * pixels;
        if (std::find(plane, plane + pixels, label) == plane + pixels) continue;
        const std::size_t begin = frames.list.size() * pixels;
        frames.list.push_back({segment, z});
        frames.bits.resize((begin + pixels + 7) / 8);
        for (std::size_t i = 0; i < pixels; ++i) {
          if (plane[i] != label) continue;
          char& byte = frames.bits[(begin + i) / 8];
          byte = static_cast<char>(byte | 1 << (begin + i) % 8);
        }
      }
    }
    if (frames.list.empty()) {
      frames.list.push_back({});
      frames.bits.resize((pixels + 7) / 8);
    }
    return frames;
  }

  std::size_t plane_voxels() const {
    return static_cast<std::size_t>(series().grid.size[0] * series().grid.size[1]);
  }

  void put_pixels(DataSet& set, const Frames& frames) const {
    constexpr std::uint16_t kOne = 1, kZero = 0;
    put<kw::NumberOfFrames>(set, concat(frames.list.size()));
    put<kw::SamplesPerPixel>(set, kOne);
    put<kw::PhotometricInterpretation>(set, "MONOCHROME2");
    put<kw::Rows>(set, static_cast<std::uint16_t>(series().grid.size[1]));
    put<kw::Columns>(set, static_cast<std::uint16_t>(series().grid.size[0]));
    put<kw::BitsAllocated>(set, kOne);
    put<kw::BitsStored>(set, kOne);
    put<kw::HighBit>(set, kZero);
    put<kw::PixelRepresentation>(set, kZero);
    put_bytes(set, kPixelData, gdcm::VR::OB, frames.bits);
  }

  const fs::path& path_;
  const LabelMap& labels_;
  std::vector<DicomSegment> segments_;
  DicomSegOptions options_;
  std::vector<DicomAttribute> context_;
};

}  // namespace

void write_dicom_seg(const fs::path& path, const LabelMap& labels,
                     const std::vector<DicomSegment>& segments, const DicomSegOptions& options) {
  std::ostringstream content;
  content.exceptions(std::ios::badbit);
  gdcm::Writer writer;
  writer.GetFile().GetHeader().SetDataSetTransferSyntax(
      gdcm::TransferSyntax::ExplicitVRLittleEndian);
  writer.GetFile().SetDataSet(SegBuilder(path, labels, segments, options).data_set());
  writer.SetStream(content);
  if (!succeeds([&] { return writer.Write(); })) fail(path, "GDCM cannot encode it");
  write_file_atomically(path, content.str());
}

}  // namespace segmamba::io
