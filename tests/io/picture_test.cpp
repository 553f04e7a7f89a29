#include "segmamba/io/picture.h"

#include <gtest/gtest.h>
#include <png.h>

#include <cstring>

#include "segmamba/core/error.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

Picture read_png(const std::filesystem::path& path) {
  png_image header;
  std::memset(&header, 0, sizeof(header));
  header.version = PNG_IMAGE_VERSION;
  EXPECT_TRUE(png_image_begin_read_from_file(&header, path.c_str())) << header.message;
  EXPECT_EQ(header.format, static_cast<png_uint_32>(PNG_FORMAT_RGB)) << "8-bit RGB, no alpha";
  Picture picture(header.width, header.height);
  EXPECT_TRUE(png_image_finish_read(&header, nullptr, picture.pixels.data(), 0, nullptr));
  return picture;
}

Image flat_image(std::array<std::int64_t, 3> size, float value) {
  Image image;
  image.geometry.size = size;
  image.voxels.assign(static_cast<std::size_t>(image.geometry.voxel_count()), value);
  return image;
}

LabelMap no_labels(std::array<std::int64_t, 3> size) {
  LabelMap labels;
  labels.geometry.size = size;
  labels.voxels.assign(static_cast<std::size_t>(labels.geometry.voxel_count()), 0);
  return labels;
}

TEST(WritePng, RoundTrip) {
  Picture picture(37, 23);
  for (std::int64_t y = 0; y < 23; ++y) {
    for (std::int64_t x = 0; x < 37; ++x) {
      picture.at(x, y) = {static_cast<std::uint8_t>(7 * x), static_cast<std::uint8_t>(11 * y),
                          static_cast<std::uint8_t>(x * y)};
    }
  }
  const test::TemporaryFolder folder;
  write_png(folder.path() / "a.png", picture);
  const Picture read = read_png(folder.path() / "a.png");
  EXPECT_EQ(read.width, 37);
  EXPECT_EQ(read.height, 23);
  EXPECT_EQ(read.pixels, picture.pixels);
}

TEST(WritePng, RefusesEmptyPicturesAndMissingFolders) {
  const test::TemporaryFolder folder;
  EXPECT_THROW(write_png(folder.path() / "a.png", Picture(0, 5)), Error);
  EXPECT_THROW(write_png(folder.path() / "missing" / "a.png", Picture(2, 2)), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Overlay, ColumnsShowReferencePredictionAndDifference) {
  const std::array<std::int64_t, 3> size = {6, 5, 4};  // (x, y, z)
  const Image image = flat_image(size, 100);
  LabelMap reference = no_labels(size);
  LabelMap prediction = no_labels(size);
  const auto at = [&](std::int64_t x, std::int64_t y, std::int64_t z) {
    return static_cast<std::size_t>((z * 5 + y) * 6 + x);
  };
  // All in slice z = 1, which is the largest: agreed, missed, added, another label.
  reference.voxels[at(0, 0, 1)] = prediction.voxels[at(0, 0, 1)] = 2;
  reference.voxels[at(1, 0, 1)] = 1;
  prediction.voxels[at(2, 0, 1)] = 3;
  reference.voxels[at(3, 0, 1)] = 1;
  prediction.voxels[at(3, 0, 1)] = 2;
  const OverlayOptions options{.opacity = 1, .panel_height = 1};
  const Picture picture = draw_overlay(image, &reference, &prediction, options);
  // Panels as wide as the widest plane (6), gaps of 4; rows of 5, 4 and 4 with two gaps.
  EXPECT_EQ(picture.width, 4 * 6 + 3 * 4);
  EXPECT_EQ(picture.height, 5 + 4 + 4 + 2 * 4);
  const Colour white = {255, 255, 255};
  const auto pixel = [&](std::int64_t column, std::int64_t x, std::int64_t y) {
    return picture.at(column * 10 + x, y);
  };
  for (std::int64_t x = 0; x < 6; ++x) EXPECT_EQ(pixel(0, x, 0), white);
  const Colour red = {230, 60, 50};
  const Colour green = {70, 190, 90};
  const Colour yellow = {250, 220, 60};
  EXPECT_EQ(pixel(1, 0, 0), green);
  EXPECT_EQ(pixel(1, 1, 0), red);
  EXPECT_EQ(pixel(1, 2, 0), white);
  EXPECT_EQ(pixel(1, 3, 0), red);
  EXPECT_EQ(pixel(2, 0, 0), green);
  EXPECT_EQ(pixel(2, 1, 0), white);
  EXPECT_EQ(pixel(2, 2, 0), yellow);
  EXPECT_EQ(pixel(2, 3, 0), green);
  EXPECT_EQ(pixel(3, 0, 0), white);
  EXPECT_EQ(pixel(3, 1, 0), (Colour{60, 120, 250}));
  EXPECT_EQ(pixel(3, 2, 0), (Colour{250, 140, 30}));
  EXPECT_EQ(pixel(3, 3, 0), (Colour{180, 80, 210}));
  EXPECT_EQ(pixel(3, 4, 0), white);
  // Coronal, the slice y = 0: z = 1 of 4 is the third row from above.
  EXPECT_EQ(pixel(1, 1, 5 + 4 + 2), red);
  // Without a prediction two columns stay.
  EXPECT_EQ(draw_overlay(image, &reference, nullptr, options).width, 2 * 6 + 4);
}

TEST(Overlay, FollowsTheDirectionOfTheImage) {
  const std::array<std::int64_t, 3> size = {6, 6, 6};
  Image image = flat_image(size, 50);
  LabelMap reference = no_labels(size);
  reference.voxels[(3 * 6 + 1) * 6 + 2] = 1;  // x = 2, y = 1, z = 3
  const OverlayOptions options{.opacity = 1, .panel_height = 1};
  const Picture straight = draw_overlay(image, &reference, nullptr, options);
  EXPECT_EQ(straight.at(10 + 2, 1), (Colour{230, 60, 50}));
  // The index axes (x, y, z) run along S, -L, P.
  image.geometry.direction = {0, -1, 0, 0, 0, 1, 1, 0, 0};
  const Picture turned = draw_overlay(image, &reference, nullptr, options);
  // Axial: columns along L are y backwards (6 - 1 - 1), rows along P are z.
  EXPECT_EQ(turned.at(10 + 4, 3), (Colour{230, 60, 50}));
}

TEST(Overlay, DrawsSquarePixels) {
  Image image = flat_image({10, 10, 5}, 1);
  image.geometry.spacing = {1, 1, 2};
  const Picture picture = draw_overlay(image, nullptr, nullptr, {.opacity = 1, .panel_height = 20});
  EXPECT_EQ(picture.width, 20);
  EXPECT_EQ(picture.height, 3 * 20 + 2 * 4);
}

TEST(Overlay, RefusesLabelsOfAnotherSize) {
  const Image image = flat_image({4, 4, 4}, 1);
  const LabelMap labels = no_labels({4, 4, 5});
  EXPECT_THROW(draw_overlay(image, &labels, nullptr), Error);
  EXPECT_THROW(draw_overlay(image, nullptr, &labels), Error);
}

}  // namespace
}  // namespace segmamba::io
