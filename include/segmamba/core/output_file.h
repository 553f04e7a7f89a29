#pragma once
// A file that is written from its beginning to its end.

#include <cstddef>
#include <filesystem>
#include <ostream>
#include <streambuf>
#include <string>
#include <string_view>

namespace segmamba {

// Small pieces are gathered into writes of 64 KiB. Interrupted and short writes go on.
class OutputFile {
 public:
  // Makes a new file at `path`. Errors name `name`, which is what a person knows it by. Throws
  // WriteError, also where there is a file already.
  OutputFile(const std::filesystem::path& path, std::filesystem::path name);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Throw WriteError naming the file and the reason, such as a full disk.
  void write(std::string_view bytes);
  void write(const void* bytes, std::size_t count);
  // Brings everything to the disk and closes the file. Without it the content is not safe.
  void finish();

 private:
  void flush();
  void write_now(std::string_view bytes);

  std::filesystem::path name_;
  int descriptor_;
  std::string waiting_;
};

// An output file as a stream, for what is made by operators <<. They throw as the file does.
class OutputStream final : public std::ostream {
 public:
  explicit OutputStream(OutputFile& file);

 private:
  class Buffer final : public std::streambuf {
   public:
    explicit Buffer(OutputFile& file) : file_(file) {}

   private:
    int_type overflow(int_type character) override;
    std::streamsize xsputn(const char* bytes, std::streamsize count) override;

    OutputFile& file_;
  };

  Buffer buffer_;
};

}  // namespace segmamba
