#include "segmamba/data/cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "case_files.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using test::case_file;
using test::write_case;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kName = "BraTS-GLI-00001-000";

class CasesTest : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  const fs::path& root() const { return folder_.path(); }
  Case only_case(bool need_labels = true) const {
    const auto cases = find_cases(root(), kBratsChannels, need_labels);
    EXPECT_EQ(cases.size(), 1);
    return cases.front();
  }
  template <class Call>
  static std::string error_of(Call call) {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  test::TemporaryFolder folder_;
};

TEST(PatientTest, IsTheNameWithoutTheVisit) {
  EXPECT_EQ(patient_of("BraTS-GLI-00001-000"), "BraTS-GLI-00001");
  EXPECT_EQ(patient_of("BraTS-GLI-00001-001"), "BraTS-GLI-00001");
  EXPECT_EQ(patient_of("BraTS2021_00001"), "BraTS2021_00001");
  EXPECT_EQ(patient_of("case-001"), "case-001");
  EXPECT_EQ(patient_of("a-1-b"), "a-1-b");
}

TEST_F(CasesTest, FindsCasesSortedAndChannelsInOrder) {
  write_case(root(), "BraTS-GLI-00002-000");
  write_case(root(), kName);
  fs::create_directories(root() / "notes");
  const auto cases = find_cases(root(), {"t2f", "t1n"}, true);
  ASSERT_EQ(cases.size(), 2);
  EXPECT_EQ(cases[0].name, kName);
  EXPECT_EQ(cases[0].patient, "BraTS-GLI-00001");
  EXPECT_EQ(cases[1].name, "BraTS-GLI-00002-000");
  const auto name_of = [](const fs::path& path) { return path.filename().string(); };
  EXPECT_EQ(name_of(cases[0].images.at(0)), "BraTS-GLI-00001-000-t2f.nii.gz");
  EXPECT_EQ(name_of(cases[0].images.at(1)), "BraTS-GLI-00001-000-t1n.nii.gz");
  EXPECT_EQ(name_of(cases[0].labels), "BraTS-GLI-00001-000-seg.nii.gz");
  // A case by itself.
  EXPECT_EQ(find_cases(root() / kName / ".", kBratsChannels, true).front().name, kName);
}

TEST_F(CasesTest, FindsTheNamesOfOlderReleases) {
  const fs::path folder = root() / "BraTS2021_00001";
  fs::create_directories(folder);
  for (const char* channel : {"t1", "t1ce", "t2", "flair", "seg"}) {
    io::write_labels(folder / (std::string("BraTS2021_00001_") + channel + ".nii.gz"),
                     test::case_labels());
  }
  std::vector<std::string> names;
  for (const auto& path : only_case().images) names.push_back(path.filename().string());
  EXPECT_THAT(names, ElementsAre("BraTS2021_00001_t1.nii.gz", "BraTS2021_00001_t1ce.nii.gz",
                                 "BraTS2021_00001_t2.nii.gz", "BraTS2021_00001_flair.nii.gz"));
}

TEST_F(CasesTest, SaysWhatIsMissing) {
  EXPECT_THAT(error_of([&] { only_case(); }), HasSubstr("no cases"));
  EXPECT_THAT(error_of([&] { find_cases(root() / "absent", {}, false); }), HasSubstr("absent"));
  write_case(root(), kName);
  fs::remove(case_file(root(), kName, "seg"));
  EXPECT_THAT(error_of([&] { only_case(); }), HasSubstr("BraTS-GLI-00001-000-seg.nii.gz"));
  EXPECT_TRUE(only_case(false).labels.empty());
  fs::remove(case_file(root(), kName, "t1c"));
  EXPECT_THAT(error_of([&] { only_case(false); }), HasSubstr("BraTS-GLI-00001-000-t1c.nii.gz"));
}

TEST_F(CasesTest, LoadsTheBoxOfNonZeroVoxelsNormalised) {
  write_case(root(), kName);
  const CaseData data = load_case(only_case());
  EXPECT_EQ(data.name, kName);
  EXPECT_EQ(data.channels, 4);
  EXPECT_EQ(data.size, (std::array<std::int64_t, 3>{2, 3, 4}));    // D, H, W
  EXPECT_EQ(data.offset, (std::array<std::int64_t, 3>{1, 1, 1}));  // D, H, W
  EXPECT_EQ(data.geometry.size, test::kCaseSize);                  // x, y, z
  // 1..24 times a scale has mean 12.5 and variance (24^2 - 1) / 12 times its square.
  const double deviation = std::sqrt(575.0 / 12);
  ASSERT_EQ(data.image.size(), 4 * 24);
  for (std::size_t i = 0; i < data.image.size(); ++i) {
    const double rank = static_cast<double>(i % 24) + 1;
    EXPECT_NEAR(data.image[i], (rank - 12.5) / deviation, 1e-6) << i;
  }
  std::vector<std::uint8_t> labels(24, 0);
  labels[0] = 1;
  labels[1] = 2;
  labels[23] = 3;
  EXPECT_EQ(data.labels, labels);
}

TEST_F(CasesTest, TheBoxHoldsEveryChannelAndBackgroundStaysZero) {
  write_case(root(), kName);
  io::Image image = test::case_image(1);
  image.voxels.front() = 7;  // a voxel outside the box of the others
  io::write_image(case_file(root(), kName, "t1n"), image);
  const CaseData data = load_case(only_case());
  EXPECT_EQ(data.size, (std::array<std::int64_t, 3>{3, 4, 5}));
  EXPECT_EQ(data.offset, (std::array<std::int64_t, 3>{0, 0, 0}));
  double sum = 0, squares = 0;
  int count = 0;
  for (std::size_t i = 0; i < 60; ++i) {
    sum += data.image[i];
    squares += data.image[i] * data.image[i];
    count += data.image[i] != 0 ? 1 : 0;
  }
  EXPECT_EQ(count, 25);
  EXPECT_NEAR(sum, 0, 1e-5);
  EXPECT_NEAR(squares / count, 1, 1e-6);
  EXPECT_EQ(data.image[60], 0);  // background of t1c
}

TEST_F(CasesTest, AConstantChannelBecomesZero) {
  write_case(root(), kName);
  io::Image image = test::case_image(1);
  for (float& value : image.voxels) value = value != 0 ? 0.1f : 0;
  io::write_image(case_file(root(), kName, "t1n"), image);
  const CaseData data = load_case(only_case());
  EXPECT_TRUE(std::all_of(data.image.begin(), data.image.begin() + 24,
                          [](float value) { return value == 0; }));
}

TEST_F(CasesTest, LabelFourIsReadAsThree) {
  write_case(root(), kName);
  io::LabelMap labels = test::case_labels();
  std::replace(labels.voxels.begin(), labels.voxels.end(), 3, 4);
  io::write_labels(case_file(root(), kName, "seg"), labels);
  EXPECT_EQ(load_case(only_case()).labels.back(), 3);
}

TEST_F(CasesTest, RefusesCasesThatDoNotFit) {
  write_case(root(), kName);
  const auto load_error = [&] { return error_of([&] { load_case(only_case()); }); };
  io::LabelMap labels = test::case_labels();
  labels.voxels[0] = 7;
  io::write_labels(case_file(root(), kName, "seg"), labels);
  EXPECT_THAT(load_error(), HasSubstr("label 7"));
  labels = test::case_labels();
  labels.geometry.origin[2] = 1;
  io::write_labels(case_file(root(), kName, "seg"), labels);
  EXPECT_THAT(load_error(), HasSubstr("do not share a grid: origin"));
  io::Image image = test::case_image(1);
  image.geometry.spacing[0] = 2;
  io::write_image(case_file(root(), kName, "t2w"), image);
  EXPECT_THAT(load_error(), HasSubstr("BraTS-GLI-00001-000-t2w.nii.gz do not share a grid: spac"));
  for (const auto& channel : kBratsChannels) {
    io::write_image(case_file(root(), kName, channel), test::case_image(0));
  }
  EXPECT_THAT(load_error(), HasSubstr("every voxel of every channel is 0"));
}

}  // namespace
}  // namespace segmamba::data
