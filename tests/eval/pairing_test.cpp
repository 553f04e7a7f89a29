#include "segmamba/eval/pairing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.h"
#include "segmamba/core/error.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::write_text;
namespace fs = std::filesystem;

template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(LabelFiles, AreFoundUnderEveryName) {
  const test::TemporaryFolder folder;
  for (const char* name :
       {"a.nii.gz", "b-seg.nii.gz", "c/c-seg.nii.gz", "c/c-t1c.nii.gz", "d/d.nii", "e.nii",
        "f-t1n.nii.gz", "g/g-t2w.nii.gz", ".hidden.nii.gz", "notes.txt"}) {
    write_text(folder.path() / name, "");
  }
  const auto files = find_label_files(folder.path());
  std::vector<std::string> names;
  for (const auto& [name, path] : files) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_EQ(files.at("c"), folder.path() / "c/c-seg.nii.gz");
  EXPECT_EQ(files.at("b"), folder.path() / "b-seg.nii.gz");
}

TEST(LabelFiles, OfACaseFolderAreThatCaseAlone) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "c/c-seg.nii.gz", "");
  write_text(folder.path() / "c/other-seg.nii.gz", "");
  for (const fs::path& root : {folder.path() / "c", folder.path() / "c/"}) {
    const auto files = find_label_files(root);
    ASSERT_EQ(files.size(), 1u);
    EXPECT_EQ(files.begin()->first, "c");
  }
}

TEST(LabelFiles, TwoOfOneCaseAreRefused) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "a.nii.gz", "");
  write_text(folder.path() / "a/a-seg.nii.gz", "");
  EXPECT_THAT(message_of([&] { find_label_files(folder.path()); }),
              HasSubstr("case a has two label files"));
}

TEST(LabelFiles, NoneIsAnError) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { find_label_files(folder.path()); }), HasSubstr("no cases in"));
  EXPECT_THAT(message_of([&] { find_label_files(folder.path() / "absent"); }),
              HasSubstr("does not exist"));
}

TEST(Pairing, ByNameWhateverTheSuffix) {
  const test::TemporaryFolder folder;
  for (const char* name : {"p/a.nii.gz", "p/b.nii", "p/x.nii.gz", "g/a/a-seg.nii.gz",
                           "g/b-seg.nii.gz", "g/c-seg.nii.gz"}) {
    write_text(folder.path() / name, "");
  }
  const Pairing pairing = pair_cases(folder.path() / "p", folder.path() / "g");
  ASSERT_EQ(pairing.pairs.size(), 2u);
  EXPECT_EQ(pairing.pairs[0].name, "a");
  EXPECT_EQ(pairing.pairs[0].prediction, folder.path() / "p/a.nii.gz");
  EXPECT_EQ(pairing.pairs[0].reference, folder.path() / "g/a/a-seg.nii.gz");
  EXPECT_EQ(pairing.pairs[1].name, "b");
  EXPECT_THAT(pairing.missing, ElementsAre("c"));
  EXPECT_THAT(pairing.without_reference, ElementsAre("x"));
}

TEST(Pairing, TwoFilesAreAPairWhateverTheirNames) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "mine.nii.gz", "");
  write_text(folder.path() / "case-seg.nii.gz", "");
  const Pairing pairing =
      pair_cases(folder.path() / "mine.nii.gz", folder.path() / "case-seg.nii.gz");
  ASSERT_EQ(pairing.pairs.size(), 1u);
  EXPECT_EQ(pairing.pairs[0].name, "case");
}

TEST(Pairing, AFileIsPairedWithItsCaseInAFolder) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "p/b.nii.gz", "");
  write_text(folder.path() / "g/a-seg.nii.gz", "");
  write_text(folder.path() / "g/b-seg.nii.gz", "");
  const Pairing pairing = pair_cases(folder.path() / "p/b.nii.gz", folder.path() / "g");
  ASSERT_EQ(pairing.pairs.size(), 1u);
  EXPECT_EQ(pairing.pairs[0].reference, folder.path() / "g/b-seg.nii.gz");
  EXPECT_THAT(pairing.missing, ElementsAre("a"));
}

}  // namespace
}  // namespace segmamba::eval
