#include "segmamba/data/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// `patients` patients, every third with two scans.
std::vector<Case> make_cases(int patients) {
  std::vector<Case> cases;
  for (int i = 0; i < patients; ++i) {
    std::string number = std::to_string(100000 + i).substr(1);
    for (int scan = 0; scan < (i % 3 == 0 ? 2 : 1); ++scan) {
      Case item;
      item.name = "BraTS-GLI-" + number + "-00" + std::to_string(scan);
      item.patient = patient_of(item.name);
      cases.push_back(item);
    }
  }
  return cases;
}

std::set<std::string> patients_of(const std::vector<std::string>& names) {
  std::set<std::string> patients;
  for (const auto& name : names) patients.insert(patient_of(name));
  return patients;
}

bool same(const Split& a, const Split& b) {
  return a.train == b.train && a.validation == b.validation && a.test == b.test;
}

TEST(SplitTest, IsSeventyTenTwentyByPatient) {
  for (const int count : {10, 100, 1251}) {
    const Split split = make_split(make_cases(count), 1);
    EXPECT_NEAR(static_cast<double>(patients_of(split.train).size()), 0.7 * count, 1);
    EXPECT_NEAR(static_cast<double>(patients_of(split.validation).size()), 0.1 * count, 1);
    EXPECT_NEAR(static_cast<double>(patients_of(split.test).size()), 0.2 * count, 1);
  }
}

TEST(SplitTest, HoldsEveryCaseOnceAndNoPatientTwice) {
  const auto cases = make_cases(60);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Split split = make_split(cases, seed);
    std::multiset<std::string> names;
    std::map<std::string, int> parts_of_patient;
    for (const auto* part : {&split.train, &split.validation, &split.test}) {
      EXPECT_TRUE(std::is_sorted(part->begin(), part->end()));
      names.insert(part->begin(), part->end());
      for (const auto& patient : patients_of(*part)) ++parts_of_patient[patient];
    }
    std::multiset<std::string> expected;
    for (const auto& item : cases) expected.insert(item.name);
    EXPECT_EQ(names, expected);
    for (const auto& [patient, parts] : parts_of_patient) EXPECT_EQ(parts, 1) << patient;
  }
}

TEST(SplitTest, DependsOnNamesAndSeedAlone) {
  auto cases = make_cases(60);
  const Split split = make_split(cases, 7);
  std::reverse(cases.begin(), cases.end());
  EXPECT_TRUE(same(make_split(cases, 7), split));
  EXPECT_FALSE(same(make_split(cases, 8), split));
}

// The numbers themselves: a change of the hash or of the random numbers would silently mix training
// and test cases of existing users.
TEST(SplitTest, StaysAsItIs) {
  const Split split = make_split(make_cases(10), 42);
  EXPECT_THAT(split.validation, ElementsAre("BraTS-GLI-00001-000"));
  EXPECT_THAT(split.test,
              ElementsAre("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00005-000"));
}

TEST(SplitTest, FewPatientsFillTrainThenValidationThenTest) {
  const auto sizes = [](int patients) {
    const Split split = make_split(make_cases(patients), 3);
    return std::array<std::size_t, 3>{patients_of(split.train).size(),
                                      patients_of(split.validation).size(),
                                      patients_of(split.test).size()};
  };
  using Sizes = std::array<std::size_t, 3>;
  EXPECT_EQ(sizes(1), (Sizes{1, 0, 0}));
  EXPECT_EQ(sizes(2), (Sizes{1, 1, 0}));
  EXPECT_EQ(sizes(3), (Sizes{1, 1, 1}));
  EXPECT_EQ(sizes(5), (Sizes{3, 1, 1}));
  EXPECT_THROW(make_split({}, 3), Error);
}

TEST(Folds, AreDisjointEvenAndByPatient) {
  const auto cases = make_cases(53);
  const auto folds = make_folds(cases, 5, 0.2, 4);
  EXPECT_EQ(patients_of(folds.test).size(), 11U);  // 20 % of 53
  std::multiset<std::string> names(folds.test.begin(), folds.test.end());
  std::map<std::string, int> parts_of_patient;
  for (const auto& patient : patients_of(folds.test)) ++parts_of_patient[patient];
  ASSERT_EQ(folds.folds.size(), 5U);
  for (const auto& fold : folds.folds) {
    EXPECT_TRUE(std::is_sorted(fold.begin(), fold.end()));
    EXPECT_THAT(patients_of(fold).size(), ::testing::AnyOf(8U, 9U));  // 42 patients
    names.insert(fold.begin(), fold.end());
    for (const auto& patient : patients_of(fold)) ++parts_of_patient[patient];
  }
  std::multiset<std::string> expected;
  for (const auto& item : cases) expected.insert(item.name);
  EXPECT_EQ(names, expected);
  for (const auto& [patient, parts] : parts_of_patient) EXPECT_EQ(parts, 1) << patient;
  EXPECT_EQ(make_folds(cases, 5, 0, 4).test.size(), 0U);
  EXPECT_THROW(make_folds(make_cases(4), 5, 0, 4), Error);
  EXPECT_THROW(make_folds(cases, 1, 0, 4), Error);
}

TEST(LeakingPatients, AreThoseInTwoParts) {
  const auto cases = make_cases(20);
  Split split = make_split(cases, 1);
  EXPECT_TRUE(leaking_patients(split, cases).empty());
  // Patient 0 has two scans.
  split.train = {"BraTS-GLI-00000-000"};
  split.validation = {};
  split.test = {"BraTS-GLI-00000-001", "BraTS-GLI-00003-000"};
  EXPECT_THAT(leaking_patients(split, cases), ElementsAre("BraTS-GLI-00000"));
  // Patients as the data set names them, whatever the cases are called.
  Case first, second;
  first.name = "a";
  second.name = "b";
  first.patient = second.patient = "anna";
  EXPECT_THAT(leaking_patients({{"a"}, {"b"}, {}}, {first, second}), ElementsAre("anna"));
}

class SplitFileTest : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }
  std::string error_of(const std::string& text) const {
    write_file_atomically(path(), text);
    try {
      read_split(path());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::filesystem::path path() const { return folder_.path() / "split.yaml"; }
  test::TemporaryFolder folder_;
};

TEST_F(SplitFileTest, ReadsBackWhatItWrote) {
  Split split = make_split(make_cases(20), 5);
  split.train.push_back("name with: colon # and \"quotes\"");
  split.validation = {"2021"};
  split.test = {};
  write_split(path(), split, "by patient, seed 5");
  EXPECT_TRUE(same(read_split(path()), split));
  EXPECT_THAT(read_file(path()), HasSubstr("seed 5"));
}

TEST_F(SplitFileTest, NamesThatYamlTakesForSomethingElseAreQuoted) {
  const std::vector<std::string> names = {
      "null", "Null", "NULL", "~",  "true", "False",      "yes", "NO",  "on",
      "OFF",  "y",    "N",    "1",  "007",  "2024-01-31", "-1",  "1e5", "0x1f",
      "_1",   ".inf", ".nan", "-",  "?",    "=",          "<<",  "---", "a: b",
      "a #",  "*a",   "&a",   "!a", "[a]",  "{a}",        "'a'", " a",  "a "};
  write_split(path(), {names, {"name"}, {}}, "by hand");
  EXPECT_EQ(read_split(path()).train, names);
  for (const auto& name : names) {
    EXPECT_THAT(read_file(path()), HasSubstr("  - \"" + name + "\"\n"));
  }
  EXPECT_THAT(read_file(path()), HasSubstr("  - name\n"));
}

TEST_F(SplitFileTest, AFoldValidatesAndTheOthersTrain) {
  const auto folds = make_folds(make_cases(12), 3, 0.25, 5);
  write_folds(path(), folds, 5);
  for (std::int64_t fold = 0; fold < 3; ++fold) {
    const Split split = read_split(path(), fold);
    EXPECT_EQ(split.validation, folds.folds[static_cast<std::size_t>(fold)]);
    EXPECT_EQ(split.test, folds.test);
    std::vector<std::string> others;
    for (std::int64_t i = 0; i < 3; ++i) {
      if (i == fold) continue;
      const auto& names = folds.folds[static_cast<std::size_t>(i)];
      others.insert(others.end(), names.begin(), names.end());
    }
    std::sort(others.begin(), others.end());
    EXPECT_EQ(split.train, others);
  }
  EXPECT_THAT([&] { read_split(path()); },
              ::testing::ThrowsMessage<Error>(HasSubstr("has 3 folds: set data.fold to 0 to 2")));
  EXPECT_THAT(
      [&] { read_split(path(), 3); },
      ::testing::ThrowsMessage<Error>(HasSubstr("has 3 folds: set data.fold to 0 to 2, not 3")));
  write_split(path(), {{"a"}, {}, {}}, "by hand");
  EXPECT_THAT([&] { read_split(path(), 0); },
              ::testing::ThrowsMessage<Error>(HasSubstr("has no folds, and data.fold is 0")));
}

TEST_F(SplitFileTest, FoldsNeedNotBeSorted) {
  write_file_atomically(
      path(), std::string("fold_0: [d, b]\nfold_1: [f, a]\nfold_2: [e, c]\ntest: [h, g]\n"));
  const Split split = read_split(path(), 1);
  EXPECT_THAT(split.train, ElementsAre("b", "c", "d", "e"));
  EXPECT_THAT(split.validation, ElementsAre("a", "f"));
  EXPECT_THAT(split.test, ElementsAre("h", "g"));
}

TEST_F(SplitFileTest, RefusesNamesThatYamlCannotHold) {
  EXPECT_THROW(write_split(folder_.path() / "split.yaml", {{"case-\xe9"}, {}, {}}, "by hand"),
               Error);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "split.yaml"));
}

TEST_F(SplitFileTest, RefusesMistakes) {
  EXPECT_THAT(error_of("train: [a, b]\nvalidation: [b]\n"), HasSubstr("case b stands twice"));
  EXPECT_THAT(error_of("train: [a]\nvaldation: [b]\n"), HasSubstr("validation"));
  EXPECT_THAT(error_of("train: []\n"), HasSubstr("split.yaml"));
  EXPECT_THAT(error_of("train: ["), HasSubstr("split.yaml"));
}

TEST_F(SplitFileTest, RefusesTooManyFolds) {
  std::string folds;
  for (int i = 0; i < 1001; ++i)
    folds += "fold_" + std::to_string(i) + ": [c" + std::to_string(i) + "]\n";
  EXPECT_THAT(error_of(folds), HasSubstr("split.yaml: has more than 1000 folds"));
}

}  // namespace
}  // namespace segmamba::data
