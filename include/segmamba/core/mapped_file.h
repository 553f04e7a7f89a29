#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace segmamba {

// A file as read-only memory; pages are read when they are touched, and belong to the system's file
// cache, not to this process.
class MappedFile {
 public:
  // Throws ReadError where the file cannot be opened, Error where it is no regular file or is
  // empty, and std::bad_alloc where there is no room for it among the addresses of the process.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace segmamba
