#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace segmamba {

// A file as read-only memory; pages are read when they are touched, and belong to the system's file
// cache, not to this process.
class MappedFile {
 public:
  // Throws Error where the file cannot be opened, is no regular file, or is empty.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace segmamba
