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

std::vector<std::string> names_of(const fs::path& root) {
  std::vector<std::string> names;
  for (const auto& [name, paths] : find_label_files(root)) {
    for (const fs::path& path : paths) names.push_back(name + " " + path.filename().string());
  }
  return names;
}

TEST(CaseOfLabelFile, WhateverTheSuffix) {
  for (const char* file :
       {"a-seg.nii.gz", "a_seg.nii.gz", "a.nii.gz", "a.nii", "a.NII.GZ", "a_pred.nii.gz",
        "a-prediction.nii", "a_label.nii.gz", "a_labels.nii.gz", "a_mask.nii.gz", "a_GT.nii.gz"}) {
    EXPECT_EQ(case_of_label_file(file), "a") << file;
  }
  for (const char* file : {"a-t1n.nii.gz", "a_flair.nii.gz", "a_t1ce.nii.gz", "a-t2.nii.gz",
                           ".a.nii.gz", "a.mha", "nii.gz", "notes.txt"}) {
    EXPECT_EQ(case_of_label_file(file), "") << file;
  }
  EXPECT_EQ(case_of_label_file("BraTS-GLI-00001-000.nii.gz"), "BraTS-GLI-00001-000");
  EXPECT_EQ(case_of_label_file("case_0001.nii.gz"), "case_0001");
  EXPECT_EQ(case_of_label_file("seg.nii.gz"), "seg");  // nothing would be left
}

TEST(LabelFiles, AreFoundInEveryLayout) {
  const test::TemporaryFolder folder;
  for (const char* name : {"a.nii.gz", "b-seg.nii.gz", "c/c-seg.nii.gz", "c/c-t1c.nii.gz",
                           "d/d.nii", "e.nii", "f-t1n.nii.gz", "g/g-t2w.nii.gz", "h/seg.nii.gz",
                           "h/t1n.nii.gz", "i/i_pred.nii.gz", ".hidden.nii.gz", "notes.txt"}) {
    write_text(folder.path() / name, "");
  }
  EXPECT_THAT(names_of(folder.path()),
              ElementsAre("a a.nii.gz", "b b-seg.nii.gz", "c c-seg.nii.gz", "d d.nii", "e e.nii",
                          "h seg.nii.gz", "i i_pred.nii.gz"));
}

TEST(LabelFiles, OfADataSetInTheFormatOfNnunet) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "imagesTr/liver_0_0000.nii.gz", "");
  write_text(folder.path() / "labelsTr/liver_0.nii.gz", "");
  EXPECT_THAT(names_of(folder.path()), ElementsAre("liver_0 liver_0.nii.gz"));
}

TEST(LabelFiles, OfACaseFolderAreThatCaseAlone) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "c/c-seg.nii.gz", "");
  write_text(folder.path() / "c/other-seg.nii.gz", "");
  for (const fs::path& root : {folder.path() / "c", folder.path() / "c/"}) {
    EXPECT_THAT(names_of(root), ElementsAre("c c-seg.nii.gz"));
  }
}

TEST(LabelFiles, OfAListOfCases) {
  const test::TemporaryFolder folder;
  const fs::path list = folder.path() / "cases.csv";
  write_text(list, "case,t1c,seg\na,a/t1c.nii.gz,a/truth.nii.gz\nb,b.nii.gz,\n");
  const auto files = find_label_files(list);
  ASSERT_EQ(files.size(), 1);
  EXPECT_THAT(files.at("a"), ElementsAre(folder.path() / "a/truth.nii.gz"));
  write_text(list, "case,seg\na,x.nii.gz\na,y.nii.gz\n");
  EXPECT_EQ(message_of([&] { find_label_files(list); }),
            list.string() + ":3: the case 'a' stands in line 2 already");
  write_text(list, "case,t1c\na,x.nii.gz\n");
  EXPECT_EQ(message_of([&] { find_label_files(list); }),
            list.string() + ":1: has no column 'labels'; its columns are case, t1c");
  write_text(list, "case,seg\na,\n");
  EXPECT_EQ(message_of([&] { find_label_files(list); }),
            list.string() + ": no case has a file of labels");
}

TEST(LabelFiles, OfADoubledCaseAreBothThere) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "a.nii.gz", "");
  write_text(folder.path() / "a/a-seg.nii.gz", "");
  write_text(folder.path() / "b/b_pred.nii", "");
  write_text(folder.path() / "b/b.nii.gz", "");
  EXPECT_THAT(names_of(folder.path()),
              ElementsAre("a a-seg.nii.gz", "a a.nii.gz", "b b.nii.gz", "b b_pred.nii"));
}

// Reading it tells what is wrong, of that case alone.
TEST(LabelFiles, ALinkToItselfIsOne) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "a.nii.gz", "");
  fs::create_directory(folder.path() / "c");
  fs::create_symlink("b.nii.gz", folder.path() / "b.nii.gz");
  fs::create_symlink("c-seg.nii.gz", folder.path() / "c/c-seg.nii.gz");
  fs::create_symlink("notes", folder.path() / "c/notes");
  fs::create_symlink("labelsTr", folder.path() / "labelsTr");
  EXPECT_THAT(names_of(folder.path()), ElementsAre("a a.nii.gz", "b b.nii.gz", "c c-seg.nii.gz"));
}

TEST(LabelFiles, OfOneFile) {
  const test::TemporaryFolder folder;
  write_text(folder.path() / "case-seg.nii.gz", "");
  EXPECT_THAT(names_of(folder.path() / "case-seg.nii.gz"), ElementsAre("case case-seg.nii.gz"));
}

TEST(LabelFiles, NoneIsAnError) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { find_label_files(folder.path()); }), HasSubstr("no cases in"));
  EXPECT_THAT(message_of([&] { find_label_files(folder.path() / "absent"); }),
              HasSubstr("does not exist"));
}

}  // namespace
}  // namespace segmamba::eval
