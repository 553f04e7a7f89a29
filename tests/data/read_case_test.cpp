#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "case_files.h"
#include "segmamba/core/log.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/io/orientation.h"
#include "segmamba/io/resample.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

using test::case_file;
using test::error_of;
using ::testing::HasSubstr;

constexpr const char* kName = "BraTS-GLI-00001-000";

// A case whose t1c is in a grid of its own.
class ReadCaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kError);
    test::write_case(folder_.path(), kName);
    whole_ = read();
  }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  std::filesystem::path file(const std::string& channel) const {
    return case_file(folder_.path(), kName, channel);
  }
  // The same voxels at the same places, with the axes in another order.
  io::Geometry turn(const std::string& channel, const std::string& orientation) const {
    const auto image = io::read_image(file(channel));
    const auto axes = io::axes_towards(image.geometry, orientation);
    io::write_image(file(channel), io::resample_into(io::reoriented(image.geometry, axes), image));
    return io::read_geometry(file(channel));
  }
  RawCase read(const std::string& resample_to = "") const {
    DatasetConfig config;
    config.root = folder_.path().string();
    const auto set = open_dataset(config, Labels::kRequired);
    return read_case(set, set.cases.at(0), {resample_to});
  }

  test::TemporaryFolder folder_;
  RawCase whole_;  // as it was before
};

TEST_F(ReadCaseTest, BringsChannelsAndLabelsIntoTheGridOfOne) {
  EXPECT_EQ(read("t2w").channels, whole_.channels);  // nothing to do
  const auto geometry = turn("t1c", "SAR");
  EXPECT_THAT(error_of([&] { read(); }),
              HasSubstr("case BraTS-GLI-00001-000: BraTS-GLI-00001-000-t1n.nii.gz and "
                        "BraTS-GLI-00001-000-t1c.nii.gz do not share a grid: size (6, 5, 4) and "
                        "(4, 5, 6) (segmamba-infer --resample-to CHANNEL"));
  // Into the grid that the others share.
  auto raw = read("T2-FLAIR");
  EXPECT_EQ(raw.channels, whole_.channels);
  EXPECT_EQ(raw.labels, whole_.labels);
  EXPECT_EQ(raw.geometry.size, test::kCaseSize);
  // Into that of the odd one out, with its header.
  raw = read("T1ce");
  EXPECT_EQ(io::geometry_difference(raw.geometry, geometry, 0), "");
  EXPECT_NE(raw.geometry.header, nullptr);
  EXPECT_NE(raw.channels, whole_.channels);
  const auto expected = prepare_case(whole_, {}), item = prepare_case(raw, {});
  EXPECT_TRUE(std::equal(item.image.begin(), item.image.end(), expected.image.begin(),
                         expected.image.end(), [](Half a, Half b) { return a.bits == b.bits; }));
  EXPECT_TRUE(std::equal(item.labels.begin(), item.labels.end(), expected.labels.begin(),
                         expected.labels.end()));
}

// Voxels of 0.75 mm, necrosis and enhancing tumour by turns: between them lies no oedema.
TEST_F(ReadCaseTest, LabelsAreNeverMixed) {
  io::LabelMap labels{test::case_geometry(), {}};
  labels.geometry.spacing = {0.75, 0.75, 0.75};
  labels.geometry.size = {8, 7, 5};
  const auto label_at = [](std::int64_t x, std::int64_t y, std::int64_t z) {
    return static_cast<std::uint8_t>((x + y + z) % 2 == 0 ? kNecrosis : kEnhancing);
  };
  for (std::int64_t z = 0; z < 5; ++z) {
    for (std::int64_t y = 0; y < 7; ++y) {
      for (std::int64_t x = 0; x < 8; ++x) labels.voxels.push_back(label_at(x, y, z));
    }
  }
  io::write_labels(file("seg"), labels);
  const auto raw = read("t1n");
  const auto nearest = [](std::int64_t mm) { return std::llround(static_cast<double>(mm) / 0.75); };
  std::size_t i = 0;
  for (std::int64_t z = 0; z < 4; ++z) {
    for (std::int64_t y = 0; y < 5; ++y) {
      for (std::int64_t x = 0; x < 6; ++x, ++i) {
        ASSERT_EQ(raw.labels[i], label_at(nearest(x), nearest(y), nearest(z))) << i;
      }
    }
  }
}

TEST_F(ReadCaseTest, SaysWhatCannotBe) {
  EXPECT_THAT(error_of([&] { read("CT"); }),
              HasSubstr("cannot resample to 'CT', which is no channel; there are t1n, t1c, t2w, "
                        "t2f"));
  auto image = test::case_image(1);
  image.geometry.origin = {500, 0, 0};
  io::write_image(file("t2f"), image);
  EXPECT_THAT(error_of([&] { read("t1n"); }),
              HasSubstr("case BraTS-GLI-00001-000: BraTS-GLI-00001-000-t1n.nii.gz and "
                        "BraTS-GLI-00001-000-t2f.nii.gz: the grids do not overlap"));
  std::filesystem::remove(file("t2f"));
  DatasetConfig config;
  config.root = folder_.path().string();
  const auto survey = survey_dataset(config, Labels::kOptional);
  EXPECT_THAT(error_of([&] { read_case(survey.dataset, survey.dataset.cases.at(0)); }),
              HasSubstr("case BraTS-GLI-00001-000: has no file for t2f"));
}

}  // namespace
}  // namespace segmamba::data
