#include "segmamba/core/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>

#include "fail_writing.h"
#include "host.h"
#include "retry.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolderLockName = ".segmamba-lock";

std::string this_process() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char time[32];
  std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return concat("process ", ::getpid(), " on ", host_name(), " since ", time);
}

// What the holder of a lock has written, or is about to.
std::string holder(const fs::path& path) {
  constexpr std::uint64_t kMostBytes = 4096;
  try {
    const auto text = trim(read_file(path, kMostBytes));
    if (!text.empty()) return text;
  } catch (const Error&) {  // it has just been given back
  }
  return "another process";
}

}  // namespace

FileLock::FileLock(fs::path path) : path_(std::move(path)) {}

FileLock::~FileLock() {
  if (is_held_) ::unlink(path_.c_str());
  if (file_ >= 0) ::close(file_);
}

// A holder may have removed the file between our opening and locking it.
bool FileLock::is_of_path() const {
  struct stat own {
  }, named{};
  return ::fstat(file_, &own) == 0 && ::stat(path_.c_str(), &named) == 0 &&
         own.st_ino == named.st_ino && own.st_dev == named.st_dev;
}

bool FileLock::acquire(bool wait) {
  while (true) {
    file_ = retry_interrupted(
        [&] { return ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666); });
    if (file_ < 0) fail_writing(path_, errno);
    const int result =
        retry_interrupted([&] { return ::flock(file_, wait ? LOCK_EX : LOCK_EX | LOCK_NB); });
    const bool is_taken = result != 0 && errno == EWOULDBLOCK;
    if (!is_taken && (result != 0 || is_of_path())) break;
    ::close(std::exchange(file_, -1));
    if (is_taken) return false;
  }
  is_held_ = true;
  return true;
}

void FileLock::write(const std::string& text) {
  if (retry_interrupted([&] { return ::ftruncate(file_, 0); }) != 0) fail_writing(path_, errno);
  for (std::size_t done = 0; done < text.size();) {
    const auto count = retry_interrupted([&] {
      return ::pwrite(file_, text.data() + done, text.size() - done, static_cast<off_t>(done));
    });
    if (count < 0) fail_writing(path_, errno);
    done += static_cast<std::size_t>(count);
  }
}

FolderLock::FolderLock(const fs::path& folder, const std::string& part)
    : lock_(folder / concat(kFolderLockName, part.empty() ? "" : ".", part)) {
  make_folders(folder);
  if (!lock_.acquire(/*wait=*/false)) {
    throw Error(concat(folder.string(), " is in use by ", holder(lock_.path()),
                       ": wait until it has ended, or give another folder"));
  }
  lock_.write(this_process() + "\n");
}

}  // namespace segmamba
