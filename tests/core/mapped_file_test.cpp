#include "segmamba/core/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <new>
#include <string>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "support/error_of.h"
#include "support/limited_memory.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

TEST(MappedFile, HoldsTheBytesOfTheFile) {
  const test::TemporaryFolder folder;
  const std::string content("line\n\0binary", 12);
  write_file_atomically(folder.path() / "file", content);
  const MappedFile file(folder.path() / "file");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()),
            content);
}

TEST(MappedFile, ErrorsNameTheFile) {
  const test::TemporaryFolder folder;
  const auto error = [](const fs::path& path) {
    return test::error_of([&] { const MappedFile file(path); });
  };
  const auto missing = folder.path() / "none", empty = folder.path() / "empty";
  EXPECT_THROW(MappedFile{missing}, ReadError);
  EXPECT_EQ(error(missing), "cannot read " + missing.string() + ": No such file or directory");
  write_file_atomically(empty, "");
  EXPECT_EQ(error(empty), "cannot read " + empty.string() + ": is empty");
  EXPECT_EQ(error(folder.path()), "cannot read " + folder.path().string() + ": is no regular file");
  const auto pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(error(pipe), "cannot read " + pipe.string() + ": is a pipe, not a file");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(MappedFile, NoRoomIsNoFaultOfTheFile) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "large";
  write_file_atomically(path, "x");
  fs::resize_file(path, std::uintmax_t{1} << 32);  // a hole
  const test::LimitedMemory limit(1 << 28);
  EXPECT_THROW(MappedFile{path}, std::bad_alloc);
}
#endif

}  // namespace
}  // namespace segmamba
