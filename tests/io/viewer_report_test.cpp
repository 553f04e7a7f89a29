#include "segmamba/io/viewer_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"
#include "viewer_page.h"

namespace segmamba::io {
namespace {

using test::ViewerPage;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

ViewerOptions brats() {
  ViewerOptions options;
  options.labels = {{1, "necrosis"}, {2, "oedema"}, {3, "enhancing"}};
  options.regions = {{"WT", {1, 2, 3}}, {"TC", {1, 3}}, {"ET", {3}}};
  return options;
}

template <class T>
Volume<T> filled(std::array<std::int64_t, 3> size, T value) {
  Volume<T> volume;
  volume.geometry.size = size;
  volume.voxels.assign(static_cast<std::size_t>(volume.geometry.voxel_count()), value);
  return volume;
}

std::size_t place_of(const std::array<std::int64_t, 3>& size, std::int64_t x, std::int64_t y,
                     std::int64_t z) {
  return static_cast<std::size_t>((z * size[1] + y) * size[0] + x);
}

// The place in the page's grid of the only voxel with `value`, along L, P and S.
std::array<double, 3> found_at(const ViewerPage& page, std::uint8_t value) {
  const auto voxels = page.labels(0);
  EXPECT_EQ(std::count(voxels.begin(), voxels.end(), value), 1);
  const auto i = std::find(voxels.begin(), voxels.end(), value) - voxels.begin();
  const Json& size = page.grid(0).at("size");
  const auto width = size.at(0).get<std::int64_t>(), height = size.at(1).get<std::int64_t>();
  return {static_cast<double>(i % width), static_cast<double>(i / width % height),
          static_cast<double>(i / (width * height))};
}

std::array<double, 3> world_of(const Geometry& geometry, const std::array<double, 3>& voxel) {
  std::array<double, 3> point = geometry.origin;
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      point[row] += geometry.direction[3 * row + axis] * geometry.spacing[axis] * voxel[axis];
    }
  }
  return point;
}

// The grids of all 48 ways to turn and mirror the axes, straight and a little oblique.
std::vector<std::array<double, 9>> all_directions() {
  std::vector<std::array<double, 9>> directions;
  const double c = std::cos(0.3), s = std::sin(0.3);
  for (const bool is_oblique : {false, true}) {
    std::array<std::size_t, 3> axes = {0, 1, 2};
    do {
      for (int mirrored = 0; mirrored < 8; ++mirrored) {
        std::array<double, 9> direction{};
        for (std::size_t axis = 0; axis < 3; ++axis) {
          direction[3 * axes[axis] + axis] = (mirrored >> axis & 1) != 0 ? -1 : 1;
        }
        if (is_oblique) {  // turned about S
          const auto straight = direction;
          for (std::size_t column = 0; column < 3; ++column) {
            direction[column] = c * straight[column] - s * straight[3 + column];
            direction[3 + column] = s * straight[column] + c * straight[3 + column];
          }
        }
        directions.push_back(direction);
      }
    } while (std::next_permutation(axes.begin(), axes.end()));
  }
  return directions;
}

TEST(ViewerReport, TurnsEveryGridToThePatient) {
  const std::array<std::int64_t, 3> size = {11, 9, 7};
  for (const auto& direction : all_directions()) {
    LabelMap labels = filled<std::uint8_t>(size, 0);
    labels.geometry.spacing = {1, 2, 3};
    labels.geometry.origin = {-20, 5, 100};
    labels.geometry.direction = direction;
    // The corners keep the page from cutting.
    labels.voxels.front() = labels.voxels.back() = 1;
    const std::array<double, 3> voxel = {8, 2, 5};
    labels.voxels[place_of(size, 8, 2, 5)] = 3;
    ViewerReport report(brats());
    report.add_case("a", 1, labels, {});
    const ViewerPage page(report);
    const auto at = found_at(page, 3);
    const Json& grid = page.grid(0);

    // It lies in the middle of the grid as in that of the patient: more to the left is further on.
    const auto point = world_of(labels.geometry, voxel);
    const auto middle = world_of(labels.geometry, {5, 4, 3});
    for (std::size_t world = 0; world < 3; ++world) {
      const double length = grid.at("size").at(world), spacing = grid.at("spacing").at(world);
      const double along = (at[world] - (length - 1) / 2) * spacing;
      const std::size_t axis = grid.at("axis").at(world);
      EXPECT_EQ(length, size[axis]);
      EXPECT_DOUBLE_EQ(spacing, labels.geometry.spacing[axis]);
      // Oblique by 0.3: the offsets of other axes come in.
      EXPECT_NEAR(along, point[world] - middle[world], 3.5);
      const double start = grid.at("start").at(world), stride = grid.at("stride").at(world);
      EXPECT_EQ(start + stride * at[world], voxel[axis]);
    }
    for (std::size_t row = 0; row < 3; ++row) {
      double sum = grid.at("world").at(4 * row + 3);
      for (std::size_t axis = 0; axis < 3; ++axis) {
        sum += grid.at("world").at(4 * row + axis).get<double>() * voxel[axis];
      }
      EXPECT_NEAR(sum, point[row], 1e-9);
    }
  }
}

TEST(ViewerReport, StraightGridsMatchTheWorldExactly) {
  const std::array<std::int64_t, 3> size = {11, 9, 7};
  const auto directions = all_directions();
  for (std::size_t i = 0; i < 48; ++i) {
    LabelMap labels = filled<std::uint8_t>(size, 0);
    labels.geometry.direction = directions[i];
    labels.voxels.front() = labels.voxels.back() = 1;
    labels.voxels[place_of(size, 8, 2, 5)] = 3;
    ViewerReport report(brats());
    report.add_case("a", 1, labels, {});
    const ViewerPage page(report);
    const auto at = found_at(page, 3);
    const auto point = world_of(labels.geometry, {8, 2, 5});
    const auto middle = world_of(labels.geometry, {5, 4, 3});
    for (std::size_t world = 0; world < 3; ++world) {
      const double length = page.grid(0).at("size").at(world);
      EXPECT_EQ(at[world] - (length - 1) / 2, point[world] - middle[world]);
    }
  }
}

TEST(ViewerReport, KeepsSmallVolumesAsTheyAre) {
  const std::array<std::int64_t, 3> size = {23, 19, 17};
  std::mt19937 random(3);
  LabelMap labels = filled<std::uint8_t>(size, 0);
  Image image = filled<float>(size, 0);
  for (auto& label : labels.voxels) label = static_cast<std::uint8_t>(random() % 4);
  for (auto& value : image.voxels) value = static_cast<float>(random() % 256);
  image.voxels[0] = 255;
  ViewerReport report(brats());
  report.add_case("a", 1, labels, {{"t1c", &image}});
  const ViewerPage page(report);
  EXPECT_EQ(page.labels(0), labels.voxels);
  const auto values = page.values(0, 0);
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], image.voxels[i], 0.51);
}

TEST(ViewerReport, CutsToWhatIsNotEmpty) {
  const std::array<std::int64_t, 3> size = {40, 30, 20};
  LabelMap labels = filled<std::uint8_t>(size, 0);
  Image image = filled<float>(size, 0);
  image.voxels[place_of(size, 10, 11, 12)] = 5;
  labels.voxels[place_of(size, 14, 11, 13)] = 2;
  ViewerReport report(brats());
  report.add_case("a", 1, labels, {{"t1c", &image}});
  const ViewerPage page(report);
  // Two voxels around [10, 15), [11, 12), [12, 14).
  EXPECT_EQ(page.grid(0).at("size"), Json::array({9, 5, 6}));
  EXPECT_EQ(page.grid(0).at("start"), Json::array({8.0, 9.0, 10.0}));
  EXPECT_EQ(page.grid(0).at("file_size"), Json::array({40, 30, 20}));
  const auto voxels = page.labels(0);
  EXPECT_EQ(voxels[place_of({9, 5, 6}, 6, 2, 3)], 2);
}

TEST(ViewerReport, ShowsEmptyCasesWhole) {
  const LabelMap labels = filled<std::uint8_t>({6, 5, 4}, 0);
  const Image image = filled<float>({6, 5, 4}, 0);
  ViewerReport report(brats());
  report.add_case("a", 1, labels, {{"t1c", &image}});
  const ViewerPage page(report);
  EXPECT_EQ(page.grid(0).at("size"), Json::array({6, 5, 4}));
  EXPECT_THAT(page.image(0, 0), Each(0));
  EXPECT_EQ(page.data()["cases"][0]["ml"], Json::object());
}

TEST(ViewerReport, ImagesAreReducedToMeans) {
  ViewerOptions options = brats();
  options.max_voxels = 96;
  const std::array<std::int64_t, 3> size = {12, 8, 8};
  Image image = filled<float>(size, 0);
  std::mt19937 random(5);
  for (auto& value : image.voxels) value = static_cast<float>(1 + random() % 1000);
  const LabelMap labels = filled<std::uint8_t>(size, 1);
  ViewerReport report(options);
  report.add_case("a", 1, labels, {{"t1c", &image}});
  const ViewerPage page(report);
  ASSERT_EQ(page.grid(0).at("size"), Json::array({6, 4, 4}));
  const auto values = page.values(0, 0);
  const Json& channel = page.data()["cases"][0]["channels"][0];
  const double step = (channel["high"].get<double>() - channel["low"].get<double>()) / 255;
  for (std::int64_t z = 0; z < 4; ++z) {
    for (std::int64_t y = 0; y < 4; ++y) {
      for (std::int64_t x = 0; x < 6; ++x) {
        double sum = 0;
        for (std::int64_t i = 0; i < 8; ++i) {
          sum +=
              image.voxels[place_of(size, 2 * x + (i & 1), 2 * y + (i >> 1 & 1), 2 * z + (i >> 2))];
        }
        // The brightest voxels are cut at the 99.95th percentile.
        const double mean = std::min(sum / 8, channel["high"].get<double>());
        EXPECT_NEAR(values[place_of({6, 4, 4}, x, y, z)], mean, 0.51 * step);
      }
    }
  }
}

TEST(ViewerReport, VoxelsThatLieInTwoAreShared) {
  ViewerOptions options = brats();
  options.max_voxels = 2;
  Image image = filled<float>({3, 1, 1}, 0);
  image.voxels = {0, 30, 90};
  const LabelMap labels = filled<std::uint8_t>({3, 1, 1}, 1);
  ViewerReport report(options);
  report.add_case("a", 1, labels, {{"t1c", &image}});
  const ViewerPage page(report);
  // The middle one gives a third to each.
  const auto values = page.values(0, 0);
  ASSERT_EQ(values.size(), 2u);
  EXPECT_NEAR(values[0], 10, 0.2);
  EXPECT_NEAR(values[1], 70, 0.2);
  EXPECT_EQ(page.grid(0).at("spacing").at(0), 1.5);
  EXPECT_EQ(page.grid(0).at("start").at(0), 0.25);
  EXPECT_EQ(page.grid(0).at("stride").at(0), 1.5);
}

TEST(ViewerReport, ThickSlicesAreKeptBeforeFineOnesAreReduced) {
  ViewerOptions options = brats();
  options.max_voxels = 2048;
  LabelMap labels = filled<std::uint8_t>({64, 64, 8}, 1);
  labels.geometry.spacing = {0.5, 0.5, 4};
  ViewerReport report(options);
  report.add_case("a", 1, labels, {});
  EXPECT_EQ(ViewerPage(report).grid(0).at("size"), Json::array({16, 16, 8}));
}

TEST(ViewerReport, ReducedLabelsKeepTheirSize) {
  ViewerOptions options = brats();
  options.max_voxels = 1000;
  const std::array<std::int64_t, 3> size = {40, 40, 40};
  LabelMap labels = filled<std::uint8_t>(size, 0);
  for (std::int64_t z = 0; z < 40; ++z) {
    for (std::int64_t y = 0; y < 40; ++y) {
      for (std::int64_t x = 0; x < 40; ++x) {
        // Label 1 fills 7/4 of a reduced voxel beyond x = 20, then 2 follows.
        if (x >= 20) labels.voxels[place_of(size, x, y, z)] = x < 27 ? 1 : 2;
      }
    }
  }
  labels.voxels.front() = 1;
  ViewerReport report(options);
  report.add_case("a", 1, labels, {});
  const auto voxels = ViewerPage(report).labels(0);
  for (std::int64_t y = 1; y < 10; ++y) {
    const std::vector<std::uint8_t> row(voxels.begin() + (5 * 10 + y) * 10,
                                        voxels.begin() + (5 * 10 + y) * 10 + 10);
    EXPECT_EQ(row, (std::vector<std::uint8_t>{0, 0, 0, 0, 0, 1, 1, 2, 2, 2}));
  }
}

TEST(ViewerReport, LosesNoLesion) {
  ViewerOptions options = brats();
  options.max_voxels = 2912;
  const std::array<std::int64_t, 3> size = {50, 45, 40};
  std::mt19937 random(7);
  for (int round = 0; round < 10; ++round) {
    LabelMap labels = filled<std::uint8_t>(size, 0);
    // A large oedema, lesions of one voxel in it and around it, far from each other.
    for (std::int64_t z = 10; z < 30; ++z) {
      for (std::int64_t y = 10; y < 30; ++y) {
        for (std::int64_t x = 10; x < 30; ++x) labels.voxels[place_of(size, x, y, z)] = 2;
      }
    }
    std::vector<std::array<std::int64_t, 3>> lesions;
    for (std::int64_t z = 4; z < 40; z += 12) {
      for (std::int64_t y = 4; y < 42; y += 13) {
        for (std::int64_t x = 4; x < 50; x += 14) {
          const auto jitter = [&] { return static_cast<std::int64_t>(random() % 5) - 2; };
          lesions.push_back({x + jitter(), y + jitter(), z + jitter()});
          const auto& [i, j, k] = lesions.back();
          labels.voxels[place_of(size, i, j, k)] = lesions.size() % 2 == 0 ? 1 : 3;
        }
      }
    }
    labels.voxels.front() = labels.voxels.back() = 2;
    ViewerReport report(options);
    report.add_case("a", 1, labels, {});
    const ViewerPage page(report);
    const auto voxels = page.labels(0);
    const Json& grid = page.grid(0);
    std::array<std::int64_t, 3> length{};
    for (std::size_t axis = 0; axis < 3; ++axis) length[axis] = grid.at("size").at(axis);
    for (std::size_t n = 0; n < lesions.size(); ++n) {
      bool is_there = false;
      for (std::size_t i = 0; i < voxels.size(); ++i) {
        if (voxels[i] != ((n + 1) % 2 == 0 ? 1 : 3)) continue;
        const auto at = static_cast<std::int64_t>(i);
        const std::array<std::int64_t, 3> place = {at % length[0], at / length[0] % length[1],
                                                   at / (length[0] * length[1])};
        bool is_near = true;
        for (std::size_t axis = 0; axis < 3; ++axis) {
          const double stride = grid.at("stride").at(axis);
          const double middle =
              grid.at("start").at(axis).get<double>() + stride * static_cast<double>(place[axis]);
          is_near =
              is_near && std::abs(middle - static_cast<double>(lesions[n][axis])) <= 1.5 * stride;
        }
        is_there = is_there || is_near;
      }
      EXPECT_TRUE(is_there) << "lesion " << n << " of round " << round;
    }
  }
}

TEST(ViewerReport, TheRarerLabelWinsAPlaceForTwo) {
  ViewerOptions options = brats();
  options.max_voxels = 64;
  const std::array<std::int64_t, 3> size = {16, 16, 16};
  LabelMap labels = filled<std::uint8_t>(size, 0);
  labels.voxels.front() = labels.voxels.back() = 2;
  labels.voxels[place_of(size, 8, 8, 8)] = 2;
  labels.voxels[place_of(size, 9, 8, 8)] = 3;
  ViewerReport report(options);
  report.add_case("a", 1, labels, {});
  const auto at = found_at(ViewerPage(report), 3);
  EXPECT_EQ(at, (std::array<double, 3>{2, 2, 2}));
}

TEST(ViewerReport, CountsVolumesInTheFullMap) {
  ViewerOptions options = brats();
  options.max_voxels = 27;
  LabelMap labels = filled<std::uint8_t>({10, 10, 10}, 0);
  labels.geometry.spacing = {1, 2, 5};  // 0.01 mL a voxel
  for (std::size_t i = 0; i < 100; ++i) labels.voxels[i] = 1;
  for (std::size_t i = 100; i < 120; ++i) labels.voxels[i] = 2;
  labels.voxels[500] = 3;
  labels.voxels[501] = 7;
  ViewerReport report(options);
  report.add_case("a", 12.34, labels, {});
  const ViewerPage page(report);
  const Json& ml = page.data()["cases"][0]["ml"];
  EXPECT_DOUBLE_EQ(ml["1"], 1.0);
  EXPECT_DOUBLE_EQ(ml["2"], 0.2);
  EXPECT_DOUBLE_EQ(ml["3"], 0.01);
  EXPECT_DOUBLE_EQ(ml["7"], 0.01);
  EXPECT_THAT(page.html(),
              HasSubstr("<tr data-case=\"0\"><td>a</td><td>ok</td><td class=\"number\">12.3</td>"
                        "<td class=\"number\">1.21</td><td class=\"number\">1.01</td>"
                        "<td class=\"number\">0.01</td></tr>"));
  // Named or not, it is in the list, with its colour.
  EXPECT_EQ(page.data()["labels"].size(), 4u);
  EXPECT_EQ(page.data()["labels"][3]["name"], "label 7");
  EXPECT_EQ(page.data()["labels"][0]["colour"], "rgb(230,60,50)");
  EXPECT_EQ(page.data()["regions"][2]["colour"], page.data()["labels"][2]["colour"]);
}

TEST(ViewerReport, LabelsAreTheColumnsWithoutRegions) {
  ViewerOptions options;
  options.labels = {{4, "liver"}};
  ViewerReport report(options);
  LabelMap labels = filled<std::uint8_t>({10, 10, 10}, 4);
  report.add_case("a", 1, labels, {});
  EXPECT_THAT(ViewerPage(report).html(), AllOf(HasSubstr("class=\"number\">liver, mL</th>"),
                                               HasSubstr("<td class=\"number\">1.00</td></tr>")));
}

TEST(ViewerReport, FirstWindowIsThatOfThePictures) {
  Image image = filled<float>({20, 20, 20}, 0);
  for (std::size_t i = 0; i < 4000; ++i) image.voxels[i] = static_cast<float>(i % 1000);
  const LabelMap labels = filled<std::uint8_t>({20, 20, 20}, 1);
  ViewerReport report(brats());
  report.add_case("a", 1, labels, {{"t1c", &image}});
  const Json channel = ViewerPage(report).data()["cases"][0]["channels"][0];
  EXPECT_EQ(channel["low"], 0);
  EXPECT_NEAR(channel["high"].get<double>(), 999, 1);
  EXPECT_EQ(channel["window"][0], 0);
  EXPECT_NEAR(channel["window"][1].get<double>(), 0.995 * 255, 1);
}

TEST(ViewerReport, CtOpensInTheWindowOfSoftTissue) {
  Image image = filled<float>({20, 20, 20}, -1000);
  for (std::size_t i = 0; i < 4000; ++i) image.voxels[i] = static_cast<float>(i % 1000);
  for (std::size_t i = 7000; i < 8000; ++i) image.voxels[i] = -3024;  // outside of the circle
  ViewerReport report(brats());
  report.add_case("a", 1, filled<std::uint8_t>({20, 20, 20}, 1), {{"CT", &image}});
  const Json channel = ViewerPage(report).data()["cases"][0]["channels"][0];
  EXPECT_EQ(channel["low"], -1024);
  const double low = channel["low"], step = (channel["high"].get<double>() - low) / 255;
  EXPECT_NEAR(low + step * channel["window"][0].get<double>(), -160, step);
  EXPECT_NEAR(low + step * channel["window"][1].get<double>(), 240, step);
}

TEST(ViewerReport, EscapesEverything) {
  const std::string nasty = "</script><script>alert(1)</script>\"'&<b>\xc3\xbc\xe8\x84\xb3";
  ViewerOptions options = brats();
  options.title = options.description = nasty;
  options.labels[0].name = options.regions[0].name = nasty;
  ViewerReport report(options);
  const Image image = filled<float>({4, 4, 4}, 1);
  report.add_case(nasty, 1, filled<std::uint8_t>({4, 4, 4}, 1), {{nasty, &image}});
  report.add_failure(nasty, 1, nasty);
  const ViewerPage page(report);
  EXPECT_THAT(page.html(), AllOf(Not(HasSubstr("alert(1)</script>")), Not(HasSubstr("<b>"))));
  EXPECT_EQ(page.data()["cases"][0]["name"], nasty);
  EXPECT_EQ(page.data()["cases"][0]["channels"][0]["name"], nasty);
  EXPECT_EQ(page.data()["cases"][1]["error"], nasty);
  EXPECT_EQ(page.data()["labels"][0]["name"], nasty);
  EXPECT_EQ(page.data()["regions"][0]["name"], nasty);
}

TEST(ViewerReport, KeepsFailedCasesAndSaysHowFarTheRunIs) {
  ViewerOptions options = brats();
  options.expected_cases = 4;
  ViewerReport report(options);
  EXPECT_THAT(ViewerPage(report).html(),
              HasSubstr("<p>0 cases segmented; 4 to come; 0:00 of work"));
  report.add_case("a", 60, filled<std::uint8_t>({4, 4, 4}, 1), {});
  report.add_failure("b", 5, "t1c.nii.gz: truncated");
  report.add_case("c", std::nan(""), filled<std::uint8_t>({4, 4, 4}, 1), {}, "kept; <no> image");
  const ViewerPage page(report);
  EXPECT_THAT(page.html(), HasSubstr("<p>2 cases segmented, 1 failed; 1 to come; 1:05 of work"));
  EXPECT_THAT(page.html(),
              HasSubstr("<td>c</td><td>kept; &lt;no&gt; image</td><td class=\"number\"></td>"));
  EXPECT_THAT(page.html(), HasSubstr("<tr data-case=\"1\" class=\"failed\"><td>b</td>"
                                     "<td class=\"error\">t1c.nii.gz: truncated</td>"
                                     "<td class=\"number\">5.0</td><td class=\"number\"></td>"));
  EXPECT_EQ(page.data()["cases"][1], (Json{{"name", "b"}, {"error", "t1c.nii.gz: truncated"}}));
}

// Noise, which no packing makes small.
Image noise(std::array<std::int64_t, 3> size, unsigned seed) {
  Image image = filled<float>(size, 0);
  std::mt19937 random(seed);
  for (auto& value : image.voxels) value = static_cast<float>(1 + random() % 256);
  return image;
}

TEST(ViewerReport, SharesTheBytesAmongTheCases) {
  const std::array<std::int64_t, 3> size = {80, 80, 80};
  const Image image = noise(size, 1);
  const LabelMap labels = filled<std::uint8_t>(size, 2);
  const auto sizes_of = [&](std::int64_t cases, std::uint64_t bytes) {
    ViewerOptions options = brats();
    options.expected_cases = cases;
    options.max_bytes = bytes;
    ViewerReport report(options);
    for (std::int64_t i = 0; i < cases; ++i) {
      report.add_case(concat("case ", i), 1, labels, {{"t1c", &image}});
    }
    const ViewerPage page(report);
    EXPECT_LE(page.html().size(), bytes);
    EXPECT_EQ(page.data()["cases"].size(), static_cast<std::size_t>(cases));
    std::vector<std::int64_t> sizes;  // 0 where a case has no pictures
    for (const Json& item : page.data()["cases"]) {
      sizes.push_back(item.contains("grid") ? item["grid"]["size"][0].get<std::int64_t>() : 0);
    }
    const auto left_out = std::count(sizes.begin(), sizes.end(), 0);
    EXPECT_EQ(page.html().find("no pictures here") != std::string::npos, left_out > 0);
    return sizes;
  };
  // 512,000 voxels take 683 kB.
  EXPECT_THAT(sizes_of(3, 3'000'000), Each(80));
  const auto coarse = sizes_of(4, 2'000'000);
  EXPECT_THAT(coarse, Each(AllOf(::testing::Ge(66), ::testing::Le(76))));
  // Cases of 64 voxels an axis take 350 kB: some fit, and then no more.
  const auto few = sizes_of(6, 1'200'000);
  EXPECT_EQ(few, (std::vector<std::int64_t>{64, 64, 64, 0, 0, 0}));
}

TEST(ViewerReport, LeavesOutTheLastChannelsBeforeVoxelsAreFew) {
  const std::array<std::int64_t, 3> size = {160, 40, 40};
  const std::vector<Image> images = {noise(size, 1), noise(size, 2), noise(size, 3),
                                     noise(size, 4)};
  const LabelMap labels = filled<std::uint8_t>(size, 2);
  const auto empty_page = ViewerPage(ViewerReport(brats())).html().size();
  const auto shown = [&](std::uint64_t room) {
    ViewerOptions options = brats();
    options.max_bytes = empty_page + room;
    ViewerReport report(options);
    report.add_case(
        "a", 1, labels,
        {{"t1c", &images[0]}, {"t2f", &images[1]}, {"t1n", &images[2]}, {"t2w", &images[3]}});
    const ViewerPage page(report);
    EXPECT_LE(page.html().size(), options.max_bytes);
    const Json& item = page.data()["cases"][0];
    const std::size_t channels = item.contains("channels") ? item["channels"].size() : 0;
    EXPECT_EQ(page.html().find("1 case is shown without some channels") != std::string::npos,
              channels > 0 && channels < 4);
    if (channels == 0) return std::pair(channels, std::int64_t{0});
    EXPECT_EQ(item["channels"][0]["name"], "t1c");
    return std::pair(channels, item["grid"]["size"][0].get<std::int64_t>());
  };
  // A channel takes 343 kB, 175 kB where it has 128 voxels along the longest axis, 22 kB of 64.
  EXPECT_EQ(shown(1'450'000), std::pair(std::size_t{4}, std::int64_t{160}));
  const auto [all, fewer_voxels] = shown(850'000);
  EXPECT_EQ(all, 4u);
  EXPECT_GE(fewer_voxels, 128);
  EXPECT_LT(fewer_voxels, 150);
  const auto [three, enough_voxels] = shown(620'000);
  EXPECT_EQ(three, 3u);
  EXPECT_GE(enough_voxels, 128);
  const auto [two, few_voxels] = shown(120'000);
  EXPECT_EQ(two, 2u);
  EXPECT_GE(few_voxels, 64);
  EXPECT_LT(few_voxels, 128);
  const auto [one, fewest_voxels] = shown(28'000);
  EXPECT_EQ(one, 1u);
  EXPECT_GE(fewest_voxels, 64);
  EXPECT_EQ(shown(15'000).first, 0u);
}

TEST(ViewerReport, MoreCasesThanExpectedStayWithinTheBytes) {
  ViewerOptions options = brats();
  options.max_bytes = 800'000;
  ViewerReport report(options);
  const Image image = noise({64, 64, 64}, 2);
  const LabelMap labels = filled<std::uint8_t>({64, 64, 64}, 2);
  for (int i = 0; i < 5; ++i) report.add_case("a", 1, labels, {{"t1c", &image}});
  EXPECT_LE(ViewerPage(report).html().size(), options.max_bytes);
}

TEST(ViewerReport, WritesThePageWhole) {
  const test::TemporaryFolder folder;
  ViewerReport report(brats());
  report.add_case("a", 1, filled<std::uint8_t>({4, 4, 4}, 1), {});
  report.write(folder.path() / "report.html");
  EXPECT_EQ(read_file(folder.path() / "report.html"), ViewerPage(report).html());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  EXPECT_THROW(report.write(folder.path() / "missing" / "report.html"), Error);
}

TEST(ViewerReport, RefusesWhatItCannotShow) {
  ViewerReport report(brats());
  const Image image = filled<float>({4, 4, 5}, 1);
  EXPECT_THAT(test::error_of([&] {
                report.add_case("case 7", 1, filled<std::uint8_t>({4, 4, 4}, 1), {{"t1c", &image}});
              }),
              HasSubstr("case 7: channel t1c has 4x4x5 voxels, the labels 4x4x4"));
  ViewerOptions twice = brats();
  twice.labels.push_back({2, "again"});
  EXPECT_THAT(test::error_of([&] { ViewerReport{twice}; }),
              HasSubstr("label 2 (again) is there twice"));
  ViewerOptions background = brats();
  background.labels.push_back({0, "air"});
  EXPECT_THAT(test::error_of([&] { ViewerReport{background}; }),
              HasSubstr("label 0 (air) is background"));
  ViewerOptions none = brats();
  none.expected_cases = 0;
  EXPECT_THROW(ViewerReport{none}, Error);
}

}  // namespace
}  // namespace segmamba::io
