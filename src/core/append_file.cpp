#include "segmamba/core/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "fail_writing.h"
#include "retry.h"

namespace segmamba {
AppendFile::AppendFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(retry_interrupted([&] {
        return ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
      })) {
  if (descriptor_ < 0) fail_writing(path_, errno);
}

AppendFile::~AppendFile() { ::close(descriptor_); }

void AppendFile::write(std::string_view bytes) {
  off_t done = 0;
  while (!bytes.empty()) {
    const auto count =
        retry_interrupted([&] { return ::write(descriptor_, bytes.data(), bytes.size()); });
    if (count < 0) {
      const int reason = errno;
      if (done > 0) take_back(done);
      fail_writing(path_, reason);
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
    done += count;
  }
}

void AppendFile::take_back(off_t bytes) {
  const off_t size = ::lseek(descriptor_, 0, SEEK_END);
  if (size < bytes || ::ftruncate(descriptor_, size - bytes) != 0) {
    return;  // half a row stays, as after a kill
  }
}

void AppendFile::drop_half_line() {
  const off_t size = ::lseek(descriptor_, 0, SEEK_END);
  std::array<char, 4096> piece{};
  off_t end = size;
  while (end > 0) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(piece.size()));
    const auto length = static_cast<std::size_t>(end - begin);
    const auto count =
        retry_interrupted([&] { return ::pread(descriptor_, piece.data(), length, begin); });
    if (count != end - begin) fail_writing(path_, count < 0 ? errno : EIO);
    const auto line_break = std::string_view(piece.data(), length).rfind('\n');
    end = line_break == std::string_view::npos ? begin : begin + static_cast<off_t>(line_break) + 1;
    if (line_break != std::string_view::npos) break;
  }
  if (end < size && retry_interrupted([&] { return ::ftruncate(descriptor_, end); }) != 0) {
    fail_writing(path_, errno);
  }
}

}  // namespace segmamba
