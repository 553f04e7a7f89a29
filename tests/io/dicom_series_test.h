#pragma once
// A DICOM series on disk, to read or to damage.

#include <gdcmImageChangeTransferSyntax.h>
#include <gdcmImageReader.h>
#include <gdcmImageWriter.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "dicom_bytes.h"
#include "segmamba/io/dicom.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::test {

inline constexpr int kSlices = 5;
inline constexpr std::size_t kPixels = std::size_t{kColumns} * kRows;

class DicomSeriesTest : public ::testing::Test {
 protected:
  DicomSeriesTest() { std::filesystem::create_directory(series_); }

  std::filesystem::path file(int z) const {
    return series_ / ("IM" + std::to_string((z * 3 + 2) % kSlices));
  }

  // All slices, each changed by `change`.
  void write_series(const std::function<void(int z, DicomBytes& slice)>& change = nullptr) const {
    for (int z = 0; z < kSlices; ++z) {
      DicomBytes slice = dicom_slice(z);
      if (change) change(z, slice);
      slice.write(file(z));
    }
  }
  // With a change of one slice only.
  void write_series_with(int changed, const std::function<void(DicomBytes&)>& change) const {
    write_series([&](int z, DicomBytes& slice) {
      if (z == changed) change(slice);
    });
  }
  void remove_series() const {
    std::filesystem::remove_all(series_);
    std::filesystem::create_directory(series_);
  }
  std::string error() const {
    return error_of([&] { io::read_dicom(series_); });
  }

  static std::vector<float> expected_values() {
    std::vector<float> values;
    for (std::size_t i = 0; i < kSlices * kPixels; ++i) {
      values.push_back(static_cast<float>(100 * (i / kPixels) + i % kPixels));
    }
    return values;
  }

  TemporaryFolder folder_;
  const std::filesystem::path series_ = folder_.path() / "series";
};

// The same slice under another transfer syntax.
inline void compress(const std::filesystem::path& path, gdcm::TransferSyntax::TSType syntax) {
  gdcm::ImageReader reader;
  reader.SetFileName(path.c_str());
  ASSERT_TRUE(reader.Read());
  gdcm::ImageChangeTransferSyntax change;
  change.SetTransferSyntax(syntax);
  change.SetInput(reader.GetImage());
  ASSERT_TRUE(change.Change());
  gdcm::ImageWriter writer;
  writer.SetFile(reader.GetFile());
  writer.SetImage(change.GetOutput());
  writer.SetFileName(path.c_str());
  ASSERT_TRUE(writer.Write());
}

// GDCM's encoder of JPEG 2000 takes no slices as small as these.
inline constexpr std::array kCompressed = {gdcm::TransferSyntax::RLELossless,
                                           gdcm::TransferSyntax::JPEGLosslessProcess14_1,
                                           gdcm::TransferSyntax::JPEGLSLossless};

// Position and rescaling of each frame are its own, the rest is shared. Frames lie in any order.
inline DicomBytes enhanced_file() {
  DicomBytes file = dicom_slice(0);
  std::vector<DicomBytes> groups;
  std::vector<std::int16_t> values;
  for (int i = 0; i < kSlices; ++i) {
    const int z = (i * 2 + 1) % kSlices;
    const DicomBytes slice = dicom_slice(z);
    DicomBytes position, transformation, group;
    position.text(tag::kPosition, "DS", slice.text(tag::kPosition));
    transformation.text(tag::kSlope, "DS", "2").text(tag::kIntercept, "DS", std::to_string(z));
    group.items(tag::kPlanePosition, {position}).items(tag::kValueTransformation, {transformation});
    groups.push_back(group);
    for (const auto value : slice.numbers<std::int16_t>(tag::kPixels)) values.push_back(value);
  }
  DicomBytes orientation, measures, shared;
  orientation.text(tag::kOrientation, "DS", file.text(tag::kOrientation));
  measures.text(tag::kPixelSpacing, "DS", file.text(tag::kPixelSpacing));
  shared.items(tag::kPlaneOrientation, {orientation}).items(tag::kPixelMeasures, {measures});
  file.remove(tag::kPosition).remove(tag::kOrientation).remove(tag::kPixelSpacing);
  file.text(tag::kSopClass, "UI", "1.2.840.10008.5.1.4.1.1.4.1");
  file.text(tag::kFrames, "IS", std::to_string(kSlices));
  file.items(tag::kSharedGroups, {shared}).items(tag::kFrameGroups, groups);
  file.numbers(tag::kPixels, "OW", values);
  return file;
}

}  // namespace segmamba::test
