#include "segmamba/core/random_access_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

// What the ReadError says that `call` throws; "" where it throws none.
template <class Call>
std::string read_error_of(Call call) {
  try {
    call();
  } catch (const ReadError& error) {
    return error.what();
  }
  return "";
}

TEST(RandomAccessFile, ReadsWhatLiesAtAPlace) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "file";
  write_file_atomically(path, std::string("0123456789"));
  const RandomAccessFile file(path);
  EXPECT_EQ(file.size(), 10U);
  std::string bytes(3, ' ');
  EXPECT_TRUE(file.read_at(7, bytes.data(), bytes.size()));
  EXPECT_EQ(bytes, "789");
  EXPECT_TRUE(file.read_at(0, bytes.data(), bytes.size()));
  EXPECT_EQ(bytes, "012");
  EXPECT_TRUE(file.read_at(10, nullptr, 0));
}

TEST(RandomAccessFile, AFileThatEndsIsNoFailure) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "file";
  write_file_atomically(path, std::string("0123456789"));
  const RandomAccessFile file(path);
  std::string bytes(16, ' ');
  EXPECT_FALSE(file.read_at(8, bytes.data(), 3));
  EXPECT_FALSE(file.read_at(0, bytes.data(), 11));
  EXPECT_FALSE(file.read_at(~std::uint64_t{0}, bytes.data(), 1));
  fs::resize_file(path, 4);
  EXPECT_FALSE(file.read_at(2, bytes.data(), 3));
  EXPECT_TRUE(file.read_at(2, bytes.data(), 2));
}

TEST(RandomAccessFile, FailuresNameTheFileAndTheReason) {
  const test::TemporaryFolder folder;
  const auto missing = folder.path() / "none";
  EXPECT_EQ(read_error_of([&] { const RandomAccessFile file(missing); }),
            "cannot read " + missing.string() + ": No such file or directory");
  EXPECT_EQ(read_error_of([&] { const RandomAccessFile file(folder.path()); }),
            "cannot read " + folder.path().string() + ": is a folder");
}

// To open one would wait for ever.
TEST(RandomAccessFile, IsNoPipeOrDevice) {
  const test::TemporaryFolder folder;
  const auto pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(read_error_of([&] { const RandomAccessFile file(pipe); }),
            "cannot read " + pipe.string() + ": is a pipe, not a file");
  EXPECT_EQ(read_error_of([&] { const RandomAccessFile file("/dev/null"); }),
            "cannot read /dev/null: is a device, not a file");
}

// The system refuses to read into memory that is none.
TEST(RandomAccessFile, ARefusedReadIsToldFromTheEnd) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "file";
  write_file_atomically(path, std::string("0123456789"));
  const RandomAccessFile file(path);
  EXPECT_EQ(read_error_of([&] { static_cast<void>(file.read_at(0, nullptr, 1)); }),
            "cannot read " + path.string() + ": Bad address");
}

}  // namespace
}  // namespace segmamba
