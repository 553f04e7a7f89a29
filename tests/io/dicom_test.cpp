#include "segmamba/io/dicom.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "dicom_series_test.h"
#include "nifti_bytes.h"
#include "segmamba/core/error.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
namespace tag = test::tag;
using test::compress;
using test::dicom_slice;
using test::DicomBytes;
using test::enhanced_file;
using test::error_of;
using test::kColumns;
using test::kCompressed;
using test::kPixels;
using test::kRows;
using test::kSlices;
using test::read_bytes;
using test::write_bytes;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using DicomTest = test::DicomSeriesTest;

template <class Range>
void expect_near(const Range& got, const Range& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-6) << i;
}

TEST_F(DicomTest, SlicesGoByTheirPlace) {
  write_series();
  const Image image = read_dicom(series_);
  const Geometry& geometry = image.geometry;
  EXPECT_EQ(geometry.size, (std::array<std::int64_t, 3>{kColumns, kRows, kSlices}));
  expect_near(geometry.spacing, {0.5, 0.75, 2});
  expect_near(geometry.origin, {10, -20, 30});
  expect_near(geometry.direction, {0.6, 0, -0.8, 0, 1, 0, 0.8, 0, 0.6});
  EXPECT_EQ(image.voxels, expected_values());
  EXPECT_TRUE(geometry.dicom);
  EXPECT_FALSE(geometry.header);
}

// Slices that are nearly nothing as they lie there: room for them is made as they are decoded.
TEST_F(DicomTest, BlankSlicesUnfoldFar) {
  constexpr int kSize = 2048;
  constexpr std::size_t kPlane = std::size_t{kSize} * kSize;
  write_series([&](int z, DicomBytes& slice) {
    slice.number(tag::kRows, kSize).number(tag::kColumns, kSize).number(tag::kSigned, 0);
    slice.number(tag::kBitsAllocated, 8).number(tag::kBitsStored, 8).number(tag::kHighBit, 7);
    slice.numbers(tag::kPixels, "OB",
                  std::vector<std::uint8_t>(kPlane, static_cast<std::uint8_t>(z + 1)));
  });
  for (int z = 0; z < kSlices; ++z) compress(file(z), gdcm::TransferSyntax::RLELossless);
  const Image image = read_dicom(series_);
  ASSERT_EQ(image.voxels.size(), kSlices * kPlane);
  for (std::size_t z = 0; z < kSlices; ++z) {
    const auto* const slice = image.voxels.data() + z * kPlane;
    EXPECT_EQ(std::count(slice, slice + kPlane, static_cast<float>(z + 1)), kPlane) << z;
  }
  // Of a slice that holds nothing to decode nothing is made.
  const std::string bytes = read_bytes(file(2));
  write_bytes(file(2), bytes.substr(0, bytes.size() - 1000));
  EXPECT_THROW(read_dicom(series_), DamagedFileError);
}

// By JPEG-LS they are some bits a row.
TEST_F(DicomTest, BlankSlicesOfJpegLs) {
  constexpr int kSize = 512;
  constexpr std::size_t kPlane = std::size_t{kSize} * kSize;
  write_series([&](int, DicomBytes& slice) {
    slice.number(tag::kRows, kSize).number(tag::kColumns, kSize).number(tag::kSigned, 0);
    slice.numbers(tag::kPixels, "OW", std::vector<std::uint16_t>(kPlane));
  });
  for (int z = 0; z < kSlices; ++z) compress(file(z), gdcm::TransferSyntax::JPEGLSLossless);
  EXPECT_EQ(read_dicom(series_).voxels, std::vector<float>(kSlices * kPlane));
}

TEST_F(DicomTest, ReadersOfVolumesTakeASeries) {
  write_series();
  EXPECT_EQ(read_image(series_).voxels, expected_values());
  EXPECT_EQ(read_image(series_, 0).voxels, expected_values());
  EXPECT_EQ(read_images(series_).at(0).voxels, expected_values());
  EXPECT_EQ(count_volumes(series_), 1);
  EXPECT_EQ(geometry_difference(read_geometry(series_), read_dicom(series_).geometry), "");
  EXPECT_THAT(error_of([&] { read_image(series_, 1); }), HasSubstr("series: has no volume 1"));
  EXPECT_THAT(error_of([&] { read_labels(series_); }), HasSubstr("is not named as a NIfTI file"));
}

TEST_F(DicomTest, NiftiHoldsTheSameGrid) {
  write_series();
  const Image image = read_dicom(series_);
  const fs::path nifti = folder_.path() / "image.nii.gz";
  write_image(nifti, image);
  const Image back = read_image(nifti);
  EXPECT_EQ(back.voxels, image.voxels);
  EXPECT_EQ(geometry_difference(back.geometry, image.geometry, 1e-6), "");
}

// Stored types, with what lies above the bits stored.
struct Stored {
  std::uint16_t allocated, stored, is_signed;
  std::vector<std::int32_t> raw, values;
};

TEST_F(DicomTest, StoredTypes) {
  const std::vector<Stored> cases = {
      {8, 8, 0, {0, 127, 128, 255}, {0, 127, 128, 255}},
      {8, 8, 1, {0, 127, -128, -1}, {0, 127, -128, -1}},
      {16, 12, 0, {0, 0x0fff, 0xf123, 0x8000}, {0, 0x0fff, 0x0123, 0}},
      {16, 12, 1, {0, 0x0fff, 0x0800, 0x77ff}, {0, -1, -2048, 2047}},
      {16, 16, 0, {0, 0xffff, 0x8000, 1}, {0, 0xffff, 0x8000, 1}},
      {16, 16, 1, {0, 0xffff, 0x8000, 1}, {0, -1, -0x8000, 1}},
      {32, 32, 1, {0, -1, 1 << 20, 1}, {0, -1, 1 << 20, 1}},
  };
  for (const Stored& type : cases) {
    SCOPED_TRACE(testing::Message()
                 << type.stored << " of " << type.allocated << " bits, signed " << type.is_signed);
    write_series([&](int, DicomBytes& slice) {
      slice.number(tag::kBitsAllocated, type.allocated).number(tag::kBitsStored, type.stored);
      slice.number(tag::kHighBit, static_cast<std::uint16_t>(type.stored - 1));
      slice.number(tag::kSigned, type.is_signed);
      slice.number(tag::kRows, 2).number(tag::kColumns, 2);
      if (type.allocated == 8) {
        slice.numbers(tag::kPixels, "OB",
                      std::vector<std::uint8_t>(type.raw.begin(), type.raw.end()));
      } else if (type.allocated == 16) {
        slice.numbers(tag::kPixels, "OW",
                      std::vector<std::uint16_t>(type.raw.begin(), type.raw.end()));
      } else {
        slice.numbers(tag::kPixels, "OW", type.raw);
      }
    });
    const Image image = read_dicom(series_);
    for (std::size_t i = 0; i < image.voxels.size(); ++i) {
      EXPECT_EQ(image.voxels[i], static_cast<float>(type.values[i % 4])) << i;
    }
  }
}

TEST_F(DicomTest, EachSliceHasItsOwnRescaling) {
  write_series([](int z, DicomBytes& slice) {
    slice.text(tag::kSlope, "DS", std::to_string(0.5 * (z + 1)));
    slice.text(tag::kIntercept, "DS", "-1024");
  });
  const Image image = read_dicom(series_);
  const auto stored = expected_values();
  for (std::size_t i = 0; i < stored.size(); ++i) {
    const auto slope = 0.5f * static_cast<float>(i / kPixels + 1);
    EXPECT_EQ(image.voxels[i], stored[i] * slope - 1024) << i;
  }
}

TEST_F(DicomTest, CompressedSlices) {
  for (const auto syntax : kCompressed) {
    SCOPED_TRACE(gdcm::TransferSyntax::GetTSString(syntax));
    // Unsigned, as GDCM's own encoders differ in how they take the sign.
    write_series([](int, DicomBytes& slice) { slice.number(tag::kSigned, 0); });
    for (int z = 0; z < kSlices; ++z) compress(file(z), syntax);
    EXPECT_EQ(read_dicom(series_).voxels, expected_values());
  }
}

// Against GDCM's decoder, whose transform is one of whole numbers.
TEST_F(DicomTest, LossyJpeg) {
  constexpr int kWide = 21, kHigh = 12;  // no whole blocks
  std::vector<std::uint8_t> values;
  for (int i = 0; i < kWide * kHigh; ++i) {
    const int x = i % kWide, y = i / kWide;
    values.push_back(static_cast<std::uint8_t>(x > 12 && y < 6 ? 250 : 8 * x + 5 * y));
  }
  DicomBytes slice = dicom_slice(0);
  slice.text(tag::kThickness, "DS", "2").number(tag::kSigned, 0);
  slice.number(tag::kRows, kHigh).number(tag::kColumns, kWide);
  slice.number(tag::kBitsAllocated, 8).number(tag::kBitsStored, 8).number(tag::kHighBit, 7);
  slice.numbers(tag::kPixels, "OB", values).write(file(0));
  compress(file(0), gdcm::TransferSyntax::JPEGBaselineProcess1);
  gdcm::ImageReader reader;
  reader.SetFileName(file(0).c_str());
  ASSERT_TRUE(reader.Read());
  std::vector<char> expected(reader.GetImage().GetBufferLength());
  ASSERT_TRUE(reader.GetImage().GetBuffer(expected.data()));
  const auto got = read_dicom(series_).voxels;
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], static_cast<unsigned char>(expected[i]), 1) << i;
    EXPECT_NEAR(got[i], values[i], 40) << i;
  }
}

TEST_F(DicomTest, EnhancedMultiFrameFile) {
  enhanced_file().write(series_ / "all.dcm");
  const Image image = read_dicom(series_);
  expect_near(image.geometry.spacing, {0.5, 0.75, 2});
  expect_near(image.geometry.origin, {10, -20, 30});
  const auto stored = expected_values();
  for (std::size_t i = 0; i < stored.size(); ++i) {
    EXPECT_EQ(image.voxels[i], 2 * stored[i] + static_cast<float>(i / kPixels)) << i;
  }
}

TEST_F(DicomTest, MultiFrameFileWithoutPlaces) {
  DicomBytes file = enhanced_file();
  file.remove(tag::kFrameGroups).text(tag::kPosition, "DS", "1\\2\\3");
  file.write(series_ / "all.dcm");
  EXPECT_THAT(error(), HasSubstr("all.dcm: has no valid position (Image Position (Patient)) of its "
                                 "slice 1"));
}

TEST_F(DicomTest, MultiFrameFileWithTooFewDescriptions) {
  enhanced_file().text(tag::kFrames, "IS", "6").write(series_ / "all.dcm");
  EXPECT_THAT(error(), HasSubstr("it says that it has 6 frames and describes 5"));
}

TEST_F(DicomTest, SingleSlice) {
  dicom_slice(0).text(tag::kThickness, "DS", "3.5").write(file(0));
  EXPECT_EQ(read_dicom(series_).geometry.spacing[2], 3.5);
  dicom_slice(0).write(file(0));
  EXPECT_THAT(error(), HasSubstr("is the only slice and has no thickness"));
}

DicomBytes of_other_series(int z) {
  DicomBytes slice = dicom_slice(z);
  slice.text(tag::kSeries, "UI", "1.2.3.20").text(tag::kSeriesDescription, "LO", "flair");
  return slice;
}

TEST_F(DicomTest, OneOfSeveralSeries) {
  write_series();
  of_other_series(0).write(series_ / "flair0");
  of_other_series(1).write(series_ / "flair1");
  EXPECT_THAT(error(), AllOf(HasSubstr("series: holds 2 DICOM series; name one as series#UID: "),
                             HasSubstr("1.2.3.2 (MR 't1c mprage', 5 slices)"),
                             HasSubstr("1.2.3.20 (MR 'flair', 2 slices)"), Not(HasSubstr("\n"))));
  EXPECT_EQ(read_image(series_.string() + "#1.2.3.2").voxels, expected_values());
  EXPECT_EQ(read_geometry(series_.string() + "#1.2.3.20").size[2], 2);
  EXPECT_THAT(error_of([&] { read_image(series_.string() + "#1.2.3"); }),
              HasSubstr("holds no DICOM series 1.2.3, but 1.2.3.2 (MR"));
}

TEST_F(DicomTest, AFileOfANameWithTheMarkIsThatFile) {
  write_series();
  const Image image = read_image(series_);
  const fs::path folder = folder_.path() / "#7" / "case";
  fs::create_directories(folder);
  for (const char* name : {"x-t1n.nii.gz", "#x-t1n.nii.gz"}) {
    write_image(folder / name, image);
    EXPECT_EQ(read_image(folder / name).voxels, image.voxels) << name;
    EXPECT_EQ(read_geometry(folder / name).size, image.geometry.size) << name;
  }
  EXPECT_FALSE(is_dicom_series(folder / "#x-t1n.nii.gz"));
  EXPECT_THAT(error_of([&] { read_image(folder / "absent.nii.gz"); }),
              Not(HasSubstr("DICOM series")));
  const fs::path series = folder_.path() / "#7" / "#1";
  fs::rename(series_, series);
  EXPECT_EQ(read_image(series).voxels, image.voxels);
  EXPECT_EQ(read_image(series.string() + "#1.2.3.2").voxels, image.voxels);
}

TEST_F(DicomTest, LinksInACircleAreNamed) {
  write_series();
  fs::create_symlink("loop", series_ / "loop");
  EXPECT_THAT(error(), HasSubstr("loop: cannot be read: Too many levels of symbolic links"));
  fs::create_symlink("a#1", folder_.path() / "a#1");
  fs::create_directory(folder_.path() / "a");
  EXPECT_THAT(error_of([&] { read_image(folder_.path() / "a#1"); }), HasSubstr("a#1"));
}

TEST_F(DicomTest, OtherFilesAreSkipped) {
  write_series();
  write_bytes(series_ / "README", "text");
  write_bytes(series_ / ".DS_Store", "");
  write_bytes(series_ / "DICOMDIR", read_bytes(file(0)));
  fs::create_directory(series_ / "folder.dcm");
  DicomBytes report = dicom_slice(0);
  report.text(tag::kSopClass, "UI", "1.2.840.10008.5.1.4.1.1.88.22");
  report.remove(tag::kRows).remove(tag::kColumns).remove(tag::kPixels);
  report.write(series_ / "report.dcm");
  DicomBytes segmentation = of_other_series(0);
  segmentation.text(tag::kSopClass, "UI", "1.2.840.10008.5.1.4.1.1.66.4");
  segmentation.write(series_ / "seg.dcm");
  EXPECT_EQ(read_dicom(series_).voxels, expected_values());
}

TEST_F(DicomTest, FoldersWithoutSeries) {
  EXPECT_THAT(error(), HasSubstr("series: is a folder without DICOM images"));
  write_series();
  EXPECT_THAT(error_of([&] { read_image(folder_.path()); }),
              HasSubstr("holds no DICOM images itself; take one of its sub-folders series"));
  EXPECT_TRUE(is_dicom_series(series_));
  EXPECT_TRUE(is_dicom_series(series_.string() + "#1.2"));
  EXPECT_FALSE(is_dicom_series(folder_.path()));
  EXPECT_FALSE(is_dicom_series(file(0)));
  EXPECT_FALSE(is_dicom_series(folder_.path() / "none"));
  EXPECT_THAT(error_of([&] { read_dicom(folder_.path() / "none"); }), HasSubstr("is no folder"));
}

// The grid.

TEST_F(DicomTest, MissingSlice) {
  write_series();
  fs::remove(file(2));
  EXPECT_THAT(error(),
              HasSubstr(file(1).filename().string() + " and " + file(3).filename().string() +
                        " are 4.000 mm apart, others 2.000 mm; 1 seem to be missing"));
}

TEST_F(DicomTest, SliceTwice) {
  write_series();
  dicom_slice(2).text(tag::kSopInstance, "UI", "1.2.3.999").write(series_ / "again");
  EXPECT_THAT(error(), AllOf(HasSubstr("again"), HasSubstr(file(2).filename().string()),
                             HasSubstr("lie at the same place")));
}

std::string position(double x, double y, double z) {
  return std::to_string(x) + "\\" + std::to_string(y) + "\\" + std::to_string(z);
}

TEST_F(DicomTest, PlacesMayBeRoundedButNotIrregular) {
  const auto shifted_by = [&](double along) {
    write_series_with(2, [&](DicomBytes& slice) {
      slice.text(tag::kPosition, "DS",
                 position(10 - 1.6 * 2 - 0.8 * along, -20, 30 + 1.2 * 2 + 0.6 * along));
    });
    return error();
  };
  EXPECT_EQ(shifted_by(0.1), "");
  EXPECT_THAT(shifted_by(0.3), HasSubstr("(" + std::string("6.56, -20, 32.58) is off its place")));
  EXPECT_THAT(shifted_by(0.5), HasSubstr("are 2.500 mm apart, others"));
}

TEST_F(DicomTest, SidewaysSlice) {
  write_series_with(
      2, [](DicomBytes& slice) { slice.text(tag::kPosition, "DS", position(6.8, -19, 32.4)); });
  EXPECT_THAT(error(), HasSubstr(file(2).filename().string() + " at (6.8, -19, 32.4) is off"));
}

TEST_F(DicomTest, TiltedGantry) {
  write_series([](int z, DicomBytes& slice) {
    slice.text(tag::kPosition, "DS", position(10 - 1.6 * z, -20 + 0.5 * z, 30 + 1.2 * z));
  });
  EXPECT_THAT(error(), HasSubstr("slices are sheared by 14.04 degrees (tilted gantry?)"));
}

TEST_F(DicomTest, UnlikeSlices) {
  const auto changed = [&](const std::function<void(DicomBytes&)>& change) {
    write_series_with(4, change);
    return error();
  };
  const std::string name = file(4).filename().string();
  EXPECT_THAT(changed([](DicomBytes& slice) { slice.number(tag::kRows, 1); }),
              AllOf(HasSubstr("slices differ in size: 5, 1"), HasSubstr(name)));
  EXPECT_THAT(
      changed([](DicomBytes& slice) { slice.text(tag::kOrientation, "DS", "1\\0\\0\\0\\1\\0"); }),
      HasSubstr("slices differ in direction"));
  EXPECT_THAT(changed([](DicomBytes& slice) { slice.text(tag::kPixelSpacing, "DS", "0.5\\0.5"); }),
              HasSubstr("slices differ in pixel spacing"));
  EXPECT_THAT(changed([](DicomBytes& slice) { slice.text(tag::kStudy, "UI", "1.2.9"); }),
              AllOf(HasSubstr("another study"), HasSubstr("1.2.9")));
  EXPECT_THAT(changed([](DicomBytes& slice) { slice.remove(tag::kFrameOfReference); }),
              HasSubstr("another frame of reference"));
}

TEST_F(DicomTest, SlicesWithoutPlace) {
  const auto changed = [&](std::uint32_t tag, const std::string& value) {
    write_series_with(4, [&](DicomBytes& slice) { slice.text(tag, "DS", value); });
    return error();
  };
  const std::string path = file(4).string() + ": ";
  EXPECT_THAT(changed(tag::kPosition, "1\\2"), HasSubstr(path + "has no valid position"));
  EXPECT_THAT(changed(tag::kPosition, "1\\2\\nan"), HasSubstr(path + "has no valid position"));
  EXPECT_THAT(changed(tag::kOrientation, ""), HasSubstr(path + "has no valid direction"));
  EXPECT_THAT(changed(tag::kPixelSpacing, "x\\1"), HasSubstr(path + "has no valid pixel spacing"));
  EXPECT_THAT(changed(tag::kPixelSpacing, "0\\1"), HasSubstr(path + "is damaged: its pixel spac"));
  write_series([](int, DicomBytes& slice) {
    slice.text(tag::kOrientation, "DS", "0.6\\0\\0.8\\0\\1\\0.5");
  });
  EXPECT_THAT(error(), HasSubstr("are not orthonormal"));
}

TEST_F(DicomTest, TextsTooLongForNumbers) {
  const auto with_direction_of = [&](std::size_t length) {
    const std::string begin = "0.6\\0\\0.8\\0\\1\\", end = "0";
    const auto direction = begin + std::string(length - begin.size() - end.size(), ' ') + end;
    write_series([&](int, DicomBytes& slice) { slice.text(tag::kOrientation, "DS", direction); });
    return error();
  };
  EXPECT_EQ(with_direction_of(1024), "");
  EXPECT_EQ(with_direction_of(1026),
            (series_ / "IM0").string() +
                ": has no valid direction (Image Orientation (Patient)) of its slice, so its place "
                "in the patient is not known");

  // Not looked through for each of many frames, which need no bytes of their own where a value has
  // no bits.
  remove_series();
  DicomBytes slice = dicom_slice(0);
  slice.text(tag::kFrames, "IS", "65536").number(tag::kBitsAllocated, 0);
  slice.text(tag::kOrientation, "DS", std::string(60'000, '\\'));
  slice.write(series_ / "all.dcm");
  EXPECT_EQ(error(),
            (series_ / "all.dcm").string() +
                ": is damaged or not supported: its values have 16 bits up to bit 15 of 0");
}

TEST_F(DicomTest, UidsAreOf64CharactersAtMost) {
  const std::vector<std::pair<std::uint32_t, std::string>> uids = {
      {tag::kSopClass, "SOP Class UID"},
      {tag::kSopInstance, "SOP Instance UID"},
      {tag::kStudy, "Study Instance UID"},
      {tag::kSeries, "Series Instance UID"},
      {tag::kFrameOfReference, "Frame of Reference UID"}};
  for (const auto& [tag, name] : uids) {
    const auto with_length = [&, tag = tag](std::size_t length) {
      write_series(
          [&](int, DicomBytes& slice) { slice.text(tag, "UI", std::string(length, '1')); });
      return error();
    };
    EXPECT_EQ(with_length(64), "") << name;
    EXPECT_EQ(with_length(65), (series_ / "IM0").string() + ": is damaged: its " + name +
                                   " has 65 characters, UIDs have at most 64");
  }
}

// The values.

TEST_F(DicomTest, ValuesThatAreNotGrey) {
  const auto changed = [&](const std::function<void(DicomBytes&)>& change) {
    write_series_with(3, change);
    return error();
  };
  EXPECT_THAT(changed([](DicomBytes& slice) {
                slice.number(tag::kSamples, 3).text(tag::kPhotometric, "CS", "RGB");
              }),
              HasSubstr(file(3).string() + ": is a colour image (RGB)"));
  EXPECT_THAT(
      changed([](DicomBytes& slice) { slice.text(tag::kPhotometric, "CS", "PALETTE COLOR"); }),
      HasSubstr("is a colour image (PALETTE COLOR)"));
  EXPECT_THAT(
      changed([](DicomBytes& slice) { slice.text(tag::kPhotometric, "CS", "MONOCHROME1"); }),
      HasSubstr("has inverted grey values (MONOCHROME1)"));
  EXPECT_THAT(changed([](DicomBytes& slice) { slice.items(tag::kModalityTable, {DicomBytes()}); }),
              HasSubstr("Modality LUT Sequence"));
  EXPECT_THAT(changed([](DicomBytes& slice) { slice.number(tag::kHighBit, 11); }),
              HasSubstr("16 bits up to bit 11 of 16"));
}

TEST_F(DicomTest, RescalingThatIsNotFinite) {
  const auto with_slope = [&](const std::string& slope) {
    write_series_with(3, [&](DicomBytes& slice) { slice.text(tag::kSlope, "DS", slope); });
  };
  for (const char* slope : {"1e38", "nan", "one"}) {
    with_slope(slope);
    EXPECT_THROW(read_dicom(series_), NotFiniteError) << slope;
  }
  with_slope("0");
  EXPECT_THAT(error(), HasSubstr("its rescale slope is 0"));
}

TEST_F(DicomTest, ThreadsReadAtOnce) {
  write_series();
  for (int z = 0; z < kSlices; ++z) compress(file(z), kCompressed[static_cast<std::size_t>(z) % 4]);
  const auto expected = read_dicom(series_).voxels;
  std::vector<std::vector<float>> got(4);
  {
    std::vector<std::jthread> threads;
    for (auto& voxels : got) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) voxels = read_dicom(series_).voxels;
      });
    }
  }
  for (const auto& voxels : got) EXPECT_EQ(voxels, expected);
}

}  // namespace
}  // namespace segmamba::io
