#include "segmamba/core/folder.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : entries_of(folder)) names.push_back(entry.path().filename());
  return names;
}

TEST(EntriesOf, AreFilesAndFoldersByName) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
  for (const char* name : {"b", "a.txt", ".hidden", "a"}) {
    write_file_atomically(folder.path() / name, "");
  }
  make_folders(folder.path() / "c" / "inner");
  EXPECT_THAT(names_in(folder.path()), ElementsAre(".hidden", "a", "a.txt", "b", "c"));
}

TEST(EntriesOf, AFolderThatCannotBeReadIsNamed) {
  const test::TemporaryFolder folder;
  const auto read_error_of = [](const std::filesystem::path& path) -> std::string {
    try {
      entries_of(path);
    } catch (const ReadError& error) {
      return error.what();
    }
    return "";
  };
  const auto missing = folder.path() / "missing";
  EXPECT_EQ(read_error_of(missing),
            "cannot read " + missing.string() + ": No such file or directory");
  const auto file = folder.path() / "file";
  write_file_atomically(file, "");
  EXPECT_EQ(read_error_of(file), "cannot read " + file.string() + ": Not a directory");
}

}  // namespace
}  // namespace segmamba
