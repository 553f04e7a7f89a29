#include "segmamba/core/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <thread>
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
    auto text = trim(read_file(path, kMostBytes));
    if (!text.empty()) return text;
  } catch (const Error&) {  // it has just been given back
  }
  return "another process";
}

// The locks of parts whose processes were killed: whoever has the whole folder knows that there
// are no others.
void remove_locks_of_parts(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto name = entry->path().filename().string();
    if (starts_with(name, concat(kFolderLockName, "."))) ::unlink(entry->path().c_str());
  }
}

}  // namespace

FileLock::FileLock(fs::path path) : path_(std::move(path)) {}

FileLock::~FileLock() {
  // The last of many removes the file. On its way to the lock of one it has none for a moment, in
  // which another may have removed it.
  const bool is_last = is_held_ && (lock(Holders::kOne, /*wait=*/false) || errno != EWOULDBLOCK);
  if (is_last && is_of_path()) ::unlink(path_.c_str());
  if (file_ >= 0) ::close(file_);
}

// A holder may have removed the file between our opening and locking it.
bool FileLock::is_of_path() const {
  struct stat own {
  }, named{};
  return ::fstat(file_, &own) == 0 && ::stat(path_.c_str(), &named) == 0 &&
         own.st_ino == named.st_ino && own.st_dev == named.st_dev;
}

// False, with errno, where it does not get it.
bool FileLock::lock(Holders holders, bool wait) {
  const int operation = (holders == Holders::kOne ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB);
  return retry_interrupted([&] { return ::flock(file_, operation); }) == 0;
}

bool FileLock::acquire(bool wait, Holders holders) {
  // The last of many that goes has it alone for a moment.
  int tries_left = holders == Holders::kManyOfThisKind ? 20 : 0;
  while (true) {
    file_ = retry_interrupted(
        [&] { return ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666); });
    if (file_ < 0) fail_writing(path_, errno);
    const bool is_locked = lock(holders, wait);
    const bool is_taken = !is_locked && errno == EWOULDBLOCK;
    if (!is_taken && (!is_locked || is_of_path())) break;
    ::close(std::exchange(file_, -1));
    if (is_taken && tries_left-- <= 0) return false;
    if (is_taken) std::this_thread::sleep_for(std::chrono::milliseconds(10));
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
    : folder_(folder / kFolderLockName), part_(folder / concat(kFolderLockName, ".", part)) {
  make_folders(folder);
  const auto take = [&](FileLock& lock, FileLock::Holders holders, const std::string& who) {
    if (!lock.acquire(/*wait=*/false, holders)) {
      throw Error(concat(folder.string(), " is in use by ", holder(lock.path()),
                         ": wait until it has ended, or give another folder"));
    }
    lock.write(who + "\n");
  };
  const auto process = this_process();
  if (part.empty()) {
    take(folder_, FileLock::Holders::kOne, process);
    remove_locks_of_parts(folder);
  } else {
    take(folder_, FileLock::Holders::kManyOfThisKind, "shares, the latest of them " + process);
    take(part_, FileLock::Holders::kOne, process);
  }
}

}  // namespace segmamba
