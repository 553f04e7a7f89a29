#include "gzip_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>

#include "nifti_bytes.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/parallel.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

// Of every byte of the content its place decides.
void fill(std::int64_t offset, std::span<char> bytes) {
  for (char& byte : bytes) {
    byte = static_cast<char>(offset * offset / 7);
    ++offset;
  }
}

std::string content(const std::string& head, std::int64_t size) {
  std::string expected = head + std::string(static_cast<std::size_t>(size), '\0');
  fill(0, std::span(expected).subspan(head.size()));
  return expected;
}

// What a reader gets that stops at the end of the first member. Nothing may follow it.
std::string unpack_one_member(std::string file, std::size_t size) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 16 + MAX_WBITS), Z_OK);
  std::string unpacked(size + 1, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(file.data());
  stream.avail_in = static_cast<uInt>(file.size());
  stream.next_out = reinterpret_cast<Bytef*>(unpacked.data());
  stream.avail_out = static_cast<uInt>(unpacked.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END) << "check sum and size are verified, too";
  EXPECT_EQ(stream.avail_in, 0U);
  unpacked.resize(stream.total_out);
  inflateEnd(&stream);
  return unpacked;
}

class WriteBlocksTest : public ::testing::Test {
 protected:
  void TearDown() override { set_thread_count(threads_); }

  static void write(const std::filesystem::path& path, bool compressed, std::string_view head,
                    std::int64_t size, const FillBytes& fill) {
    write_file_atomically(
        path, [&](OutputFile& file) { write_blocks(file, compressed, head, size, fill); });
  }

  const int threads_ = thread_count();
  test::TemporaryFolder folder_;
};

TEST_F(WriteBlocksTest, IsOneMemberThatDoesNotDependOnThreads) {
  constexpr std::int64_t kBlock = 1 << 20;
  const std::string head = "what stands before";
  for (const std::int64_t size : {std::int64_t{0}, std::int64_t{1}, kBlock, 5 * kBlock + 12345}) {
    const std::string expected = content(head, size);
    std::string first;
    for (const int threads : {1, 2, 5}) {
      set_thread_count(threads);
      const auto path = folder_.path() / "file";
      write(path, true, head, size, fill);
      const std::string written = test::read_bytes(path);
      if (first.empty()) first = written;
      EXPECT_EQ(written, first) << size << " bytes, " << threads << " threads";
      write(path, false, head, size, fill);
      EXPECT_EQ(test::read_bytes(path), expected);
    }
    EXPECT_EQ(unpack_one_member(first, expected.size()), expected);
  }
}

TEST_F(WriteBlocksTest, NoiseGrowsLittle) {
  const auto noise = [](std::int64_t offset, std::span<char> bytes) {
    auto state = static_cast<std::uint64_t>(offset) + 1;
    for (char& byte : bytes) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      byte = static_cast<char>(state >> 56);
    }
  };
  constexpr std::int64_t kSize = (3 << 20) + 77;
  write(folder_.path() / "noise", true, "", kSize, noise);
  const std::string written = test::read_bytes(folder_.path() / "noise");
  EXPECT_LT(written.size(), 1.001 * kSize);
  std::string expected(kSize, '\0');
  for (std::int64_t offset = 0; offset < kSize; offset += 1 << 20) {
    noise(offset, std::span(expected).subspan(offset).first(
                      static_cast<std::size_t>(std::min<std::int64_t>(1 << 20, kSize - offset))));
  }
  EXPECT_EQ(unpack_one_member(written, kSize), expected);
}

// To open a pipe would wait for ever.
TEST(InputFile, IsNoFolderPipeOrDevice) {
  const test::TemporaryFolder folder;
  const auto pipe = folder.path() / "pipe.nii";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto error = [](const std::filesystem::path& path) {
    return test::error_of([&] { const InputFile file(path); });
  };
  EXPECT_EQ(error(pipe), pipe.string() + ": is a pipe, not a NIfTI file");
  EXPECT_EQ(error("/dev/null"), "/dev/null: is a device, not a NIfTI file");
  EXPECT_EQ(error(folder.path()), folder.path().string() + ": is a folder, not a NIfTI file");
}

TEST_F(WriteBlocksTest, PassesOnWhatFillThrows) {
  const auto fails = [](std::int64_t offset, std::span<char>) {
    if (offset > 0) throw Error("no more");
  };
  EXPECT_THROW(write(folder_.path() / "file", true, "head", 3 << 20, fails), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

}  // namespace
}  // namespace segmamba::io
