#pragma once
// The zip archives of torch.save. Everything in them is stored as it is, not compressed, so what
// they hold takes no more bytes than the file: an archive that claims otherwise is refused.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <unordered_map>
#include <vector>

namespace segmamba::nn {

class ZipReader {
 public:
  // Reads the directory. Throws Error where it is damaged, or entries are compressed, encrypted,
  // listed twice, overlap or lie outside the file.
  explicit ZipReader(const std::filesystem::path& path);

  // Names without the folder that all of them are in. torch.save names it after the file.
  bool has(const std::string& name) const { return entries_.contains(name); }
  std::uint64_t size(const std::string& name) const;
  // Reads the whole entry, size() bytes. Throws Error where its checksum is wrong.
  void read(const std::string& name, void* destination);
  std::string read(const std::string& name);

 private:
  struct Entry {
    std::string name;
    std::uint64_t header = 0, data = 0, bytes = 0;  // places in the file
    std::uint32_t checksum = 0;
  };

  void read_at(std::uint64_t place, void* destination, std::uint64_t bytes);
  std::string read_at(std::uint64_t place, std::uint64_t bytes);
  std::vector<Entry> read_directory();
  void locate_data(std::vector<Entry>& entries, std::uint64_t directory);
  const Entry& find(const std::string& name) const;

  std::ifstream stream_;
  std::uint64_t file_bytes_ = 0, directory_ = 0;
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace segmamba::nn
