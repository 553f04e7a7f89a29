#include "segmamba/data/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "case_files.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using test::case_file;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kBroken = "BraTS-GLI-00002-000";

// Three sound cases; each test breaks the second.
class CheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kError);
    for (int i = 1; i <= 3; ++i) {
      test::write_case(folder_.path(), "BraTS-GLI-0000" + std::to_string(i) + "-000", i);
    }
  }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  fs::path file(const std::string& channel) const {
    return case_file(folder_.path(), kBroken, channel);
  }
  CheckReport check() const { return check_cases(folder_.path(), kBratsChannels); }

  // Checks that there is exactly one finding, in the broken case.
  void expect_only(Severity severity, const std::string& kind, const std::string& message) const {
    const CheckReport report = check();
    ASSERT_EQ(report.findings.size(), 1) << report.to_json().dump(1);
    const Finding& finding = report.findings.front();
    EXPECT_EQ(finding.severity, severity);
    EXPECT_EQ(finding.kind, kind);
    EXPECT_EQ(finding.case_name, kBroken);
    EXPECT_THAT(finding.message, HasSubstr(message));
    EXPECT_EQ(report.can_train(), severity != Severity::kError);
    // What is an error here is what loading refuses, and nothing else.
    const auto load_all = [&] {
      for (const auto& item : find_cases(folder_.path(), kBratsChannels, true)) load_case(item);
    };
    if (severity == Severity::kError) {
      EXPECT_THROW(load_all(), Error);
    } else {
      EXPECT_NO_THROW(load_all());
    }
  }

  test::TemporaryFolder folder_;
};

TEST_F(CheckTest, SoundDataHaveNoFindings) {
  std::vector<std::int64_t> steps;
  const CheckReport report =
      check_cases(folder_.path(), kBratsChannels, [&](std::int64_t done, std::int64_t total) {
        steps.push_back(done);
        EXPECT_EQ(total, 3);
      });
  EXPECT_THAT(report.findings, IsEmpty());
  EXPECT_EQ(report.cases, 3);
  EXPECT_EQ(report.patients, 3);
  EXPECT_TRUE(report.can_train());
  EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 3}));
}

TEST_F(CheckTest, MissingChannel) {
  fs::remove(file("t1c"));
  expect_only(Severity::kError, "missing", "BraTS-GLI-00002-000-t1c.nii.gz");
}

TEST_F(CheckTest, MissingLabels) {
  fs::remove(file("seg"));
  expect_only(Severity::kError, "missing", "BraTS-GLI-00002-000-seg.nii.gz");
}

TEST_F(CheckTest, TruncatedGzip) {
  const std::string bytes = read_file(file("t2w"));
  write_file_atomically(file("t2w"), bytes.substr(0, bytes.size() - 5));
  expect_only(Severity::kError, "unreadable", "truncated");
}

TEST_F(CheckTest, DamagedGzip) {
  std::string bytes = read_file(file("t2w"));
  bytes[bytes.size() - 8] = static_cast<char>(bytes[bytes.size() - 8] ^ 1);  // the check sum
  write_file_atomically(file("t2w"), bytes);
  expect_only(Severity::kError, "unreadable", "is damaged");
}

TEST_F(CheckTest, NotFiniteVoxels) {
  io::Image image = test::case_image(100);
  image.voxels[40] = std::numeric_limits<float>::quiet_NaN();
  io::write_image(file("t1n"), image);
  expect_only(Severity::kError, "unreadable", "1 of 120 voxels are NaN or infinite");
}

TEST_F(CheckTest, DifferentGrids) {
  io::Image image = test::case_image(100);
  image.geometry.origin[0] = 5;
  io::write_image(file("t2f"), image);
  expect_only(Severity::kError, "geometry", "do not share a grid: origin");
}

TEST_F(CheckTest, EmptyCase) {
  for (const auto& channel : kBratsChannels) io::write_image(file(channel), test::case_image(0));
  const CheckReport report = check();
  EXPECT_FALSE(report.can_train());
  EXPECT_EQ(report.findings.front().kind, "empty");
  EXPECT_EQ(report.count(Severity::kError), 1);
}

TEST_F(CheckTest, ConstantChannel) {
  io::Image image = test::case_image(1);
  for (float& value : image.voxels) value = value != 0 ? 5 : 0;
  io::write_image(file("t1n"), image);
  expect_only(Severity::kWarning, "constant", "the value 5 in every voxel that is not 0");
}

TEST_F(CheckTest, UnknownLabels) {
  io::LabelMap labels = test::case_labels();
  labels.voxels[0] = 9;
  io::write_labels(file("seg"), labels);
  expect_only(Severity::kError, "labels", "has label 9");
}

TEST_F(CheckTest, LabelsThatAreNotWholeNumbers) {
  io::write_image(file("seg"), test::case_image(0.25f));
  expect_only(Severity::kError, "unreadable", "not a label map");
}

TEST_F(CheckTest, OldEnhancingLabel) {
  io::LabelMap labels = test::case_labels();
  std::replace(labels.voxels.begin(), labels.voxels.end(), 3, 4);
  io::write_labels(file("seg"), labels);
  expect_only(Severity::kNotice, "old-labels", "marks enhancing tumour by 4");
}

TEST_F(CheckTest, NoTumour) {
  io::LabelMap labels = test::case_labels();
  std::fill(labels.voxels.begin(), labels.voxels.end(), 0);
  io::write_labels(file("seg"), labels);
  expect_only(Severity::kNotice, "no-tumour", "is 0 everywhere");
}

TEST_F(CheckTest, DuplicateAcrossCases) {
  fs::copy_file(case_file(folder_.path(), "BraTS-GLI-00001-000", "t1n"), file("t1n"),
                fs::copy_options::overwrite_existing);
  expect_only(Severity::kWarning, "duplicate",
              "BraTS-GLI-00002-000-t1n.nii.gz has the same voxels as "
              "BraTS-GLI-00001-000-t1n.nii.gz");
}

TEST_F(CheckTest, UnusualSpacing) {
  const auto respaced = [](auto volume) {
    volume.geometry.spacing[2] = 5;
    volume.geometry.header.reset();
    return volume;
  };
  for (const auto& channel : kBratsChannels) {
    io::write_image(file(channel), respaced(io::read_image(file(channel))));
  }
  io::write_labels(file("seg"), respaced(test::case_labels()));
  expect_only(Severity::kNotice, "outlier",
              "spacing 1.000x1.000x5.000 mm where most cases have 1.000x1.000x1.000 mm");
}

TEST_F(CheckTest, UnusualOrientation) {
  const auto turned = [](auto volume) {
    volume.geometry.direction = {-1, 0, 0, 0, -1, 0, 0, 0, 1};
    volume.geometry.header.reset();
    return volume;
  };
  for (const auto& channel : kBratsChannels) {
    io::write_image(file(channel), turned(io::read_image(file(channel))));
  }
  io::write_labels(file("seg"), turned(test::case_labels()));
  expect_only(Severity::kNotice, "outlier", "orientation RAS where most cases have LPS");
}

TEST_F(CheckTest, FoldersThatTrainingPassesOver) {
  fs::create_directories(folder_.path() / ".cache");
  fs::rename(folder_.path() / kBroken, folder_.path() / "renamed");
  const CheckReport report = check();
  ASSERT_EQ(report.findings.size(), 1) << report.to_json().dump(1);
  EXPECT_EQ(report.cases, 2);
  EXPECT_EQ(report.findings.front().kind, "ignored");
  EXPECT_EQ(report.findings.front().case_name, "renamed");
  EXPECT_EQ(report.findings.front().severity, Severity::kWarning);
  EXPECT_THAT(check_cases(case_file(folder_.path(), "BraTS-GLI-00001-000", "seg").parent_path(),
                          kBratsChannels)
                  .findings,
              IsEmpty());
}

TEST_F(CheckTest, ListsEveryDefectTheWorstFirst) {
  fs::remove(file("t1c"));
  io::LabelMap labels = test::case_labels();
  std::replace(labels.voxels.begin(), labels.voxels.end(), 3, 4);
  io::write_labels(file("seg"), labels);
  io::write_image(case_file(folder_.path(), "BraTS-GLI-00001-000", "t1n"), test::case_image(0));
  const CheckReport report = check();
  std::vector<std::string> kinds;
  for (const auto& finding : report.findings) kinds.push_back(finding.kind);
  EXPECT_EQ(kinds, (std::vector<std::string>{"constant", "missing", "old-labels"}));
  const Json json = report.to_json();
  EXPECT_EQ(json["errors"], 1);
  EXPECT_EQ(json["can_train"], false);
  EXPECT_EQ(json["findings"][1]["case"], kBroken);
  EXPECT_EQ(json["findings"][1]["severity"], "error");
}

TEST_F(CheckTest, AFolderWithoutCases) {
  fs::create_directories(folder_.path() / "empty");
  const CheckReport report = check_cases(folder_.path() / "empty", kBratsChannels);
  EXPECT_FALSE(report.can_train());
  EXPECT_THAT(report.findings.front().message, HasSubstr("has no cases"));
  EXPECT_THROW(check_cases(folder_.path() / "absent", kBratsChannels), Error);
}

}  // namespace
}  // namespace segmamba::data
