#pragma once
// The zip archives of torch.save. Everything in them is stored as it is, not compressed, so what
// they hold takes no more bytes than the file: an archive that claims otherwise is refused.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "segmamba/core/random_access_file.h"

namespace segmamba::nn {

class ZipReader {
 public:
  // Reads the directory. `file` must outlive the reader. Throws Error where it is damaged, or
  // entries are compressed, encrypted, listed twice, overlap or lie outside the file; ReadError,
  // as read() does, where the file cannot be read.
  explicit ZipReader(const RandomAccessFile& file);

  // Names without the folder that all of them are in. torch.save names it after the file.
  bool has(const std::string& name) const { return entries_.contains(name); }
  std::uint64_t size(const std::string& name) const;
  // Reads the whole entry, size() bytes. Throws Error where its checksum is wrong.
  void read(const std::string& name, void* destination) const;
  std::string read(const std::string& name) const;

 private:
  struct Entry {
    std::string name;
    std::uint64_t header = 0, data = 0, bytes = 0;  // places in the file
    std::uint32_t checksum = 0;
  };

  void read_at(std::uint64_t place, void* destination, std::uint64_t bytes) const;
  std::string read_at(std::uint64_t place, std::uint64_t bytes) const;
  std::vector<Entry> read_directory();
  void locate_data(std::vector<Entry>& entries, std::uint64_t directory) const;
  const Entry& find(const std::string& name) const;

  const RandomAccessFile& file_;
  std::uint64_t directory_ = 0;
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace segmamba::nn
