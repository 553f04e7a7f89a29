#pragma once
// A file that grows row by row while a long run goes on.

#include <sys/types.h>

#include <filesystem>
#include <string_view>

namespace segmamba {

// What was written is the system's at once: a program that dies loses at most the row it was
// writing.
class AppendFile {
 public:
  // Makes the file where there is none. Throws WriteError.
  explicit AppendFile(std::filesystem::path path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // All of it or, as far as the system lets, nothing. Throws WriteError naming the file and the
  // reason, such as a full disk.
  void write(std::string_view bytes);
  // Cuts the last line away where it has no line break, because its writer was killed.
  void drop_half_line();
  const std::filesystem::path& path() const { return path_; }

 private:
  void take_back(off_t bytes);

  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace segmamba
