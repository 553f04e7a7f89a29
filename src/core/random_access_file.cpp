#include "segmamba/core/random_access_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "fail_reading.h"
#include "retry.h"
#include "special_file.h"

namespace segmamba {

RandomAccessFile::RandomAccessFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(retry_interrupted([&] {
        refuse_special_file(path_);
        return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
      })) {
  if (descriptor_ < 0) fail_reading(path_, errno);
  struct stat status {};
  int code = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
  if (code == 0 && S_ISDIR(status.st_mode)) code = EISDIR;
  if (code != 0) {
    ::close(descriptor_);  // what is not made has no destructor
    fail_reading(path_, code);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

RandomAccessFile::~RandomAccessFile() { ::close(descriptor_); }

bool RandomAccessFile::read_at(std::uint64_t place, void* target, std::size_t count) const {
  if (count > size_ || place > size_ - count) return false;
  auto* bytes = static_cast<char*>(target);
  for (std::size_t done = 0; done < count;) {
    const auto piece = retry_interrupted([&] {
      return ::pread(descriptor_, bytes + done, count - done, static_cast<off_t>(place + done));
    });
    if (piece < 0) fail_reading(path_, errno);
    if (piece == 0) return false;  // another process has cut it short
    done += static_cast<std::size_t>(piece);
  }
  return true;
}

}  // namespace segmamba
