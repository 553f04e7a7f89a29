#include "segmamba/data/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "case_files.h"
#include "io/nifti_bytes.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/io/orientation.h"
#include "segmamba/io/resample.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using test::case_file;
using ::testing::ElementsAre;
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

  fs::path file(const std::string& channel, const std::string& name = kBroken) const {
    return case_file(folder_.path(), name, channel);
  }
  DatasetConfig config() const {
    DatasetConfig result;
    result.root = folder_.path().string();
    return result;
  }
  CheckReport check() const { return check_dataset(config()); }
  // Rewrites every file of the broken case.
  void change_all(const std::function<void(io::Geometry&)>& change) const {
    const auto changed = [&](auto volume) {
      change(volume.geometry);
      volume.geometry.header.reset();
      return volume;
    };
    for (const auto& channel : kBratsChannels) {
      io::write_image(file(channel), changed(io::read_image(file(channel))));
    }
    io::write_labels(file("seg"), changed(io::read_labels(file("seg"))));
  }
  // Changes bytes of an unpacked file.
  void change_bytes(const std::string& channel,
                    const std::function<void(test::NiftiBytes&)>& change) const {
    test::NiftiBytes bytes(file(channel));
    change(bytes);
    bytes.write_gzip(file(channel));
  }

  // Checks that there is exactly one finding, in the broken case (or about the whole set).
  void expect_only(Severity severity, const std::string& kind, const std::string& message,
                   const std::string& case_name = kBroken) const {
    expect_only(check(), severity, kind, message, case_name);
    // What is an error here is what loading refuses, and nothing else.
    const auto load_all = [&] {
      const Dataset dataset = open_dataset(config(), Labels::kRequired);
      for (const auto& item : dataset.cases) prepare_case(read_case(dataset, item), {});
    };
    if (severity == Severity::kError) {
      EXPECT_THROW(load_all(), Error);
    } else {
      EXPECT_NO_THROW(load_all());
    }
  }
  static void expect_only(const CheckReport& report, Severity severity, const std::string& kind,
                          const std::string& message, const std::string& case_name) {
    ASSERT_EQ(report.findings.size(), 1) << report.to_json()["findings"].dump(1);
    const Finding& finding = report.findings.front();
    EXPECT_EQ(finding.severity, severity);
    EXPECT_EQ(finding.kind, kind);
    EXPECT_THAT(kFindingKinds, ::testing::Contains(finding.kind));
    EXPECT_EQ(finding.case_name, case_name);
    EXPECT_THAT(finding.message, HasSubstr(message));
    EXPECT_EQ(report.can_train(), severity != Severity::kError);
    // The broken case, and no other, is left out of the numbers where it has an error.
    const bool is_left_out = severity == Severity::kError && !case_name.empty();
    EXPECT_EQ(std::ssize(report.fingerprint.cases), report.cases - (is_left_out ? 1 : 0));
  }

  test::TemporaryFolder folder_;
};

TEST_F(CheckTest, SoundDataHaveNoFindings) {
  std::vector<std::int64_t> steps;
  const CheckReport report = check_dataset(
      config(), {.threads = 2, .progress = [&](std::int64_t done, std::int64_t total) {
                   steps.push_back(done);
                   EXPECT_EQ(total, 3);
                 }});
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
  expect_only(Severity::kError, "damaged", "truncated");
}

TEST_F(CheckTest, DamagedGzip) {
  std::string bytes = read_file(file("t2w"));
  bytes[bytes.size() - 8] = static_cast<char>(bytes[bytes.size() - 8] ^ 1);  // the check sum
  write_file_atomically(file("t2w"), bytes);
  expect_only(Severity::kError, "damaged", "is damaged");
}

TEST_F(CheckTest, NoNiftiFile) {
  write_file_atomically(file("t2w"), std::string("<html>404</html>"));
  expect_only(Severity::kError, "unreadable", "BraTS-GLI-00002-000-t2w.nii.gz");
}

TEST_F(CheckTest, FourDimensions) {
  change_bytes("t2w", [](test::NiftiBytes& bytes) {
    bytes.put<std::int16_t>(40, 4);
    bytes.put<std::int16_t>(48, 2);
  });
  expect_only(Severity::kError, "unreadable", "is 4-D");
}

TEST_F(CheckTest, NotFiniteVoxels) {
  io::Image image = test::case_image(100);
  image.voxels[40] = std::numeric_limits<float>::quiet_NaN();
  io::write_image(file("t1n"), image);
  expect_only(Severity::kError, "not-finite", "1 of 120 voxels are NaN or infinite");
}

TEST_F(CheckTest, DifferentGrids) {
  io::Image image = test::case_image(100);
  image.geometry.origin[0] = 5;
  io::write_image(file("t2f"), image);
  expect_only(Severity::kError, "geometry", "do not share a grid: origin");
}

TEST_F(CheckTest, EmptyCase) {
  for (const auto& channel : kBratsChannels) io::write_image(file(channel), test::case_image(0));
  expect_only(Severity::kError, "empty", "every voxel of every channel is 0");
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
  expect_only(Severity::kError, "unknown-label",
              "has label 9, which no class has; known are 0 to 4");
}

TEST_F(CheckTest, LabelsThatAreNotWholeNumbers) {
  io::write_image(file("seg"), test::case_image(0.25f));
  expect_only(Severity::kError, "not-labels", "not a label map");
}

TEST_F(CheckTest, OldEnhancingLabel) {
  io::LabelMap labels = test::case_labels();
  std::replace(labels.voxels.begin(), labels.voxels.end(), 3, 4);
  io::write_labels(file("seg"), labels);
  expect_only(Severity::kNotice, "old-label", "marks enhancing tumour by 4");
}

TEST_F(CheckTest, ThreeAndFourTogether) {
  io::LabelMap labels = io::read_labels(file("seg"));
  labels.voxels[(1 * 5 + 3) * 6 + 3] = 4;
  io::write_labels(file("seg"), labels);
  expect_only(Severity::kWarning, "old-label", "has labels 3 and 4");
  // Where the cavity is a class, it is just that.
  DatasetConfig five = config();
  five.classes.emplace_back("RC");
  EXPECT_THAT(check_dataset(five).findings, IsEmpty());
}

TEST_F(CheckTest, NoTumour) {
  io::LabelMap labels = test::case_labels();
  std::fill(labels.voxels.begin(), labels.voxels.end(), 0);
  io::write_labels(file("seg"), labels);
  expect_only(Severity::kNotice, "empty-labels", "marks no voxel");
}

TEST_F(CheckTest, LabelsOutsideTheBox) {
  io::LabelMap labels = test::case_labels();
  labels.voxels[0] = 2;
  labels.voxels[1] = 2;
  io::write_labels(file("seg"), labels);
  expect_only(Severity::kWarning, "label-outside", "2 of 5 labelled voxels lie outside");
}

TEST_F(CheckTest, AClassThatNoCaseHas) {
  DatasetConfig five = config();
  five.classes.emplace_back("resection cavity");
  expect_only(check_dataset(five), Severity::kWarning, "absent-class",
              "no case has the class resection cavity", "");
}

TEST_F(CheckTest, DuplicateChannel) {
  fs::copy_file(file("t1n", "BraTS-GLI-00001-000"), file("t1n"),
                fs::copy_options::overwrite_existing);
  expect_only(Severity::kWarning, "duplicate-channel",
              "BraTS-GLI-00002-000-t1n.nii.gz has the same voxels as "
              "BraTS-GLI-00001-000-t1n.nii.gz");
}

TEST_F(CheckTest, DuplicateChannelWithinACase) {
  // Packed otherwise: contents count, not bytes.
  const io::Image image = io::read_image(file("t1n"));
  fs::remove(file("t1c"));
  io::write_image(file("t1c").replace_extension(""), image);
  expect_only(Severity::kWarning, "duplicate-channel",
              "BraTS-GLI-00002-000-t1c.nii has the same voxels as "
              "BraTS-GLI-00002-000-t1n.nii.gz");
}

TEST_F(CheckTest, DuplicateLabels) {
  fs::copy_file(file("seg", "BraTS-GLI-00001-000"), file("seg"),
                fs::copy_options::overwrite_existing);
  expect_only(Severity::kWarning, "duplicate-labels",
              "BraTS-GLI-00002-000-seg.nii.gz has the same labels as "
              "BraTS-GLI-00001-000-seg.nii.gz");
}

TEST_F(CheckTest, DuplicateCaseOfAPatient) {
  fs::remove_all(folder_.path() / kBroken);
  test::write_case(folder_.path(), "BraTS-GLI-00001-001", 1);
  expect_only(Severity::kWarning, "duplicate-case",
              "has the same images as case BraTS-GLI-00001-000", "BraTS-GLI-00001-001");
}

TEST_F(CheckTest, DuplicatePatient) {
  test::write_case(folder_.path(), kBroken, 1);
  expect_only(Severity::kWarning, "duplicate-patient",
              "has the same images as case BraTS-GLI-00001-000, which counts as another patient");
}

TEST_F(CheckTest, ASplitMustHaveCasesToTrainOn) {
  for (const Split& split : {Split{}, Split{{}, {"BraTS-GLI-00001-000"}, {}}}) {
    expect_only(check_dataset(config(), {.split = &split}), Severity::kError, "missing",
                "the split has no cases to train on", "");
  }
}

TEST_F(CheckTest, LeaksOfASplit) {
  const auto findings = [&](const Split& split) {
    DatasetConfig config;
    config.root = folder_.path().string();
    std::vector<std::array<std::string, 3>> all;
    for (const auto& finding : check_dataset(config, {.split = &split}).findings) {
      all.push_back({to_string(finding.severity), finding.kind, finding.message});
    }
    return all;
  };
  const std::string one = "BraTS-GLI-00001-000", two = kBroken, three = "BraTS-GLI-00003-000";
  EXPECT_THAT(findings({{one, two}, {}, {three}}), IsEmpty());
  using Found = std::array<std::string, 3>;
  EXPECT_THAT(findings({{one, "absent"}, {two}, {three}}),
              ElementsAre(Found{"error", "missing",
                                "the split has it in train, and the data set does not"}));
  // The images of a case under another patient's name, in another part and in the same.
  test::write_case(folder_.path(), kBroken, 1);
  EXPECT_THAT(
      findings({{one, three}, {}, {two}}),
      ElementsAre(Found{"error", "leak",
                        "has the same images as case BraTS-GLI-00001-000, and the split has "
                        "this one in test and that one in train"}));
  EXPECT_EQ(findings({{one, two}, {}, {three}}).at(0)[1], "duplicate-patient");
  // A second scan of a patient in another part.
  test::write_case(folder_.path(), kBroken, 2);
  test::write_case(folder_.path(), "BraTS-GLI-00001-001", 9);
  EXPECT_THAT(findings({{one, two}, {"BraTS-GLI-00001-001"}, {three}}),
              ElementsAre(Found{"error", "leak",
                                "patient BraTS-GLI-00001 has scans in more than one part of the "
                                "split"}));
}

TEST_F(CheckTest, NearlyOrthonormalDirections) {
  // A shear of 0.006 turns two axes by half of it.
  for (const char* channel : {"t1n", "t1c", "t2w", "t2f", "seg"}) {
    change_bytes(channel, [](test::NiftiBytes& bytes) {
      bytes.put<std::int16_t>(252, 0);
      bytes.put<std::int16_t>(254, 1);
      bytes.set_sform({-1, 0.006f, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0});
    });
  }
  expect_only(Severity::kNotice, "direction",
              "BraTS-GLI-00002-000-seg.nii.gz and 4 more: direction cosines are orthonormal only "
              "to 0.0030");
}

TEST_F(CheckTest, ShearedSform) {
  change_bytes("t1c", [](test::NiftiBytes& bytes) {
    bytes.put<std::int16_t>(252, 1);
    bytes.put<std::int16_t>(254, 4);
    bytes.set_sform({-1, 0.5f, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0});
  });
  expect_only(Severity::kWarning, "direction",
              "BraTS-GLI-00002-000-t1c.nii.gz: the sform is sheared");
}

TEST_F(CheckTest, UnusualSpacing) {
  change_all([](io::Geometry& geometry) { geometry.spacing[2] = 5; });
  expect_only(Severity::kNotice, "spacing",
              "spacing 1.000x1.000x5.000 mm where most cases have 1.000x1.000x1.000 mm");
}

TEST_F(CheckTest, UnusualOrientation) {
  change_all([](io::Geometry& geometry) { geometry.direction = {-1, 0, 0, 0, -1, 0, 0, 0, 1}; });
  expect_only(Severity::kNotice, "orientation", "orientation RAS where most cases have LPS");
}

// Turned to LPS, the case has the size and the spacing of the others.
TEST_F(CheckTest, SizesAndSpacingsCompareInOneOrientation) {
  for (int i = 1; i <= 3; ++i) {
    const std::string name = "BraTS-GLI-0000" + std::to_string(i) + "-000";
    const auto changed = [&](auto volume) {
      volume.geometry.spacing = {1, 2, 3};
      if (name != kBroken) return volume;
      const auto axes = io::axes_towards(volume.geometry, "SAR");
      return io::resample_into(io::reoriented(volume.geometry, axes), volume);
    };
    for (const auto& channel : kBratsChannels) {
      io::write_image(file(channel, name), changed(io::read_image(file(channel, name))));
    }
    io::write_labels(file("seg", name), changed(io::read_labels(file("seg", name))));
  }
  expect_only(Severity::kNotice, "orientation", "orientation SAR where most cases have LPS");
  const auto numbers = check().fingerprint;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    EXPECT_EQ(numbers.size[axis].minimum, test::kCaseSize[axis]);
    EXPECT_EQ(numbers.size[axis].maximum, test::kCaseSize[axis]);
    EXPECT_EQ(numbers.spacing[axis].minimum, axis + 1);
    EXPECT_EQ(numbers.spacing[axis].maximum, axis + 1);
  }
}

TEST_F(CheckTest, UnusualSize) {
  const auto grown = [](auto volume) {
    volume.geometry.size[2] += 1;
    volume.geometry.header.reset();
    volume.voxels.resize(volume.voxels.size() + 6 * 5, 0);
    return volume;
  };
  for (const auto& channel : kBratsChannels) {
    io::write_image(file(channel), grown(io::read_image(file(channel))));
  }
  io::write_labels(file("seg"), grown(io::read_labels(file("seg"))));
  expect_only(Severity::kNotice, "size", "size 6x5x5 where most cases have 6x5x4");
}

// Spacings that vary from case to case, of which one lies far from the others.
TEST_F(CheckTest, SpacingsWithoutAMajority) {
  change_all([](io::Geometry& geometry) { geometry.spacing[2] = 1.25; });
  EXPECT_EQ(check().count(Severity::kNotice), 1);  // two of three agree
  test::write_case(folder_.path(), "BraTS-GLI-00004-000", 4);
  const auto respaced = [](auto volume, double spacing) {
    volume.geometry.spacing[2] = spacing;
    volume.geometry.header.reset();
    return volume;
  };
  for (const auto& [name, spacing] :
       {std::pair{"BraTS-GLI-00003-000", 1.5}, {"BraTS-GLI-00004-000", 4.0}}) {
    for (const auto& channel : kBratsChannels) {
      io::write_image(file(channel, name), respaced(io::read_image(file(channel, name)), spacing));
    }
    io::write_labels(file("seg", name), respaced(io::read_labels(file("seg", name)), spacing));
  }
  expect_only(Severity::kNotice, "spacing",
              "spacing 1.000x1.000x4.000 mm where the median is 1x1x1.25", "BraTS-GLI-00004-000");
}

TEST_F(CheckTest, FoldersThatTrainingPassesOver) {
  fs::create_directories(folder_.path() / ".cache");
  fs::rename(folder_.path() / kBroken, folder_.path() / "renamed");
  expect_only(Severity::kWarning, "ignored", "not taken as a case", "renamed");
  EXPECT_EQ(check().cases, 2);
  DatasetConfig one = config();
  one.root = (folder_.path() / "BraTS-GLI-00001-000").string();
  EXPECT_THAT(check_dataset(one).findings, IsEmpty());
}

TEST_F(CheckTest, ListsEveryDefectTheWorstFirst) {
  fs::remove(file("t1c"));
  io::LabelMap labels = test::case_labels();
  std::replace(labels.voxels.begin(), labels.voxels.end(), 3, 4);
  io::write_labels(file("seg"), labels);
  io::write_image(file("t1n", "BraTS-GLI-00001-000"), test::case_image(0));
  const CheckReport report = check();
  std::vector<std::string> kinds;
  for (const auto& finding : report.findings) kinds.push_back(finding.kind);
  EXPECT_EQ(kinds, (std::vector<std::string>{"constant", "missing", "old-label"}));
  const Json json = report.to_json();
  EXPECT_EQ(json["errors"], 1);
  EXPECT_EQ(json["can_train"], false);
  EXPECT_EQ(json["findings"][1]["case"], kBroken);
  EXPECT_EQ(json["findings"][1]["severity"], "error");
  const std::string page = report.to_html();
  EXPECT_THAT(page, HasSubstr("Training would not start: 1 error, 1 warning, 1 notice."));
  EXPECT_LT(page.find("Errors: training"), page.find("Warnings: training"));
  EXPECT_THAT(page, HasSubstr("BraTS-GLI-00002-000-t1c.nii.gz (or .nii) is missing"));
}

TEST_F(CheckTest, AFolderWithoutCases) {
  fs::create_directories(folder_.path() / "empty");
  DatasetConfig empty = config();
  empty.root = (folder_.path() / "empty").string();
  expect_only(check_dataset(empty), Severity::kError, "missing", "no cases", "");
  EXPECT_THAT(check_dataset(empty).to_html(), HasSubstr("Training would not start"));
  empty.root = (folder_.path() / "absent").string();
  EXPECT_THROW(check_dataset(empty), Error);
}

TEST_F(CheckTest, NumbersOfTheSet) {
  change_all([](io::Geometry& geometry) { geometry.spacing[2] = 5; });
  const Fingerprint numbers = check().fingerprint;
  ASSERT_EQ(numbers.cases.size(), 3);
  EXPECT_EQ(numbers.size[0].median, 6);
  EXPECT_EQ(numbers.spacing[2].maximum, 5);
  EXPECT_EQ(numbers.spacing[2].median, 1);
  EXPECT_EQ(numbers.crop_share.minimum, 24.0 / 120);
  EXPECT_EQ(numbers.crop_share.maximum, 24.0 / 120);

  // Channel t1n of case n holds 1 to 24 times 4 n.
  const ChannelNumbers& channel = numbers.channels.at(0);
  EXPECT_EQ(channel.name, "t1n");
  EXPECT_EQ(channel.nonzero.count, 72);
  EXPECT_EQ(channel.nonzero.mean, 12.5 * 8);
  // Mean of squares: 24 * 25 * 49 / 6 / 24 times 16 (1 + 4 + 9) / 3.
  EXPECT_NEAR(channel.nonzero.deviation, std::sqrt(4900.0 / 24 * 224 / 3 - 100 * 100), 1e-9);
  EXPECT_EQ(channel.nonzero.minimum, 4);
  EXPECT_EQ(channel.nonzero.percentile_0_5, 4);
  EXPECT_EQ(channel.nonzero.percentile_99_5, 24 * 12);
  EXPECT_EQ(channel.nonzero.maximum, 24 * 12);
  std::vector<int> all;
  for (int number = 1; number <= 3; ++number) {
    for (int value = 1; value <= 24; ++value) all.push_back(4 * number * value);
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(channel.nonzero.median, all[35]);
  // Labels lie on values 1, 2, 24, and in case 2 on 5, in case 3 on 6.
  EXPECT_EQ(channel.foreground.count, 11);
  EXPECT_NEAR(channel.foreground.mean, (4 * 27 + 8 * 32 + 12 * 33) / 11.0, 1e-12);
  double total = 0;
  for (const double share : channel.nonzero_histogram.shares) total += share;
  EXPECT_NEAR(total, 1, 1e-12);

  const ClassNumbers& oedema = numbers.classes.at(2);
  EXPECT_EQ(oedema.name, "oedema");
  EXPECT_EQ(oedema.cases, 3);
  EXPECT_EQ(oedema.voxels, 5);
  EXPECT_EQ(oedema.millilitres.minimum, 0.001);
  EXPECT_EQ(oedema.millilitres.maximum, 0.010);  // two voxels of 5 mm^3
  EXPECT_EQ(numbers.classes.at(0).voxels, 3 * 120 - 11);

  const Json json = check().to_json()["fingerprint"];
  EXPECT_EQ(json["channels"]["t1n"]["nonzero"]["count"], 72);
  EXPECT_EQ(json["classes"]["oedema"]["cases"], 3);
  EXPECT_EQ(json["by_case"][kBroken]["spacing_mm"], (std::vector<double>{1, 1, 5}));
}

TEST(IntensitySampleTest, PercentilesOfManyVoxelsAreNear) {
  std::vector<float> voxels(1'000'000);
  for (std::size_t i = 0; i < voxels.size(); ++i) {
    voxels[i] = static_cast<float>(i * 7919 % voxels.size());
  }
  const IntensitySample sample(voxels);
  EXPECT_NEAR(sample.distribution().percentile_0_5, 5e3, 1e3);
  EXPECT_NEAR(sample.distribution().median, 5e5, 1e4);
  const IntensitySample few({-1, -1, -1});
  const Distribution pooled = IntensitySample::pooled({&sample, &few});
  EXPECT_EQ(pooled.count, 1'000'003);
  EXPECT_EQ(pooled.minimum, -1);
  EXPECT_EQ(pooled.maximum, 999'999);
  EXPECT_NEAR(pooled.mean, (999'999.0 * 500'000 - 3) / 1'000'003, 1e-6);
  EXPECT_NEAR(pooled.percentile_99_5, 995e3, 3e3);
  EXPECT_EQ(IntensitySample::pooled({}).count, 0);
}

// A 4-D file is read once for all of its channels, and its volumes are told apart.
TEST(CheckLayoutsTest, Decathlon) {
  set_log_level(LogLevel::kError);
  const test::TemporaryFolder folder;
  const fs::path root = folder.path();
  fs::create_directories(root / "imagesTr");
  fs::create_directories(root / "labelsTr");
  write_file_atomically(root / "dataset.json", std::string(R"({"modality": {"0": "ADC", "1": "T2"},
    "labels": {"0": "background", "1": "lesion"}, "training": [
      {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"},
      {"image": "imagesTr/b.nii.gz", "label": "labelsTr/b.nii.gz"}]})"));
  for (const int number : {1, 2}) {
    const std::string name = number == 1 ? "a.nii.gz" : "b.nii.gz";
    io::LabelMap labels = test::case_labels(number);
    for (auto& value : labels.voxels) value = value > 0 ? 1 : 0;
    io::write_labels(root / "labelsTr" / name, labels);
    io::write_image(root / "imagesTr" / name, test::case_image(static_cast<float>(number)));
    test::NiftiBytes bytes(root / "imagesTr" / name);
    bytes.put<std::int16_t>(40, 4);
    bytes.put<std::int16_t>(48, 2);
    // The second volume: that of the first case is the first volume of the second.
    for (const float value : test::case_image(static_cast<float>(number + 1)).voxels) {
      bytes.append(value);
    }
    bytes.write_gzip(root / "imagesTr" / name);
  }
  DatasetConfig config;
  config.root = root.string();
  config.channels = {"T2w", "adc"};
  config.classes = {"background", "lesion"};
  const CheckReport report = check_dataset(config);
  ASSERT_EQ(report.findings.size(), 1) << report.to_json()["findings"].dump(1);
  EXPECT_EQ(report.findings[0].kind, "duplicate-channel");
  EXPECT_EQ(report.findings[0].message,
            "b.nii.gz volume 0 has the same voxels as a.nii.gz volume 1");
  EXPECT_EQ(report.layout, "decathlon");
  EXPECT_EQ(report.fingerprint.channels.at(0).nonzero.maximum, 24 * 3);
  EXPECT_EQ(report.fingerprint.channels.at(1).nonzero.maximum, 24 * 2);

  const std::string whole = read_file(root / "imagesTr/b.nii.gz");
  write_file_atomically(root / "imagesTr/b.nii.gz", whole.substr(0, whole.size() / 2));
  const CheckReport damaged = check_dataset(config);
  ASSERT_EQ(damaged.findings.size(), 1);  // once, not once a channel
  EXPECT_EQ(damaged.findings[0].kind, "damaged");
  set_log_level(LogLevel::kInfo);
}

}  // namespace
}  // namespace segmamba::data
