#include "segmamba/data/preview.h"

#include <gmock/gmock.h>

namespace segmamba::data {
namespace {

using io::Colour;

// 2 x 5 x 6: values 0 to 100 in each slice, a square of class 2 in the second one.
struct Patch {
  Index3 size = {2, 5, 6};
  std::vector<float> image = std::vector<float>(60, 0.0f);
  std::vector<std::uint8_t> labels = std::vector<std::uint8_t>(60, 0);
  Patch() {
    for (std::size_t i = 0; i < 60; ++i) image[i] = static_cast<float>(i % 6) * 20;
    for (std::size_t y = 1; y <= 3; ++y) {
      for (std::size_t x = 1; x <= 3; ++x) labels[30 + 6 * y + x] = 2;
    }
  }
};

TEST(DrawPatch, OutlinesTheClassesOfTheFullestSlice) {
  const Patch patch;
  const auto picture = draw_patch(patch.size, 1, patch.image.data(), patch.labels.data(), 1);
  ASSERT_EQ(picture.width, 6);
  ASSERT_EQ(picture.height, 5);
  const Colour green = {70, 190, 90};
  for (std::int64_t y = 0; y < 5; ++y) {
    for (std::int64_t x = 0; x < 6; ++x) {
      const bool in_square = y >= 1 && y <= 3 && x >= 1 && x <= 3;
      const bool is_edge = in_square && !(y == 2 && x == 2);
      const auto grey = static_cast<std::uint8_t>(51 * x);
      EXPECT_EQ(picture.at(x, y), (is_edge ? green : Colour{grey, grey, grey})) << x << " " << y;
    }
  }
}

TEST(DrawPatch, EnlargesByAWholeFactorAndPutsChannelsSideBySide) {
  const Patch patch;
  auto two = patch.image;
  two.insert(two.end(), patch.image.rbegin(), patch.image.rend());
  const auto picture = draw_patch(patch.size, 2, two.data(), patch.labels.data(), 14);
  EXPECT_EQ(picture.height, 15);  // three times 5
  EXPECT_EQ(picture.width, 18 + 4 + 18);
  EXPECT_EQ(picture.at(17, 0), (Colour{255, 255, 255}));
  EXPECT_EQ(picture.at(22, 0), (Colour{255, 255, 255}));  // the second channel runs backwards
  EXPECT_EQ(picture.at(39, 14), (Colour{0, 0, 0}));
  // The outline is one pixel wide, on the inside.
  EXPECT_EQ(picture.at(3, 3), (Colour{70, 190, 90}));
  EXPECT_EQ(picture.at(4, 4), (Colour{51, 51, 51}));
}

}  // namespace
}  // namespace segmamba::data
