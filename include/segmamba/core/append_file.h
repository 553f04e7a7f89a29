#pragma once
// A file that grows row by row while a long run goes on.

#include <filesystem>
#include <string_view>

namespace segmamba {

// What was written is the system's at once: a program that dies loses at most the row it was
// writing.
class AppendFile {
 public:
  // Makes the file where there is none. Throws Error.
  explicit AppendFile(std::filesystem::path path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // Throws Error naming the file and the reason, such as a full disk.
  void write(std::string_view bytes);
  // Writes a line break where the last line has none because its writer was killed.
  void end_line();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace segmamba
