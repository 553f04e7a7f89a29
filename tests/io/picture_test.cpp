#include "segmamba/io/picture.h"

#include <gtest/gtest.h>
#include <png.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include "segmamba/core/error.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

Picture read_png(const std::filesystem::path& path) {
  png_image header;
  std::memset(&header, 0, sizeof(header));
  header.version = PNG_IMAGE_VERSION;
  EXPECT_TRUE(png_image_begin_read_from_file(&header, path.c_str())) << header.message;
  EXPECT_EQ(header.format & PNG_FORMAT_FLAG_ALPHA, 0u);
  EXPECT_EQ(header.format & PNG_FORMAT_FLAG_LINEAR, 0u) << "8 bits";
  header.format = PNG_FORMAT_RGB;
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

bool has_palette(const std::string& png) {
  constexpr std::size_t kColourType = 25;  // in the header chunk
  return png.at(kColourType) == 3;
}

TEST(EncodePng, UsesAPaletteForFewColours) {
  const test::TemporaryFolder folder;
  for (const int colours : {1, 2, 200, 256, 257}) {
    Picture picture(40, 25);
    for (std::size_t i = 0; i < picture.pixels.size(); ++i) {
      const auto number = static_cast<int>(i) % colours;
      picture.pixels[i] = {static_cast<std::uint8_t>(number), 9,
                           static_cast<std::uint8_t>(number / 256)};
    }
    EXPECT_EQ(has_palette(encode_png(picture)), colours <= 256) << colours;
    write_png(folder.path() / "a.png", picture);
    EXPECT_EQ(read_png(folder.path() / "a.png").pixels, picture.pixels) << colours;
  }
  EXPECT_THROW(encode_png(Picture(3, 0)), Error);
}

constexpr Colour kMissed = {60, 120, 250}, kAdded = {250, 140, 30}, kWrongLabel = {180, 80, 210};

TEST(Difference, ShowsWhereTwoMapsDiffer) {
  const std::array<std::int64_t, 3> size = {12, 8, 6};
  LabelMap reference = no_labels(size), prediction = no_labels(size);
  const auto at = [&](std::int64_t x, std::int64_t y, std::int64_t z) {
    return static_cast<std::size_t>((z * 8 + y) * 12 + x);
  };
  // All differences lie in the slices x = 5, y = 3, z = 2.
  reference.voxels[at(4, 3, 2)] = prediction.voxels[at(4, 3, 2)] = 2;
  reference.voxels[at(5, 3, 2)] = 1;
  prediction.voxels[at(6, 3, 2)] = 3;
  reference.voxels[at(7, 3, 2)] = 1;
  prediction.voxels[at(7, 3, 2)] = 2;
  DifferenceOptions options;
  options.margin = 0;
  options.panel_size = 4;
  // The box is 4x1x1 voxels of one millimetre, one pixel each: axial 4x1, coronal 4x1, sagittal
  // 1x1.
  const Picture picture = draw_difference(reference, prediction, options);
  ASSERT_EQ(picture.height, 1);
  ASSERT_EQ(picture.width, 4 + 4 + 4 + 4 + 1);
  for (const std::int64_t left : {0, 8}) {
    const Colour agreed = picture.at(left, 0);
    EXPECT_EQ(agreed[0], agreed[1]);
    EXPECT_EQ(agreed[1], agreed[2]);
    EXPECT_EQ(picture.at(left + 1, 0), kMissed);
    EXPECT_EQ(picture.at(left + 2, 0), kAdded);
    EXPECT_EQ(picture.at(left + 3, 0), kWrongLabel);
  }
  EXPECT_EQ(picture.at(16, 0), kMissed);  // x = 5 comes first of the slices with one difference
}

TEST(Difference, HasTheShapeOfMillimetres) {
  LabelMap labels = no_labels({10, 10, 10});
  labels.geometry.spacing = {1, 2, 4};
  std::fill(labels.voxels.begin(), labels.voxels.end(), std::uint8_t{1});
  DifferenceOptions options;
  options.panel_size = 40;
  const Picture picture = draw_difference(labels, labels, options);
  EXPECT_EQ(picture.width, 10 + 4 + 10 + 4 + 20);
  EXPECT_EQ(picture.height, 40);
}

TEST(Difference, OfEmptyMapsIsBackground) {
  const LabelMap empty = no_labels({10, 9, 8});
  const Picture picture = draw_difference(empty, empty);
  EXPECT_GT(picture.width, 0);
  for (const Colour& colour : picture.pixels) EXPECT_LT(colour[0], 64);
  EXPECT_THROW(draw_difference(empty, no_labels({10, 9, 7})), Error);
}

TEST(Difference, TurnsAsTheOverlayDoes) {
  // The patient's left is on the right: LPS, then with x reversed.
  LabelMap labels = no_labels({4, 1, 1});
  labels.voxels = {1, 2, 2, 2};
  DifferenceOptions options;
  options.panel_size = 4;
  const Picture picture = draw_difference(labels, labels, options);
  LabelMap mirrored = labels;
  mirrored.geometry.direction[0] = -1;
  const Picture turned = draw_difference(mirrored, mirrored, options);
  EXPECT_NE(picture.at(0, 0), picture.at(3, 0));
  EXPECT_EQ(picture.at(0, 0), turned.at(3, 0));
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

TEST(Overlay, OutlinesLeaveTheImageVisible) {
  const std::array<std::int64_t, 3> size = {8, 8, 1};
  const Image image = flat_image(size, 100);
  LabelMap labels = no_labels(size);
  // 2 fills x, y = 1 to 5 but for a 3 in its middle; a 1 lies at the edge of the image.
  for (std::size_t y = 1; y <= 5; ++y) {
    for (std::size_t x = 1; x <= 5; ++x) labels.voxels[8 * y + x] = 2;
  }
  labels.voxels[8 * 3 + 3] = 3;
  labels.voxels[8 * 7 + 7] = 1;
  const Picture picture = draw_overlay(
      image, nullptr, &labels, {.style = LabelStyle::kOutlined, .opacity = 0.5, .panel_height = 1});
  const char* expected[] = {"........",  //
                            ".ggggg..",  //
                            ".g.g.g..",  // above and below the 3, and beside it,
                            ".ggygg..",  // the 2 ends
                            ".g.g.g..",  //
                            ".ggggg..",  //
                            "........",  //
                            ".......r"};
  for (std::int64_t y = 0; y < 8; ++y) {
    for (std::int64_t x = 0; x < 8; ++x) {
      Colour colour = {255, 255, 255};
      if (expected[y][x] == 'r') colour = label_colour(1);
      if (expected[y][x] == 'g') colour = label_colour(2);
      if (expected[y][x] == 'y') colour = label_colour(3);
      EXPECT_EQ(picture.at(12 + x, y), colour) << x << ' ' << y;
      EXPECT_EQ(picture.at(x, y), (Colour{255, 255, 255}));
    }
  }
}

TEST(Overlay, LabelsAreToldApart) {
  EXPECT_EQ(label_colour(0), (Colour{0, 0, 0}));
  EXPECT_EQ(label_colour(1), (Colour{230, 60, 50}));
  std::set<Colour> colours;
  for (int label = 0; label < 256; ++label) {
    colours.insert(label_colour(static_cast<std::uint8_t>(label)));
  }
  EXPECT_GT(colours.size(), 200U);
  // The first dozen differ clearly, and none is dark.
  for (int a = 1; a < 13; ++a) {
    const Colour first = label_colour(static_cast<std::uint8_t>(a));
    EXPECT_GT(first[0] + first[1] + first[2], 300) << a;
    for (int b = 1; b < a; ++b) {
      const Colour second = label_colour(static_cast<std::uint8_t>(b));
      int distance = 0;
      for (std::size_t i = 0; i < 3; ++i) distance += std::abs(first[i] - second[i]);
      EXPECT_GE(distance, 50) << a << " and " << b;
    }
  }
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
