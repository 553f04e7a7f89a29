#pragma once
// A file that is read piece by piece, at any place.

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace segmamba {

class RandomAccessFile {
 public:
  // Throws ReadError naming the file and the reason, also where it is a folder.
  explicit RandomAccessFile(std::filesystem::path path);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  // When it was opened.
  std::uint64_t size() const { return size_; }
  // Reads `count` bytes from `place` on; false where the file ends before. Interrupted and short
  // reads go on. Throws ReadError where the system cannot read them, which a stream would not tell
  // from the end of the file.
  [[nodiscard]] bool read_at(std::uint64_t place, void* target, std::size_t count) const;

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace segmamba
