#include "segmamba/io/nifti_style.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "nifti_bytes.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
using test::NiftiBytes;
using ::testing::HasSubstr;

class NiftiStyleTest : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  fs::path file(const std::string& name) const { return folder_.path() / name; }
  std::string write_error(const std::string& name, const Image& image,
                          const NiftiStyle& style) const {
    try {
      write_image(file(name), image, style);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  test::TemporaryFolder folder_;
};

// 3x4x5 voxels 0, 1, 2, ... on a turned grid.
Image counting() {
  Image image;
  image.geometry.size = {3, 4, 5};
  image.geometry.spacing = {0.5, 1, 2.5};
  image.geometry.origin = {12, -239, 7.25};
  const double cos = 0.8, sin = 0.6;
  image.geometry.direction = {cos, -sin, 0, sin, cos, 0, 0, 0, 1};
  image.voxels.resize(60);
  std::iota(image.voxels.begin(), image.voxels.end(), 0.0f);
  return image;
}

TEST_F(NiftiStyleTest, EveryTypeReadsBack) {
  const Image image = counting();
  LabelMap labels{image.geometry, std::vector<std::uint8_t>(60)};
  std::iota(labels.voxels.begin(), labels.voxels.end(), 0);
  for (const auto type :
       {NiftiType::kUint8, NiftiType::kInt8, NiftiType::kUint16, NiftiType::kInt16,
        NiftiType::kUint32, NiftiType::kInt32, NiftiType::kUint64, NiftiType::kInt64,
        NiftiType::kFloat32, NiftiType::kFloat64}) {
    for (const char* name : {"volume.nii", "volume.nii.gz"}) {
      for (const double slope : {1.0, 0.5}) {
        SCOPED_TRACE(testing::Message() << name << " type " << static_cast<int>(type));
        NiftiStyle style;
        style.type = type;
        style.slope = slope;
        write_image(file(name), image, style);
        EXPECT_EQ(NiftiBytes(file(name)).get<std::int16_t>(70), static_cast<int>(type));
        EXPECT_EQ(NiftiBytes(file(name)).get<float>(112), static_cast<float>(slope));
        const Image read = read_image(file(name));
        EXPECT_EQ(read.voxels, image.voxels);
        EXPECT_EQ(geometry_difference(read.geometry, image.geometry, 1e-6), "");
        write_labels(file(name), labels, style);
        EXPECT_EQ(read_labels(file(name)).voxels, labels.voxels);
      }
    }
  }
}

TEST_F(NiftiStyleTest, ScalesAndRounds) {
  Image image = counting();
  for (float& value : image.voxels) value = 0.3f * value - 5;
  NiftiStyle style;
  style.type = NiftiType::kUint8;
  style.slope = 0.25;
  style.intercept = -8;
  write_image(file("scaled.nii"), image, style);
  EXPECT_EQ(NiftiBytes(file("scaled.nii")).get<float>(116), -8);
  const auto read = read_image(file("scaled.nii")).voxels;
  for (std::size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i], 0.25f * std::round(4 * (image.voxels[i] + 8)) - 8) << i;
  }
}

TEST_F(NiftiStyleTest, AnExtensionMovesTheVoxels) {
  const Image image = counting();
  NiftiStyle style;
  style.type = NiftiType::kInt16;
  // Of 8 bytes before the text, and 16 bytes as the unit.
  for (const auto& [length, offset] : {std::pair{1, 368}, {8, 368}, {9, 384}, {2520, 2880}}) {
    style.extension = std::string(static_cast<std::size_t>(length), 'x');
    write_image(file("extended.nii.gz"), image, style);
    const NiftiBytes bytes(file("extended.nii.gz"));
    EXPECT_EQ(bytes.get<float>(108), static_cast<float>(offset));
    EXPECT_EQ(bytes.get<std::int32_t>(348), 1);
    EXPECT_EQ(bytes.get<std::int32_t>(352), offset - 352);
    EXPECT_EQ(bytes.get<std::int32_t>(356), 6);
    EXPECT_EQ(bytes.bytes().substr(360, style.extension.size()), style.extension);
    EXPECT_EQ(bytes.bytes().size(), static_cast<std::size_t>(offset) + 120);
    EXPECT_EQ(read_image(file("extended.nii.gz")).voxels, image.voxels);
  }
  style.extension.clear();
  write_image(file("plain.nii"), image, style);
  EXPECT_EQ(NiftiBytes(file("plain.nii")).get<float>(108), 352);
  EXPECT_EQ(NiftiBytes(file("plain.nii")).get<std::int32_t>(348), 0);
}

// All rotations and reflections onto the axes, and the turned grid: by the sform and by the qform.
TEST_F(NiftiStyleTest, SformAndQformAreTheGeometry) {
  std::vector<std::array<double, 9>> directions = {counting().geometry.direction};
  std::array<std::size_t, 3> axes = {0, 1, 2};
  do {
    for (unsigned signs = 0; signs < 8; ++signs) {
      std::array<double, 9> direction{};
      for (std::size_t i = 0; i < 3; ++i) {
        direction[3 * axes[i] + i] = (signs >> i & 1) != 0 ? -1 : 1;
      }
      directions.push_back(direction);
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
  ASSERT_EQ(directions.size(), 49U);
  for (const auto& direction : directions) {
    Image image = counting();
    image.geometry.direction = direction;
    write_image(file("both.nii"), image, {});
    EXPECT_EQ(geometry_difference(read_geometry(file("both.nii")), image.geometry, 1e-6), "");
    NiftiBytes bytes(file("both.nii"));
    EXPECT_EQ(bytes.get<std::int16_t>(252), 1);
    EXPECT_EQ(bytes.get<std::int16_t>(254), 1);
    bytes.put<std::int16_t>(254, 0);
    bytes.write(file("qform.nii"));
    // Near half a turn a quaternion of floats is exact to the root of their rounding only.
    EXPECT_EQ(geometry_difference(read_geometry(file("qform.nii")), image.geometry, 1e-3), "");
  }
}

TEST_F(NiftiStyleTest, CosineErrorsAreInTheSformAlone) {
  Image image = counting();
  image.geometry.direction = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  NiftiStyle style;
  style.cosine_errors = {0, 1e-4, 0, -2e-5, 0, 0, 0, 0, 0};
  write_image(file("sheared.nii"), image, style);
  const NiftiBytes bytes(file("sheared.nii"));
  // Rows are of RAS, columns scaled by the spacing.
  EXPECT_EQ(bytes.get<float>(280), -0.5f);
  EXPECT_EQ(bytes.get<float>(284), -1e-4f);
  EXPECT_EQ(bytes.get<float>(296), 1e-5f);
  EXPECT_EQ(bytes.get<float>(300), -1);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(bytes.get<float>(256 + 4 * i), 0);
  EXPECT_EQ(geometry_difference(read_geometry(file("sheared.nii")), image.geometry), "");
  EXPECT_NE(geometry_difference(read_geometry(file("sheared.nii")), image.geometry, 1e-5), "");
}

TEST_F(NiftiStyleTest, RefusesWhatDoesNotFitAndLeavesNoFile) {
  Image image = counting();
  NiftiStyle style;
  style.type = NiftiType::kInt16;
  for (const float value : {32768.0f, -32769.0f, std::nanf("")}) {
    image.voxels[7] = value;
    EXPECT_THAT(write_error("bad.nii.gz", image, style), HasSubstr("does not fit")) << value;
  }
  image.voxels[7] = -32768;
  EXPECT_EQ(write_error("lowest.nii.gz", image, style), "");
  style.type = NiftiType::kUint8;
  EXPECT_THAT(write_error("bad.nii", image, style), HasSubstr("does not fit"));
  image = counting();
  style.slope = 0;
  EXPECT_THAT(write_error("bad.nii", image, style), HasSubstr("slope of 0"));
  style.slope = 1;
  EXPECT_THAT(write_error("bad.img", image, style), HasSubstr("must end in .nii or .nii.gz"));
  style.extension = std::string(std::size_t{1} << 20, 'x');
  EXPECT_THAT(write_error("bad.nii", image, style), HasSubstr("too long"));
  image.voxels.pop_back();
  EXPECT_THAT(write_error("bad.nii", image, {}), HasSubstr("do not fit a grid of 3x4x5"));
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    left.push_back(entry.path().filename().string());
  }
  EXPECT_EQ(left, std::vector<std::string>{"lowest.nii.gz"});
}

}  // namespace
}  // namespace segmamba::io
