#include "segmamba/io/maps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "nifti_bytes.h"
#include "segmamba/core/error.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
using test::NiftiBytes;
using ::testing::HasSubstr;

class MapsTest : public ::testing::Test {
 protected:
  fs::path file(const std::string& name) const { return folder_.path() / name; }
  // The grid of a file with spacing, units and codes of its own.
  Geometry grid() const {
    NiftiBytes bytes({3, 4, 5});
    bytes.put<float>(84, 1.25f);
    bytes.put<float>(92, 2.5f);  // time
    bytes.put<std::int16_t>(254, 4);
    bytes.bytes()[123] = 2 + 8;
    bytes.write(file("input.nii"));
    return read_geometry(file("input.nii"));
  }
  template <class Write>
  std::string error_of(const Write& write) const {
    try {
      write();
    } catch (const Error& error) {
      EXPECT_FALSE(fs::exists(file("bad.nii.gz")));
      return error.what();
    }
    return "";
  }

  test::TemporaryFolder folder_;
};

std::vector<Half> halves(std::size_t count, float (*value)(std::size_t)) {
  std::vector<Half> map(count);
  for (std::size_t i = 0; i < count; ++i) map[i] = to_half(value(i));
  return map;
}

TEST_F(MapsTest, ProbabilitiesAreVolumesOfOneFile) {
  const Geometry geometry = grid();
  const std::vector<std::vector<Half>> maps = {
      halves(60, [](std::size_t i) { return static_cast<float>(i) / 59; }),
      halves(60, [](std::size_t i) { return i % 2 == 0 ? 1.0f : 0.0f; }),
      halves(60, [](std::size_t i) { return 1.0f / static_cast<float>(1 + i); })};
  for (const char* name : {"out.nii", "out.nii.gz"}) {
    write_probabilities(file(name), geometry, {"background", "\"core\"", "ET"}, maps);
    const auto read = read_images(file(name));
    ASSERT_EQ(read.size(), 3U);
    for (std::size_t map = 0; map < 3; ++map) {
      EXPECT_EQ(geometry_difference(read[map].geometry, geometry, 0), "");
      for (std::size_t i = 0; i < 60; ++i) {
        EXPECT_NEAR(read[map].voxels[i], to_float(maps[map][i]), 0.501 / 65535) << map << ' ' << i;
      }
    }
    const NiftiBytes bytes(file(name)), input(file("input.nii"));
    EXPECT_EQ(bytes.get<std::int16_t>(40), 4);
    EXPECT_EQ(bytes.get<std::int16_t>(48), 3);
    EXPECT_EQ(bytes.get<std::int16_t>(70), 512);
    EXPECT_EQ(bytes.get<float>(112), static_cast<float>(1.0 / 65535));
    EXPECT_EQ(bytes.get<float>(116), 0);
    EXPECT_EQ(bytes.bytes().substr(76, 16), input.bytes().substr(76, 16));
    EXPECT_EQ(bytes.get<float>(92), 1) << "the fourth axis is no longer time";
    EXPECT_EQ(bytes.bytes()[123], 2);
    EXPECT_EQ(bytes.bytes().substr(252, 76), input.bytes().substr(252, 76));
    EXPECT_THAT(bytes.bytes().substr(148, 80), HasSubstr(": probabilities"));
    const std::string text = R"({"volumes":["background","\"core\"","ET"]})";
    EXPECT_EQ(bytes.get<std::int32_t>(356), 6);
    EXPECT_EQ(bytes.bytes().substr(360, text.size()), text);
  }
}

// Blocks of a file end in the middle of maps.
TEST_F(MapsTest, MapsOfManyBlocksAreAskedForByVoxel) {
  Geometry geometry;
  geometry.size = {101, 97, 83};
  const auto value = [&](std::size_t map, std::int64_t voxel) {
    return static_cast<float>((voxel * 31 + static_cast<std::int64_t>(map) * 17) % 1009) / 1008;
  };
  write_probabilities(file("out.nii.gz"), geometry, {"a", "b", "c"},
                      [&](std::size_t map, std::int64_t first, std::span<float> values) {
                        for (float& v : values) v = value(map, first++);
                      });
  const auto read = read_images(file("out.nii.gz"));
  ASSERT_EQ(read.size(), 3U);
  for (std::size_t map = 0; map < 3; ++map) {
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < geometry.voxel_count(); ++i) {
      wrong += std::abs(read[map].voxels[static_cast<std::size_t>(i)] - value(map, i)) > 8e-6;
    }
    EXPECT_EQ(wrong, 0);
  }
}

TEST_F(MapsTest, RoundsOverAndRefusesWhatIsNoProbability) {
  const Geometry geometry = grid();
  std::vector<std::vector<Half>> maps(2, std::vector<Half>(60));
  maps[1][7] = to_half(1.0009765625f);
  maps[1][8] = to_half(-0.0005f);
  write_probabilities(file("out.nii.gz"), geometry, {"a", "b"}, maps);
  const Image read = read_image(file("out.nii.gz"), 1);
  EXPECT_FLOAT_EQ(read.voxels[7], 1);
  EXPECT_EQ(read.voxels[8], 0);
  const auto error = [&] {
    return error_of([&] { write_probabilities(file("bad.nii.gz"), geometry, {"a", "ET"}, maps); });
  };
  for (const float bad : {1.1f, -0.01f, std::nanf(""), INFINITY}) {
    maps[1][7] = to_half(bad);
    EXPECT_THAT(error(), HasSubstr("bad.nii.gz: the map of ET holds values that are no"));
  }
  maps[1].pop_back();
  EXPECT_THAT(error(), HasSubstr("the map of ET has 59 voxels, its grid 3x4x5"));
  maps.pop_back();
  EXPECT_THAT(error(), HasSubstr("1 maps, but 2 names"));
  EXPECT_THAT(error_of([&] { write_probabilities(file("bad.nii.gz"), geometry, {}, MapValues()); }),
              HasSubstr("0 maps"));
}

TEST_F(MapsTest, AMapIsFloatsInTheGridOfTheInput) {
  const Geometry geometry = grid();
  const auto map = halves(60, [](std::size_t i) { return 0.1f * static_cast<float>(i) - 2; });
  write_map(file("entropy.nii.gz"), geometry, "entropy", map);
  const Image read = read_image(file("entropy.nii.gz"));
  EXPECT_EQ(geometry_difference(read.geometry, geometry, 0), "");
  for (std::size_t i = 0; i < 60; ++i) EXPECT_EQ(read.voxels[i], to_float(map[i]));
  const NiftiBytes bytes(file("entropy.nii.gz"));
  EXPECT_EQ(bytes.get<std::int16_t>(40), 3);
  EXPECT_EQ(bytes.get<std::int16_t>(70), 16);
  EXPECT_EQ(bytes.get<float>(108), 352);
  EXPECT_THAT(bytes.bytes().substr(148, 80), HasSubstr(": entropy"));

  auto bad = map;
  bad[59] = to_half(INFINITY);
  const auto error = [&] {
    return error_of([&] { write_map(file("bad.nii.gz"), geometry, "entropy", bad); });
  };
  EXPECT_THAT(error(), HasSubstr("the map of entropy holds values that are not finite"));
  bad[59] = to_half(std::nanf(""));
  EXPECT_THAT(error(), HasSubstr("not finite"));
  bad.pop_back();
  EXPECT_THAT(error(), HasSubstr("has 59 voxels"));
}

}  // namespace
}  // namespace segmamba::io
