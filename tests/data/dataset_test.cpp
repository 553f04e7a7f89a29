#include "segmamba/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "case_files.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/data/case_table.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using test::case_file;
using test::write_case;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kName = "BraTS-GLI-00001-000";

// The files of a data set need not be volumes to be found.
class DatasetTest : public ::testing::Test {
 protected:
  const fs::path& root() const { return folder_.path(); }
  void touch(const fs::path& path) const {
    fs::create_directories((root() / path).parent_path());
    write_file_atomically(root() / path, std::string("x"));
  }
  void write(const fs::path& path, const std::string& text) const {
    fs::create_directories((root() / path).parent_path());
    write_file_atomically(root() / path, text);
  }
  // A file with the mark of DICOM.
  void touch_dicom(const fs::path& path) const { write(path, std::string(128, '\0') + "DICM"); }
  DatasetConfig names_only() const {
    return {.root = root().string(), .channels = {}, .classes = {}};
  }
  static std::vector<std::string> names_of(const DatasetSurvey& survey) {
    std::vector<std::string> names;
    for (const auto& item : survey.dataset.cases) names.push_back(item.name);
    return names;
  }
  DatasetConfig config(const std::string& path = "") const {
    DatasetConfig result;
    result.root = (root() / path).string();
    return result;
  }
  static std::string error_of(const DatasetConfig& config, Labels labels = Labels::kRequired) {
    try {
      open_dataset(config, labels);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  // Relative to the root.
  std::string file(const fs::path& path) const {
    return path.empty() ? "" : fs::relative(path, fs::canonical(root())).string();
  }
  std::vector<std::string> files(const Case& item) const {
    std::vector<std::string> names;
    for (const auto& image : item.images) names.push_back(file(image.path));
    return names;
  }
  static std::vector<int> classes_of(const ClassMap& map, std::initializer_list<int> values) {
    std::vector<int> classes;
    for (const int value : values) {
      const int found = map[static_cast<std::uint8_t>(value)];
      classes.push_back(found == ClassMap::kNone ? -1 : found);
    }
    return classes;
  }
  static std::vector<std::string> messages(const std::vector<DatasetProblem>& problems) {
    std::vector<std::string> texts;
    for (const auto& problem : problems)
      texts.push_back(problem.case_name + ": " + problem.message);
    return texts;
  }

  test::TemporaryFolder folder_;
};

TEST(PatientTest, IsTheNameWithoutTheVisit) {
  EXPECT_EQ(patient_of("BraTS-GLI-00001-000"), "BraTS-GLI-00001");
  EXPECT_EQ(patient_of("BraTS-GLI-00001-001"), "BraTS-GLI-00001");
  EXPECT_EQ(patient_of("BraTS-MEN-RT-0001-1"), "BraTS-MEN-RT-0001");
  EXPECT_EQ(patient_of("BraTS2021_00001"), "BraTS2021_00001");
  EXPECT_EQ(patient_of("case-001"), "case-001");
  EXPECT_EQ(patient_of("a-1-b"), "a-1-b");
  EXPECT_EQ(patient_of("-1-2"), "-1");
  for (const char* name : {"", "-", "-5", "1-2", "--", "--1", "a--1", "a-1-"}) {
    EXPECT_EQ(patient_of(name), name);
  }
}

TEST(ClassNames, MayBeAsLongAsAFile) {
  std::string british, american;
  for (int i = 0; i < 100'000; ++i) {
    british += "Tumour ";
    american += "tumor";
  }
  EXPECT_EQ(canonical_class(british + "oedema"), american + "edema");
}

TEST(ClassMapTest, ListsItsValues) {
  ClassMap map;
  EXPECT_EQ(map.values(), "");
  for (const int value : {0, 1, 2, 3, 10, 20, 21, 255}) {
    map.set(static_cast<std::uint8_t>(value), 0);
  }
  EXPECT_EQ(map.values(), "0 to 3, 10, 20 and 21 and 255");
}

TEST_F(DatasetTest, BratsCasesAreSortedAndChannelsInOrder) {
  write_case(root(), "BraTS-GLI-00002-000");
  write_case(root(), kName);
  fs::create_directories(root() / "notes");
  fs::create_directories(root() / ".cache");
  DatasetConfig two = config();
  two.channels = {"FLAIR", "t1n"};
  const Dataset dataset = open_dataset(two, Labels::kRequired);
  EXPECT_EQ(dataset.layout, "brats");
  EXPECT_THAT(dataset.channels, ElementsAre("FLAIR", "t1n"));
  ASSERT_EQ(dataset.cases.size(), 2);
  EXPECT_EQ(dataset.cases[0].name, kName);
  EXPECT_EQ(dataset.cases[0].patient, "BraTS-GLI-00001");
  EXPECT_EQ(dataset.cases[1].name, "BraTS-GLI-00002-000");
  EXPECT_THAT(files(dataset.cases[0]),
              ElementsAre("BraTS-GLI-00001-000/BraTS-GLI-00001-000-t2f.nii.gz",
                          "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1n.nii.gz"));
  EXPECT_EQ(dataset.cases[0].images[0].volume, io::kOnlyVolume);
  EXPECT_EQ(file(dataset.cases[0].labels), "BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg.nii.gz");
  EXPECT_THAT(classes_of(dataset.class_map, {0, 1, 2, 3, 4, 5}), ElementsAre(0, 1, 2, 3, 3, -1));
  // A case by itself.
  EXPECT_EQ(open_dataset(config(std::string(kName) + "/."), Labels::kRequired).cases.at(0).name,
            kName);
  EXPECT_THAT(messages(survey_dataset(two, Labels::kRequired).ignored),
              ElementsAre("notes: not taken as a case: no files notes-CHANNEL.nii.gz in it"));
}

TEST_F(DatasetTest, BratsNamesOfOtherReleases) {
  for (const char* channel : {"t1", "t1ce", "t2", "flair", "seg"}) {
    touch(concat("BraTS2021_00001/BraTS2021_00001_", channel, ".nii.gz"));
  }
  touch("BraTS2021_00001/._BraTS2021_00001_t1.nii.gz");
  const Dataset old = open_dataset(config(), Labels::kRequired);
  ASSERT_EQ(old.cases.size(), 1);
  EXPECT_THAT(files(old.cases[0]), ElementsAre("BraTS2021_00001/BraTS2021_00001_t1.nii.gz",
                                               "BraTS2021_00001/BraTS2021_00001_t1ce.nii.gz",
                                               "BraTS2021_00001/BraTS2021_00001_t2.nii.gz",
                                               "BraTS2021_00001/BraTS2021_00001_flair.nii.gz"));

  // BraTS-MEN-RT: one channel, another name for the labels.
  for (const char* part : {"-t1c", "-gtv"}) {
    touch(concat("men/BraTS-MEN-RT-0001-1/BraTS-MEN-RT-0001-1", part, ".nii.gz"));
  }
  DatasetConfig radiotherapy = config("men");
  radiotherapy.channels = {"t1c"};
  radiotherapy.classes = {"background", "gtv"};
  const Dataset men = open_dataset(radiotherapy, Labels::kRequired);
  ASSERT_EQ(men.cases.size(), 1);
  EXPECT_EQ(men.cases[0].patient, "BraTS-MEN-RT-0001");
  EXPECT_EQ(file(men.cases[0].labels), "men/BraTS-MEN-RT-0001-1/BraTS-MEN-RT-0001-1-gtv.nii.gz");
  EXPECT_THAT(classes_of(men.class_map, {0, 1, 2, 4}), ElementsAre(0, 1, -1, -1));
}

TEST_F(DatasetTest, BratsValuesFollowTheNamesOfTheClasses) {
  write_case(root(), kName);
  const auto map_of = [&](std::vector<std::string> classes, std::vector<std::string> map = {}) {
    DatasetConfig other = config();
    other.classes = std::move(classes);
    other.label_map = std::move(map);
    return classes_of(open_dataset(other, Labels::kRequired).class_map, {0, 1, 2, 3, 4});
  };
  EXPECT_THAT(map_of({"background", "ET", "NCR", "edema"}), ElementsAre(0, 2, 3, 1, 1));
  // After treatment 4 is the resection cavity.
  EXPECT_THAT(map_of({"background", "NETC", "SNFH", "ET", "RC"}), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(map_of({"background", "enhancing"}), ElementsAre(0, -1, -1, 1, -1));
  EXPECT_THAT(map_of({"background", "enhancing"}, {"1=enhancing", "2=0", "4=1"}),
              ElementsAre(0, 1, 0, 1, 1));
  // Names that BraTS does not have: by number.
  EXPECT_THAT(map_of({"background", "enhancing", "cyst"}), ElementsAre(0, 1, 2, -1, -1));
}

TEST_F(DatasetTest, BratsSaysWhatIsMissing) {
  EXPECT_THAT(error_of(config()), HasSubstr("no cases"));
  EXPECT_THAT(error_of(config("absent")), HasSubstr("absent"));
  touch("scan.nii.gz");
  EXPECT_THAT(error_of(config("scan.nii.gz")), HasSubstr("scan.nii.gz: is one image; give the "));
  write_case(root(), kName);
  write_case(root(), "BraTS-GLI-00002-000");
  fs::remove(case_file(root(), kName, "seg"));
  EXPECT_THAT(error_of(config()), HasSubstr("case BraTS-GLI-00001-000: "));
  EXPECT_THAT(error_of(config()), HasSubstr("BraTS-GLI-00001-000-seg.nii.gz (or .nii) is missing"));
  EXPECT_TRUE(open_dataset(config(), Labels::kOptional).cases[0].labels.empty());
  fs::remove(case_file(root(), kName, "t1c"));
  fs::remove(case_file(root(), "BraTS-GLI-00002-000", "t2f"));
  EXPECT_THAT(error_of(config()), HasSubstr("BraTS-GLI-00001-000-t1c.nii.gz (or .nii) is missing "
                                            "(and 2 more; see segmamba-data check)"));
  const DatasetSurvey survey = survey_dataset(config(), Labels::kRequired);
  EXPECT_EQ(survey.missing.size(), 3);
  EXPECT_EQ(survey.dataset.cases[0].images.size(), 4);
  EXPECT_TRUE(survey.dataset.cases[0].images[1].path.empty());
  EXPECT_EQ(survey.missing[2].case_name, "BraTS-GLI-00002-000");
}

TEST_F(DatasetTest, BratsFilesMustHaveOneMeaning) {
  write_case(root(), kName);
  touch(concat(kName, "/", kName, "-t1n.nii"));  // beside .nii.gz
  EXPECT_EQ(error_of(config()), "");
  touch(concat(kName, "/", kName, "_t1ce.nii.gz"));
  EXPECT_THAT(error_of(config()),
              HasSubstr("BraTS-GLI-00001-000-t1c.nii.gz and BraTS-GLI-00001-000_t1ce.nii.gz have "
                        "the same meaning"));
}

TEST_F(DatasetTest, ConfigsThatMakeNoSense) {
  write_case(root(), kName);
  DatasetConfig bad = config();
  bad.channels = {"t1c", "T1Gd"};
  EXPECT_EQ(error_of(bad), "data.channels: 't1c' and 'T1Gd' are the same");
  bad = config();
  bad.classes = {"background", "edema", "oedema"};
  EXPECT_EQ(error_of(bad), "data.classes: 'edema' and 'oedema' are the same");
  bad.classes = {"oedema", "background"};
  EXPECT_EQ(error_of(bad), "data.classes: the first class must be background, not 'oedema'");
  bad = config();
  for (const auto& [entry, message] : std::vector<std::pair<std::string, std::string>>{
           {"4", "is not VALUE=CLASS"},
           {"256=1", "is not VALUE=CLASS"},
           {"4=enhancng", "names no class (did you mean 'enhancing'?)"},
           {"4=4",
            "names no class; there are background, necrosis, oedema, enhancing, or 0 to 3"}}) {
    bad.label_map = {entry};
    EXPECT_THAT(error_of(bad), HasSubstr("data.label_map: '" + entry + "' " + message));
  }
  EXPECT_EQ(error_of(DatasetConfig{}), "data.root: is empty; give the folder of the data set");
}

constexpr const char* kNnunetChannels =
    R"("channel_names": {"0": "FLAIR", "1": "T1w", "2": "t1gd"})";

TEST_F(DatasetTest, LabelsAreNotAnyNumber) {
  std::string labels = "\"background\": 0";
  for (int i = 0; i < 1000; ++i) labels += concat(", \"r", i, "\": [1]");
  write("dataset.json", concat("{", kNnunetChannels, ", \"labels\": {", labels, "}}"));
  DatasetConfig two = config();
  two.channels = {"t1c", "t2f"};
  EXPECT_THAT(error_of(two), HasSubstr("dataset.json: has more than 1000 labels"));
}

TEST_F(DatasetTest, NnunetVersionTwo) {
  write("dataset.json", concat("{", kNnunetChannels, R"x(, "file_ending": ".nii",
    "labels": {"background": 0, "edema": 1, "non-enhancing tumor (NCR)": 2,
               "Enhancing Tumour": 3}})x"));
  for (const char* name : {"b", "a"}) {
    for (const char* mark : {"_0000", "_0001", "_0002"}) {
      touch(concat("imagesTr/", name, mark, ".nii"));
    }
    touch(concat("labelsTr/", name, ".nii"));
  }
  touch("imagesTr/._a_0000.nii");
  DatasetConfig two = config();
  two.channels = {"t1c", "t2f"};
  const Dataset dataset = open_dataset(two, Labels::kRequired);
  EXPECT_EQ(dataset.layout, "nnunet");
  ASSERT_EQ(dataset.cases.size(), 2);
  EXPECT_EQ(dataset.cases[0].name, "a");
  EXPECT_THAT(files(dataset.cases[0]), ElementsAre("imagesTr/a_0002.nii", "imagesTr/a_0000.nii"));
  EXPECT_EQ(file(dataset.cases[0].labels), "labelsTr/a.nii");
  EXPECT_THAT(classes_of(dataset.class_map, {0, 1, 2, 3, 4}), ElementsAre(0, 2, 1, 3, -1));

  fs::remove(root() / "imagesTr/a_0000.nii");
  fs::remove(root() / "labelsTr/b.nii");
  touch("labelsTr/c.nii");
  touch("imagesTr/d.nii");
  const DatasetSurvey survey = survey_dataset(two, Labels::kRequired);
  const std::string base = fs::canonical(root()).string();
  EXPECT_THAT(messages(survey.missing),
              ElementsAre(concat("a: ", base, "/imagesTr/a_0000.nii is missing"),
                          concat("b: ", base, "/labelsTr/b.nii is missing"),
                          concat("c: ", base, "/imagesTr/c_0002.nii is missing"),
                          concat("c: ", base, "/imagesTr/c_0000.nii is missing")));
  EXPECT_THAT(messages(survey.ignored),
              ElementsAre(concat(": ", base,
                                 "/imagesTr/d.nii: not taken, as it is not named "
                                 "NAME_0000.nii")));
}

TEST_F(DatasetTest, NnunetVersionOne) {
  write("dataset.json", R"({"modality": {"0": "CT"}, "numTraining": 1,
    "labels": {"0": "background", "1": "liver", "2": "tumor"},
    "training": [{"image": "./imagesTr/liver_1.nii.gz", "label": "./labelsTr/liver_1.nii.gz"}]})");
  touch("imagesTr/liver_1_0000.nii.gz");
  touch("labelsTr/liver_1.nii.gz");
  DatasetConfig liver = config("dataset.json");
  EXPECT_THAT(error_of(liver), HasSubstr("dataset.json: has no channel 't1n'; for the channels it "
                                         "has, put into the config: data.channels: [CT]"));
  liver.channels = {"ct"};
  EXPECT_THAT(
      error_of(liver),
      HasSubstr("dataset.json: 'tumor' (value 2) is not among data.classes; for the classes "
                "it has, put into the config: data.classes: [background, liver, tumor]"));
  liver.classes = {"background", "liver", "tumour"};
  const Dataset dataset = open_dataset(liver, Labels::kRequired);
  EXPECT_EQ(dataset.layout, "nnunet");
  EXPECT_THAT(files(dataset.cases.at(0)), ElementsAre("imagesTr/liver_1_0000.nii.gz"));
  EXPECT_THAT(classes_of(dataset.class_map, {0, 1, 2, 3}), ElementsAre(0, 1, 2, -1));
  liver.classes = {"background", "liver", "tumour", "cyst"};
  EXPECT_THAT(error_of(liver), HasSubstr("has no label 'cyst'"));
  liver.classes = {"background", "liver"};
  liver.label_map = {"2=liver"};
  EXPECT_THAT(classes_of(open_dataset(liver, Labels::kRequired).class_map, {0, 1, 2}),
              ElementsAre(0, 1, 1));
}

TEST_F(DatasetTest, NnunetRegions) {
  touch("imagesTr/a_0000.nii.gz");
  touch("labelsTr/a.nii.gz");
  DatasetConfig one = config();
  one.channels = {"flair"};
  const auto write_labels = [&](const std::string& labels) {
    write("dataset.json", concat(R"({"channel_names": {"0": "FLAIR"}, "labels": )", labels, "}"));
  };
  write_labels(R"({"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3],
                   "enhancing tumor": [3]})");
  EXPECT_THAT(classes_of(open_dataset(one, Labels::kRequired).class_map, {0, 1, 2, 3, 4}),
              ElementsAre(0, 2, 1, 3, -1));
  // A label beside the regions, and one number for a region.
  one.classes = {"background", "necrosis", "oedema", "enhancing", "resection cavity"};
  write_labels(R"({"background": 0, "enhancing": 5, "RC": [7], "WT": [1, 2, 5], "TC": [2, 5]})");
  EXPECT_THAT(classes_of(open_dataset(one, Labels::kRequired).class_map, {0, 1, 2, 3, 5, 7}),
              ElementsAre(0, 2, 1, -1, 3, 4));
  // Without a core in it the rest of the whole tumour is no oedema.
  write_labels(R"({"background": 0, "whole tumor": [1, 2], "enhancing tumor": [2]})");
  EXPECT_THAT(error_of(one), HasSubstr("data.classes: [background, whole tumor, enhancing tumor]"));
  write_labels(R"({"background": 0, "a": [1, 2], "b": [2, 3]})");
  EXPECT_THAT(error_of(one), HasSubstr("labels: value 2 belongs to 'a' and to 'b'"));
  write_labels(R"({"background": 0, "a": [1, 2], "b": [2, 1]})");
  EXPECT_THAT(error_of(one), HasSubstr("labels: 'a' and 'b' are the same"));
}

TEST_F(DatasetTest, NnunetExplicitFiles) {
  write("dataset.json", concat("{", kNnunetChannels, R"(,
    "labels": {"background": 0, "lesion": 1}, "dataset": {
      "x": {"images": ["far/f.nii.gz", "../other/t1.nii.gz", "/abs/t1c.nii.gz"], "label": "far/l.nii.gz"},
      "w": {"images": ["far/f.nii.gz", "far/f.nii.gz", "far/f.nii.gz"]}}})"));
  touch("far/f.nii.gz");
  touch("far/l.nii.gz");
  DatasetConfig lesion = config();
  lesion.channels = {"t2f", "t1c"};
  lesion.classes = {"background", "lesion"};
  const DatasetSurvey survey = survey_dataset(lesion, Labels::kRequired);
  ASSERT_EQ(survey.dataset.cases.size(), 2);
  EXPECT_EQ(survey.dataset.cases[0].name, "w");
  EXPECT_THAT(files(survey.dataset.cases[1]), ElementsAre("far/f.nii.gz", ""));
  EXPECT_EQ(file(survey.dataset.cases[1].labels), "far/l.nii.gz");
  ASSERT_EQ(survey.missing.size(), 2);
  EXPECT_THAT(survey.missing[0].message, HasSubstr("the case has no \"label\""));
  EXPECT_EQ(survey.missing[1].message, "/abs/t1c.nii.gz is missing");
}

TEST_F(DatasetTest, Decathlon) {
  write("dataset.json", R"({"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    "training": [{"image": "./imagesTr/BRATS_002.nii.gz", "label": "./labelsTr/BRATS_002.nii.gz"},
                 {"image": "./imagesTr/._BRATS_001.nii.gz", "label": "./labelsTr/._BRATS_001.nii.gz"},
                 {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}]})");
  for (const char* name : {"BRATS_001", "BRATS_002"}) {
    touch(concat("imagesTr/", name, ".nii.gz"));
    touch(concat("labelsTr/", name, ".nii.gz"));
  }
  const Dataset dataset = open_dataset(config(), Labels::kRequired);
  EXPECT_EQ(dataset.layout, "decathlon");
  ASSERT_EQ(dataset.cases.size(), 2);
  EXPECT_EQ(dataset.cases[0].name, "BRATS_001");
  std::vector<std::int64_t> volumes;
  for (const auto& image : dataset.cases[0].images) {
    EXPECT_EQ(file(image.path), "imagesTr/BRATS_001.nii.gz");
    volumes.push_back(image.volume);
  }
  EXPECT_THAT(volumes, ElementsAre(1, 2, 3, 0));
  EXPECT_THAT(classes_of(dataset.class_map, {0, 1, 2, 3, 4}), ElementsAre(0, 2, 1, 3, -1));
  // Four channels, one file.
  fs::remove(root() / "imagesTr/BRATS_002.nii.gz");
  EXPECT_EQ(survey_dataset(config(), Labels::kRequired).missing.size(), 1);
}

TEST_F(DatasetTest, DamagedDatasetJson) {
  touch("imagesTr/a_0000.nii.gz");
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"{", "not valid JSON"},
           {"[]", "is not a JSON object"},
           {"{}", "needs \"channel_names\""},
           {R"({"channel_names": {"1": "t1n"}})", "channels must be numbered from 0 to 0, not '1'"},
           {R"({"channel_names": {"0": 7}})", "channel_names: 0 must be a text, not 7"},
           {R"({"channel_names": {"0": "t1", "1": "T1w"}})", "both 't1' and 'T1w' may be"},
           {R"({"channel_names": {"0": "t1n"}})", "needs \"labels\""},
           {R"({"channel_names": {"0": "t1n"}, "labels": {"a": 300}})", "a value from 0 to 255"},
           {R"({"channel_names": {"0": "t1n"}, "labels": {"a": [1.5]}})", "a value from 0 to 255"},
           {R"({"channel_names": {"0": "t1n"}, "labels": {"a": 1, "b": 1}})", "same value 1"},
           {R"({"channel_names": {"0": "t1n"}, "labels": {"background": 0, "a": 1},
                "file_ending": ".png"})",
            "file_ending .png is not supported"},
           {R"({"modality": {"0": "t1n"}, "labels": {"0": "background", "1": "a"},
                "training": [{"label": "a"}]})",
            ""}}) {
    write("dataset.json", text);
    DatasetConfig one = config();
    one.channels = {"t1n"};
    one.classes = {"background", "a"};
    EXPECT_THAT(error_of(one, Labels::kOptional), HasSubstr(message)) << text;
  }
}

TEST_F(DatasetTest, AFileIsATableOfCases) {
  touch("cases.xlsx");
  EXPECT_THAT(error_of(config("cases.xlsx")), HasSubstr("cases.xlsx: is neither a folder of"));
}

TEST_F(DatasetTest, CsvTable) {
  for (const char* name : {"a.nii.gz", "b c.nii.gz", "sub/l.nii.gz"}) touch(name);
  write("cases.csv",
        "case,patient,site,T1Gd,FLAIR,label\r\n"
        "two,p1,x,a.nii.gz,\"b c.nii.gz\",sub/l.nii.gz\r\n"
        "one-1-2,,x,a.nii.gz,./sub/../a.nii.gz,sub/l.nii.gz\r\n");
  DatasetConfig table = config("cases.csv");
  table.channels = {"t2f", "t1c"};
  const Dataset dataset = open_dataset(table, Labels::kRequired);
  EXPECT_EQ(dataset.layout, "csv");
  ASSERT_EQ(dataset.cases.size(), 2);
  EXPECT_EQ(dataset.cases[0].name, "one-1-2");
  EXPECT_EQ(dataset.cases[0].patient, "one-1");
  EXPECT_EQ(dataset.cases[1].patient, "p1");
  EXPECT_THAT(files(dataset.cases[0]), ElementsAre("a.nii.gz", "a.nii.gz"));
  EXPECT_THAT(files(dataset.cases[1]), ElementsAre("b c.nii.gz", "a.nii.gz"));
  EXPECT_EQ(file(dataset.cases[1].labels), "sub/l.nii.gz");
  EXPECT_THAT(classes_of(dataset.class_map, {3, 4}), ElementsAre(3, 3));
}

TEST_F(DatasetTest, CsvErrorsNameTheLine) {
  touch("a.nii.gz");
  DatasetConfig table = config("cases.csv");
  table.channels = {"t1c"};
  const std::string origin = (fs::canonical(root()) / "cases.csv").string();
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"t1c,labels\n", ":1: has no column 'case'; its columns are t1c, labels"},
           {"case,t1c\n", ":1: has no column 'labels'; its columns are case, t1c"},
           {"case,t1c,seg,label\n", ":1: both 'seg' and 'label' may be the column 'labels'"},
           {"case,t1,labels\n",
            ":1: has no channel 't1c'; for the channels it has, put into the "
            "config: data.channels: [t1]"},
           {"case,t1c,labels\n", ": has no rows but its header"},
           {"case,t1c,labels\n,a.nii.gz,a.nii.gz\n", ":2: the case has no name"},
           {"case,t1c,labels\nx,a.nii.gz,a.nii.gz\nx,a.nii.gz,a.nii.gz\n",
            ":3: the case 'x' stands in line 2 already"},
           {"case,t1c,labels\nx,a.nii.gz\n", ":2: has 2 fields where the header has 3"}}) {
    write("cases.csv", text);
    EXPECT_EQ(error_of(table), origin + message);
  }
  write("cases.csv", "case,t1c,labels\nx,,b.nii.gz\ny,a.nii.gz,\n");
  EXPECT_THAT(messages(survey_dataset(table, Labels::kRequired).missing),
              ElementsAre("x: " + origin + ":2: no file for t1c",
                          "x: " + (fs::canonical(root()) / "b.nii.gz").string() + " is missing",
                          "y: " + origin + ":3: no file for the labels"));
}

// Channels of a case may have names of which one begins as the other does.
TEST_F(DatasetTest, EachMissingFileIsNamed) {
  write("cases.csv", "case,t1c,t2f\nx,ab,a\n");
  DatasetConfig table = config("cases.csv");
  table.channels = {"t1c", "t2f"};
  const std::string base = fs::canonical(root()).string();
  EXPECT_THAT(messages(survey_dataset(table, Labels::kOptional).missing),
              ElementsAre("x: " + base + "/ab is missing", "x: " + base + "/a is missing"));
}

// So that a folder that was moved does not take hundreds of bytes for each of its files.
TEST_F(DatasetTest, BeyondTenThousandNotesACaseHasOne) {
  std::string text = "case,t1c,t2f\n";
  for (int i = 0; i < 5002; ++i) text += std::to_string(100'000 + i) + ",b,c\n";
  write("cases.csv", text);
  DatasetConfig table = config("cases.csv");
  table.channels = {"t1c", "t2f"};
  const std::string base = fs::canonical(root()).string();
  const auto missing = survey_dataset(table, Labels::kOptional).missing;
  ASSERT_EQ(missing.size(), 10'002U);
  EXPECT_EQ(missing[9998].message, base + "/b is missing");
  EXPECT_EQ(missing[9999].message, base + "/c is missing");
  EXPECT_EQ(missing[10'000].case_name, "105000");
  EXPECT_EQ(missing[10'000].message, base + "/b is missing (and more)");
  EXPECT_EQ(missing[10'001].case_name, "105001");
  EXPECT_EQ(missing[10'001].message, base + "/b is missing (and more)");
  EXPECT_EQ(error_of(table, Labels::kOptional),
            "case 100000: " + base + "/b is missing (and 10001 more; see segmamba-data check)");
}

// Paths take some hundred bytes each. A list of names as people give them may have any length.
TEST_F(DatasetTest, AListOfShortNamesHasABound) {
  touch("a");
  const auto write_table = [&](int cases) {
    std::string text = "case,t1n,t1c,t2w,t2f\n";
    for (int i = 0; i < cases; ++i) text += std::to_string(i) + ",a,a,a,a\n";
    write("cases.csv", text);
    return text.size();
  };
  const DatasetConfig table = config("cases.csv");
  write_table(20'000);
  EXPECT_EQ(open_dataset(table, Labels::kOptional).cases.size(), 20'000U);
  const std::size_t bytes = write_table(33'000);
  EXPECT_EQ(error_of(table, Labels::kOptional),
            concat((fs::canonical(root()) / "cases.csv").string(), ": lists more than ",
                   100'000 + bytes / 16, " files"));
}

TEST_F(DatasetTest, PathsAreNoLongerThanTheSystemTakes) {
  const std::string longest(4095, 'a'), longer(4096, 'a');
  const std::string base = fs::canonical(root()).string();
  DatasetConfig one = config("cases.csv");
  one.channels = {"t1n"};
  one.classes = {"background", "lesion"};
  write("cases.csv", concat("case,t1n,labels\nx,", longest, ",\n"));
  EXPECT_EQ(survey_dataset(one, Labels::kOptional).missing.size(), 1U);
  write("cases.csv", concat("case,t1n,labels\nx,", longer, ",\n"));
  EXPECT_EQ(error_of(one),
            base + "/cases.csv:2: a path of 4096 bytes in column 't1n'; 4095 are possible");
  const fs::path table = root() / "cases.csv";
  write("cases.csv", concat("case,t1n,labels\nx,,", longer, "\n"));
  EXPECT_EQ(test::error_of([&] { labels_of_table(table); }),
            table.string() + ":2: a path of 4096 bytes in column 'labels'; 4095 are possible");

  const auto json_error = [&](const std::string& key, const std::string& list) {
    write("dataset.json", concat("{\"", key, R"(": {"0": "t1n"},
      "labels": {"background": 0, "lesion": 1}, )",
                                 list, "}"));
    one.root = root().string();
    return error_of(one, Labels::kOptional);
  };
  const std::string begin = base + "/dataset.json: ",
                    end = ": a path of 4096 bytes; 4095 are possible";
  EXPECT_EQ(json_error("modality",
                       concat(R"("training": [{"image": "a.nii"}, {"image": ")", longer, R"("}])")),
            begin + "training: entry 2: image" + end);
  EXPECT_EQ(json_error("modality",
                       concat(R"("training": [{"image": "a.nii", "label": ")", longer, R"("}])")),
            begin + "training: entry 1: label" + end);
  EXPECT_EQ(
      json_error("channel_names", concat(R"("dataset": {"x": {"images": [")", longer, R"("]}})")),
      begin + "dataset: x: images" + end);
  EXPECT_EQ(json_error("channel_names", concat(R"("dataset": {"x": {"images": ["a"], "label": ")",
                                               longer, R"("}})")),
            begin + "dataset: x: label" + end);
}

TEST_F(DatasetTest, CasesAreNamedLikeFiles) {
  touch("a.nii.gz");
  DatasetConfig table = config("cases.csv");
  table.channels = {"t1c"};
  for (const char* name : {"a/b", "..", ".hidden", "\"a\nb\""}) {
    write("cases.csv", concat("case,t1c,labels\n", name, ",a.nii.gz,a.nii.gz\n"));
    EXPECT_THAT(error_of(table), HasSubstr("a case cannot be named")) << name;
  }
}

TEST_F(DatasetTest, NamesOfCasesLeaveRoomForTheEndsOfFiles) {
  const std::string longest(kLongestCaseName, 'n'), longer = longest + "n";
  touch(concat(".", longest, ".case-lock"));  // the system takes it
  touch("a.nii.gz");
  DatasetConfig table = config("cases.csv");
  table.channels = {"t1c"};
  const auto write_rows = [&](const std::string& name) {
    write("cases.csv",
          concat("case,t1c,labels\nb,a.nii.gz,a.nii.gz\n", name, ",a.nii.gz,a.nii.gz\n"));
  };
  write_rows(longest);
  EXPECT_EQ(error_of(table), "");
  const std::string refusal =
      concat("a case cannot be named '", std::string(100, 'n'),
             "...': its outputs are files of that name, which has 245 bytes; 244 are possible");
  write_rows(longer);
  EXPECT_THAT(error_of(table), HasSubstr("cases.csv:3: " + refusal));
  write_rows("red \x1b[31m");
  EXPECT_THAT(error_of(table), HasSubstr("cases.csv:3: a case cannot be named 'red ?[31m'"));
  write_rows(std::string(100'000, 'n'));
  EXPECT_THAT(error_of(table), HasSubstr("100000 bytes; 244 are possible"));

  write("dataset.json", concat(R"({"channel_names": {"0": "t1c"}, "dataset": {")", longer,
                               R"(": {"images": ["a.nii.gz"], "label": "a.nii.gz"}}})"));
  DatasetConfig list = config("dataset.json");
  list.channels = {"t1c"};
  list.classes = {};
  EXPECT_THAT(error_of(list), HasSubstr(refusal));
}

TEST_F(DatasetTest, NnunetFilesInOneFolder) {
  for (const char* name : {"b_0000.nii.gz", "b_0001.nii.gz", "a_1_0000.nii", "a_1_0001.nii",
                           "c_0001.nii.gz", "b_0002.nii.gz", "notes.nii.gz", "log.txt"}) {
    touch(name);
  }
  DatasetConfig two = config();
  two.channels = {"t1c", "t2f"};
  const DatasetSurvey survey = survey_dataset(two, Labels::kOptional);
  EXPECT_EQ(survey.dataset.layout, "nnunet-files");
  const auto& cases = survey.dataset.cases;
  ASSERT_EQ(cases.size(), 3);
  EXPECT_EQ(cases[0].name, "a_1");
  EXPECT_THAT(files(cases[0]), ElementsAre("a_1_0000.nii", "a_1_0001.nii"));
  EXPECT_THAT(files(cases[1]), ElementsAre("b_0000.nii.gz", "b_0001.nii.gz"));
  EXPECT_THAT(files(cases[2]), ElementsAre("", "c_0001.nii.gz"));
  const std::string base = fs::canonical(root()).string();
  EXPECT_THAT(messages(survey.missing),
              ElementsAre(concat("c: ", base, "/c_0000.nii.gz is missing")));
  EXPECT_THAT(
      messages(survey.ignored),
      ElementsAre(concat(": ", base, "/notes.nii.gz: not taken, as it is not named NAME_0000"),
                  concat("b: ", base,
                         "/b_0002.nii.gz: not taken, as the config has 2 channels, 0000 to "
                         "0001")));
  EXPECT_THAT(classes_of(survey.dataset.class_map, {0, 3, 4}), ElementsAre(0, 3, 3));
  EXPECT_THAT(messages(survey_dataset(two, Labels::kRequired).missing).front(),
              HasSubstr("a_1: this layout has no labels"));
  two.layout = "nnunet-files";
  two.root = (root() / "empty").string();
  fs::create_directories(two.root);
  EXPECT_THAT(error_of(two), HasSubstr("files must be named NAME_0000.nii.gz"));
}

TEST_F(DatasetTest, DicomFolders) {
  for (const char* path :
       {"p1/T1ce/0001.dcm", "p1/T1ce/0002.dcm", "p1/FLAIR/IM1", "p2/t1c/a", "p2/other/x",
        "p3/T1c/x", "p3/t1gd/x", "p3/flair/x", "papers/pdf/x", "p4/t1c/x.nii.gz", "p4/t2f/x"}) {
    touch(path);
  }
  DatasetConfig two = config();
  two.channels = {"t2f", "t1c"};
  const DatasetSurvey survey = survey_dataset(two, Labels::kOptional);
  EXPECT_EQ(survey.dataset.layout, "dicom");
  const auto& cases = survey.dataset.cases;
  ASSERT_EQ(cases.size(), 4);
  EXPECT_EQ(cases[0].name, "p1");
  EXPECT_THAT(files(cases[0]), ElementsAre("p1/FLAIR", "p1/T1ce"));
  EXPECT_THAT(files(cases[1]), ElementsAre("", "p2/t1c"));
  EXPECT_THAT(files(cases[2]), ElementsAre("p3/flair", ""));
  EXPECT_THAT(files(cases[3]), ElementsAre("p4/t2f", ""));
  const std::string base = fs::canonical(root()).string();
  EXPECT_THAT(
      messages(survey.missing),
      ElementsAre(concat("p2: ", base, "/p2/t2f is missing: a folder of the DICOM files of t2f"),
                  concat("p3: ", base, "/p3: T1c and t1gd have the same meaning; keep one of them"),
                  concat("p4: ", base, "/p4/t1c is missing: a folder of the DICOM files of t1c")));
  EXPECT_THAT(messages(survey.ignored),
              ElementsAre("papers: not taken as a case: no folder in it is named as a channel "
                          "(t2f, t1c) and holds DICOM files"));
  // A case by itself.
  EXPECT_EQ(open_dataset({.root = (root() / "p1").string(), .channels = {"t1c"}}, Labels::kOptional)
                .cases.at(0)
                .name,
            "p1");
  EXPECT_THAT(messages(survey_dataset(two, Labels::kRequired).missing).front(),
              HasSubstr("p1: this layout has no labels"));
  two.layout = "dicom";
  two.root = (root() / "p1/T1ce").string();
  EXPECT_THAT(error_of(two), HasSubstr("a folder of DICOM files a channel, as in NAME/t2f"));
}

// Which folders are series, files must say then.
TEST_F(DatasetTest, DicomFoldersWithoutChannels) {
  for (const char* path : {"p1/T1ce/README", "p1/FLAIR/.DS_Store", "papers/pdf/x"}) touch(path);
  for (const char* path : {"p1/T1ce/a", "p1/FLAIR/a", "p2/CT/a", "p2/CT/b"}) touch_dicom(path);
  const DatasetSurvey survey = survey_dataset(names_only(), Labels::kOptional);
  EXPECT_EQ(survey.dataset.layout, "dicom");
  EXPECT_THAT(names_of(survey), ElementsAre("p1", "p2"));
  EXPECT_THAT(survey.missing, IsEmpty());
  // A series beside the cases; one case alone.
  touch_dicom("localiser/a");
  EXPECT_THAT(names_of(survey_dataset(names_only(), Labels::kOptional)), ElementsAre("p1", "p2"));
  DatasetConfig one = names_only();
  one.root = (root() / "p1").string();
  EXPECT_THAT(names_of(survey_dataset(one, Labels::kOptional)), ElementsAre("p1"));
}

TEST_F(DatasetTest, OtherFoldersBesideBratsCasesAreNoSeries) {
  write_case(root(), kName);
  for (const char* path : {"cache/a.case", "docs/readme.txt", "A/run/log.txt"}) touch(path);
  touch_dicom("raw/a");
  const DatasetSurvey survey = survey_dataset(names_only(), Labels::kOptional);
  EXPECT_EQ(survey.dataset.layout, "brats");
  EXPECT_THAT(names_of(survey), ElementsAre(kName));
}

TEST_F(DatasetTest, OneFolderThatCannotBeACaseIsMissing) {
  write_case(root(), kName);
  touch("a\n\x1b[31m/a\n\x1b[31m-t1n.nii.gz");
  fs::create_directory(root() / "b\nc");
  fs::create_symlink("loop", root() / "loop");
  const std::string base = fs::canonical(root()).string();
  const DatasetSurvey survey = survey_dataset(config(), Labels::kOptional);
  EXPECT_THAT(names_of(survey), ElementsAre(kName));
  EXPECT_THAT(messages(survey.missing),
              ::testing::IsSupersetOf({concat("a??[31m: ", base,
                                              ": a case cannot be named 'a??[31m': its "
                                              "outputs are files of that name"),
                                       concat("loop: cannot read ", base,
                                              "/loop: Too many levels of symbolic links")}));
  EXPECT_THAT(messages(survey.ignored),
              ElementsAre("b?c: not taken as a case: no files b?c-CHANNEL.nii.gz in it"));
  EXPECT_THAT(error_of(config()), HasSubstr("case a??[31m: "));
  DatasetConfig dicom = config();
  dicom.layout = "dicom";
  EXPECT_THAT(messages(survey_dataset(dicom, Labels::kOptional).missing),
              ElementsAre(HasSubstr("/loop: Too many levels of symbolic links")));
}

TEST_F(DatasetTest, OneFolderThatCannotBeReadIsMissing) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  write_case(root(), kName);
  const auto locked = root() / "BraTS-GLI-00002-000";
  fs::create_directory(locked);
  fs::permissions(locked, fs::perms::none);
  EXPECT_THAT(messages(survey_dataset(config(), Labels::kOptional).missing),
              ElementsAre(concat("BraTS-GLI-00002-000: cannot read ",
                                 fs::canonical(locked).string(), ": Permission denied")));
  EXPECT_THAT(error_of(config()), HasSubstr("Permission denied"));
  fs::permissions(locked, fs::perms::owner_all);
}

// The first case says what a folder is.
TEST_F(DatasetTest, FoldersOfNiftiFilesAreNotTakenForDicom) {
  touch("a/readme/x");
  touch("b/b-t1c.nii.gz");
  touch("b/t1c/x");
  touch("c/t1c/x");
  DatasetConfig one = config();
  one.channels = {"t1c"};
  EXPECT_EQ(survey_dataset(one, Labels::kOptional).dataset.layout, "brats");
  one.layout = "dicom";
  EXPECT_EQ(survey_dataset(one, Labels::kOptional).dataset.cases.size(), 2);
}

TEST_F(DatasetTest, FilesByName) {
  touch("a.nii.gz");
  touch("series/x");
  const std::string file = (root() / "a.nii.gz").string(), folder = (root() / "series").string();
  DatasetConfig two;
  two.channels = {"t2f", "t1c"};
  two.label_map = {"7=enhancing"};
  const Dataset dataset = dataset_of_files(two, "x-1-2", {"T1ce=" + file, "FLAIR=" + folder});
  EXPECT_THAT(dataset.channels, ElementsAre("t2f", "t1c"));
  EXPECT_THAT(classes_of(dataset.class_map, {0, 3, 4, 7}), ElementsAre(0, 3, 3, 3));
  ASSERT_EQ(dataset.cases.size(), 1);
  EXPECT_EQ(dataset.cases[0].name, "x-1-2");
  EXPECT_EQ(dataset.cases[0].patient, "x-1");
  EXPECT_TRUE(dataset.cases[0].labels.empty());
  EXPECT_EQ(dataset.cases[0].images.at(0).path, folder);
  EXPECT_EQ(dataset.cases[0].images.at(1).path, file);
  const auto refusal = [&](const std::vector<std::string>& files,
                           const std::string& name = "x") -> std::string {
    return test::error_of([&] { dataset_of_files(two, name, files); });
  };
  EXPECT_EQ(refusal({"t1c=" + file}), "case x: no file for t2f; give t2f=PATH");
  EXPECT_EQ(refusal({}), "case x: no file for t2f, t1c; give t2f=PATH");
  EXPECT_EQ(refusal({"t1c=" + file, "CT=" + file}),
            "CT=" + file + ": there is no channel 'CT'; there are t2f, t1c");
  EXPECT_EQ(refusal({"t1c=" + file, "T1Gd=" + folder}),
            "channel t1c is given twice: " + file + " and " + folder);
  EXPECT_EQ(refusal({"t1c=" + file + "x"}), "channel t1c: " + file + "x does not exist");
  EXPECT_EQ(refusal({"t1c=" + std::string(4096, 'a')}),
            "channel t1c: a path of 4096 bytes; 4095 are possible");
  for (const std::string bad : {"t1c", "t1c=", ""}) {
    EXPECT_EQ(refusal({bad}), "'" + bad + "' is not CHANNEL=PATH, such as t1c=scan.nii.gz");
  }
  EXPECT_THAT(refusal({"t1c=" + file}, "a/b"), HasSubstr("a case cannot be named 'a/b'"));
}

// Damage makes an Error, or another data set, and never anything else.
TEST_F(DatasetTest, EveryByteOfATableOrJsonMayBeDamaged) {
  const std::string json = R"({"channel_names": {"0": "FLAIR"}, "file_ending": ".nii.gz",
    "labels": {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3}, "dataset":
    {"a": {"images": ["a.nii.gz"], "label": "a.nii.gz"}}})";
  const std::string csv = "case,t2f,labels\n\"a\",a.nii.gz,\"a.nii.gz\"\nb,a.nii.gz,b.nii.gz\n";
  touch("a.nii.gz");
  write("dataset.json", json);
  write("cases.csv", csv);
  int opened = 0;
  for (const auto& [file, good] : {std::pair{"dataset.json", json}, {"cases.csv", csv}}) {
    DatasetConfig one = config(file);
    one.channels = {"t2f"};
    EXPECT_NO_THROW(survey_dataset(one, Labels::kRequired));
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (const char letter : {'\0', '"', '[', '{', ',', '9', '-', '\n', '\xff', 'x'}) {
        std::string bad = good;
        bad[i] = letter;
        std::ofstream(root() / file, std::ios::binary) << bad;
        try {
          survey_dataset(one, Labels::kRequired);
          ++opened;
        } catch (const Error&) {
        }
      }
    }
    write(file, good);
  }
  EXPECT_GT(opened, 100);
}

// A split needs names alone.
TEST_F(DatasetTest, NamesWithoutChannelsAndClasses) {
  write("dataset.json", R"({"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}})");
  touch("imagesTr/a_0000.nii.gz");
  DatasetConfig names = config();
  names.channels = {};
  names.classes = {};
  const Dataset dataset = open_dataset(names, Labels::kOptional);
  EXPECT_EQ(dataset.cases.at(0).name, "a");
  EXPECT_THAT(dataset.cases.at(0).images, IsEmpty());
}

TEST_F(DatasetTest, ChannelsAreLookedAtWhereLesionsStandOut) {
  EXPECT_THAT(viewing_order(kBratsChannels), ElementsAre(1, 3, 0, 2));
  EXPECT_THAT(viewing_order({"T2", "FLAIR", "T1", "T1-Gd"}), ElementsAre(3, 1, 0, 2));
  EXPECT_THAT(viewing_order({"T2w", "t2_flair"}), ElementsAre(1, 0));
  EXPECT_THAT(viewing_order({"PET", "CT"}), ElementsAre(0, 1));
  EXPECT_THAT(viewing_order({}), ElementsAre());
}

TEST_F(DatasetTest, ConfigListsItsKeys) {
  const auto document = ConfigDocument::from_text(
      "root: x\nlayout: nnunet\nchannels: [CT]\nclasses: [background, liver]\nlabel_map: [2=liver]",
      "c.yaml");
  DatasetConfig read;
  document.read(read);
  EXPECT_EQ(read.root, "x");
  EXPECT_EQ(read.layout, "nnunet");
  EXPECT_THAT(read.channels, ElementsAre("CT"));
  EXPECT_THAT(read.classes, ElementsAre("background", "liver"));
  EXPECT_THAT(read.label_map, ElementsAre("2=liver"));
  for (const auto& layout : kLayouts) {
    ConfigDocument::from_text("layout: " + layout, "c.yaml").read(read);
    EXPECT_EQ(read.layout, layout);
  }
  EXPECT_THROW(ConfigDocument::from_text("layout: bids", "c.yaml").read(read), Error);
}

}  // namespace
}  // namespace segmamba::data
