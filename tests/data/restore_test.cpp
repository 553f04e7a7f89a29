#include "segmamba/data/restore.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "segmamba/core/random.h"
#include "segmamba/data/preprocess.h"
#include "support/error_of.h"
#include "support/orientations.h"

namespace segmamba::data {
namespace {

using ::testing::HasSubstr;

// A case on an oblique grid towards LPS: two channels that are 0 in some outer layers, another
// number of them on each side, and labels inside.
RawCase upright_case() {
  RawCase raw;
  raw.name = "case";
  raw.geometry = test::oblique_grid();
  raw.geometry.size = {8, 9, 7};
  raw.classes = 4;
  raw.channels.resize(2);
  Random random(11);
  for (int z = 0; z < 7; ++z) {
    for (int y = 0; y < 9; ++y) {
      for (int x = 0; x < 8; ++x) {
        const bool inside = x >= 1 && x < 6 && y >= 3 && y < 9 && z >= 2 && z < 6;
        for (auto& channel : raw.channels) {
          channel.push_back(inside ? static_cast<float>(random.uniform(1, 2)) : 0);
        }
        raw.labels.push_back(inside ? static_cast<std::uint8_t>(random.integer(4)) : 0);
      }
    }
  }
  return raw;
}

template <class T>
std::vector<T> turned(const std::vector<T>& voxels, const std::array<std::int64_t, 3>& size,
                      const io::AxisMap& axes) {
  std::vector<T> result;
  std::array<std::int64_t, 3> from{};
  for (std::int64_t z = 0; z < size[axes.axis[2]]; ++z) {
    for (std::int64_t y = 0; y < size[axes.axis[1]]; ++y) {
      for (std::int64_t x = 0; x < size[axes.axis[0]]; ++x) {
        const std::array<std::int64_t, 3> to = {x, y, z};
        for (std::size_t j = 0; j < 3; ++j) {
          const auto axis = axes.axis[j];
          from[axis] = axes.reversed[j] ? size[axis] - 1 - to[j] : to[j];
        }
        result.push_back(
            voxels[static_cast<std::size_t>((from[2] * size[1] + from[1]) * size[0] + from[0])]);
      }
    }
  }
  return result;
}

// The same patient in a file whose axes run towards `letters`.
RawCase case_towards(const std::string& letters) {
  RawCase raw = upright_case();
  const auto axes = io::axes_towards(raw.geometry, letters);
  const auto size = raw.geometry.size;
  for (auto& channel : raw.channels) channel = turned(channel, size, axes);
  raw.labels = turned(raw.labels, size, axes);
  raw.geometry = io::reoriented(raw.geometry, axes);
  return raw;
}

void expect_same_voxels(const PreparedCase& a, const PreparedCase& b) {
  EXPECT_EQ(a.crop_begin, b.crop_begin);
  EXPECT_EQ(a.crop_size, b.crop_size);
  EXPECT_EQ(a.spacing, b.spacing);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.class_counts, b.class_counts);
  EXPECT_EQ(a.outside, b.outside);
  EXPECT_TRUE(std::equal(a.image.begin(), a.image.end(), b.image.begin(), b.image.end(),
                         [](Half x, Half y) { return x.bits == y.bits; }));
  EXPECT_TRUE(std::equal(a.labels.begin(), a.labels.end(), b.labels.begin(), b.labels.end()));
}

// The whole crop in the grid of the files.
template <class T>
std::vector<T> restored(const PreparedCase& item, std::span<const T> values, T outside = {}) {
  std::vector<T> full(static_cast<std::size_t>(item.geometry.voxel_count()), outside);
  restore_slices<T>(item, 0, values, full);
  return full;
}

std::vector<PreprocessConfig> configs() {
  PreprocessConfig cropped, whole, turned_otherwise, resampled;
  whole.crop_to_nonzero = false;
  whole.normalise = "crop";
  turned_otherwise.orientation = "SRA";
  resampled.spacing = {1, 1, 1};
  resampled.thick_slices = 2;
  return {cropped, whole, turned_otherwise, resampled};
}

TEST(Orientation, AFileInAnyOfThemIsPreparedToTheSameVoxels) {
  for (const auto& config : configs()) {
    const auto expected = prepare_case(upright_case(), config);
    for (const auto& letters : test::orientations()) {
      SCOPED_TRACE(letters);
      const auto item = prepare_case(case_towards(letters), config);
      expect_same_voxels(item, expected);
      EXPECT_EQ(item.geometry.size, case_towards(letters).geometry.size);
    }
  }
  EXPECT_EQ(prepare_case(upright_case(), {}).crop_begin, (Index3{2, 3, 1}));
  EXPECT_EQ(prepare_case(upright_case(), {}).crop_size, (Index3{4, 6, 5}));
}

TEST(Orientation, EmptyKeepsThatOfTheFile) {
  PreprocessConfig config;
  config.orientation = "";
  const auto item = prepare_case(case_towards("SRA"), config);
  EXPECT_EQ(item.axes, io::AxisMap{});
  // x, y, z of the file are S, R, A.
  EXPECT_EQ(item.crop_size, (Index3{6, 5, 4}));
  EXPECT_EQ(item.crop_begin, (Index3{0, 2, 2}));
  config.orientation = "SRX";
  EXPECT_THAT(test::error_of([&] { prepare_case(upright_case(), config); }),
              HasSubstr("preprocess.orientation: there is no orientation 'SRX'"));
}

TEST(Restore, BringsLabelsBackIntoTheFile) {
  for (const auto& config : configs()) {
    if (!config.spacing.empty()) continue;
    for (const auto& letters : test::orientations()) {
      const auto raw = case_towards(letters);
      const auto item = prepare_case(raw, config);
      EXPECT_EQ(restored<std::uint8_t>(item, item.labels), raw.labels) << letters;
    }
  }
}

TEST(Restore, BringsMapsBackSliceBySliceAndLeavesTheRestAlone) {
  PreprocessConfig config;
  config.normalise = "statistics";
  config.means = {0, 0};
  config.deviations = {1, 1};
  for (const auto& letters : {"LPS", "RAS", "AIR", "SPL"}) {
    const auto raw = case_towards(letters);
    const auto item = prepare_case(raw, config);
    std::vector<Half> values;
    for (std::size_t i = 0; i < item.image.size(); i += 2) values.push_back(item.image[i]);
    const Half outside = to_half(-3);
    const auto whole = restored<Half>(item, values, outside);
    ASSERT_EQ(whole.size(), raw.channels[0].size());
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const float value = raw.channels[0][i];
      ASSERT_EQ(whole[i].bits, (value == 0 ? outside : to_half(value)).bits) << letters << i;
    }
    std::vector<Half> all(whole.size(), outside);
    const std::span<const Half> slices = values;
    const std::size_t cut = 3 * 6 * 5;  // of four slices
    restore_slices<Half>(item, 3, slices.subspan(cut), all);
    const auto is_outside = [&](Half value) { return value.bits == outside.bits; };
    EXPECT_EQ(std::count_if(all.begin(), all.end(), is_outside), std::ssize(all) - 6 * 5);
    restore_slices<Half>(item, 0, slices.first(cut), all);
    for (std::size_t i = 0; i < whole.size(); ++i) ASSERT_EQ(all[i].bits, whole[i].bits);
  }
}

TEST(Restore, RefusesWhatDoesNotFit) {
  const auto item = prepare_case(upright_case(), {});
  std::vector<std::uint8_t> labels(4 * 6 * 5), full(8 * 9 * 7);
  const std::span<const std::uint8_t> all = labels;
  for (const auto& [first, slices, target] : {std::tuple{std::int64_t{1}, all, std::span(full)},
                                              {std::int64_t{-1}, all.first(30), std::span(full)},
                                              {std::int64_t{0}, all.first(31), std::span(full)},
                                              {std::int64_t{0}, all, std::span(full).first(500)}}) {
    EXPECT_THAT(test::error_of([&] { restore_slices<std::uint8_t>(item, first, slices, target); }),
                HasSubstr("do not fit its crop of 4x6x5"));
  }
}

}  // namespace
}  // namespace segmamba::data
