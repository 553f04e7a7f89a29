#include "segmamba/io/orientation.h"

#include <gmock/gmock.h>

#include <set>

#include "segmamba/core/random.h"
#include "support/error_of.h"
#include "support/orientations.h"

namespace segmamba::io {
namespace {

using ::testing::HasSubstr;

using test::oblique_grid;
using test::orientations;
using test::rotation;

TEST(Orientation, NamesWhatTheAxesRunTowards) {
  Geometry geometry;
  EXPECT_EQ(orientation_of(geometry), "LPS");
  geometry.direction = {-1, 0, 0, 0, -1, 0, 0, 0, 1};
  EXPECT_EQ(orientation_of(geometry), "RAS");
  geometry.direction = {0, 0, 1, 1, 0, 0, 0, -1, 0};  // x to the back, y to the feet, z to the left
  EXPECT_EQ(orientation_of(geometry), "PIL");
  EXPECT_EQ(orientation_of(oblique_grid()), "LPS");
}

TEST(Orientation, TurnsAnyGridIntoAnyOtherAndKeepsEveryVoxelInPlace) {
  const auto all = orientations();
  ASSERT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 48U);
  for (const auto& from : all) {
    const Geometry start = reoriented(oblique_grid(), axes_towards(oblique_grid(), from));
    ASSERT_EQ(orientation_of(start), from);
    for (const auto& to : all) {
      const AxisMap axes = axes_towards(start, to);
      const Geometry turned = reoriented(start, axes);
      ASSERT_EQ(orientation_of(turned), to);
      const std::array<double, 3> index = {1, 0, 2};
      std::array<double, 3> before{};
      for (std::size_t j = 0; j < 3; ++j) {
        ASSERT_EQ(turned.size[j], start.size[axes.axis[j]]);
        const auto last = static_cast<double>(turned.size[j] - 1);
        before[axes.axis[j]] = axes.reversed[j] ? last - index[j] : index[j];
      }
      const auto place = test::world(turned, index), expected = test::world(start, before);
      for (std::size_t w = 0; w < 3; ++w) ASSERT_NEAR(place[w], expected[w], 1e-9);
    }
    const Geometry back = reoriented(start, axes_towards(start, "LPS"));
    EXPECT_EQ(geometry_difference(back, oblique_grid(), 1e-9), "");
  }
}

// Axes half-way between two of the world could be either, and rounding must not decide.
TEST(Orientation, TiesDoNotDependOnTheOrderOfTheAxes) {
  for (const double degrees : {45.0, 135.0, -45.0}) {
    for (std::size_t about = 0; about < 3; ++about) {
      Geometry geometry = oblique_grid();
      geometry.direction = rotation(degrees, about);
      const Geometry expected = reoriented(geometry, axes_towards(geometry, "LPS"));
      for (const auto& letters : orientations()) {
        Geometry start = reoriented(geometry, axes_towards(geometry, letters));
        for (std::size_t i = 0; i < 9; ++i) {
          start.direction[i] += (i % 2 == 0 ? 1e-7 : -1e-7);  // as a float rounds
        }
        const Geometry turned = reoriented(start, axes_towards(start, "LPS"));
        ASSERT_EQ(geometry_difference(turned, expected, 1e-5), "") << degrees << letters;
      }
    }
  }
}

TEST(Orientation, LeavesTheSmallestRotation) {
  Random random(1);
  const auto trace = [](const Geometry& g) {
    return g.direction[0] + g.direction[4] + g.direction[8];
  };
  for (int i = 0; i < 200; ++i) {
    Geometry geometry;
    for (std::size_t about = 0; about < 3; ++about) {
      geometry.direction =
          test::product(geometry.direction, rotation(random.uniform(-180, 180), about));
    }
    const double best = trace(reoriented(geometry, axes_towards(geometry, "LPS")));
    for (const auto& letters : orientations()) {
      ASSERT_LE(trace(reoriented(geometry, axes_towards(geometry, letters))), best + 1e-5);
    }
  }
}

TEST(Orientation, RefusesWhatIsNone) {
  for (const char* bad : {"", "LP", "LPSL", "LRS", "lps", "XYZ", "LLP"}) {
    EXPECT_THAT(test::error_of([&] { axes_towards({}, bad); }),
                HasSubstr("there is no orientation '" + std::string(bad) + "'"));
  }
}

TEST(Orientation, DropsTheHeaderOfTheFile) {
  EXPECT_EQ(reoriented(oblique_grid(), {}).header, nullptr);
  EXPECT_EQ(geometry_difference(reoriented(oblique_grid(), {}), oblique_grid(), 0), "");
}

}  // namespace
}  // namespace segmamba::io
