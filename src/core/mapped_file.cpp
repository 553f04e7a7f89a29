#include "segmamba/core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "fail_reading.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "special_file.h"

namespace segmamba {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const auto fail = [&](const char* why) {
    return Error(concat("cannot read ", path.string(), ": ", why));
  };
  refuse_special_file(path);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail_reading(path, errno);
  struct stat status {};
  const bool is_known = ::fstat(file, &status) == 0;
  void* memory = MAP_FAILED;
  int error = errno;
  if (is_known && S_ISREG(status.st_mode) && status.st_size > 0) {
    memory =
        ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_SHARED, file, 0);
    error = errno;
  }
  ::close(file);
  if (!is_known) fail_reading(path, error);
  if (!S_ISREG(status.st_mode)) throw fail("is no regular file");
  if (status.st_size == 0) throw fail("is empty");
  if (memory == MAP_FAILED) fail_reading(path, error);
  bytes_ = {static_cast<const std::byte*>(memory), static_cast<std::size_t>(status.st_size)};
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size()); }

}  // namespace segmamba
