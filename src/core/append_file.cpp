#include "segmamba/core/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw Error(concat("cannot write ", path.string(), ": ", std::strerror(errno)));
}

}  // namespace

AppendFile::AppendFile(std::filesystem::path path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail(path_);
}

AppendFile::~AppendFile() { ::close(descriptor_); }

void AppendFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      fail(path_);
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void AppendFile::end_line() {
  const off_t size = ::lseek(descriptor_, 0, SEEK_END);
  char last = '\n';
  if (size > 0 && ::pread(descriptor_, &last, 1, size - 1) != 1) fail(path_);
  if (last != '\n') write("\n");
}

}  // namespace segmamba
