#include "segmamba/core/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "segmamba/core/error.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryMark = ".segmamba-tmp-";

[[noreturn]] void fail(const std::string& what, const fs::path& path, int code) {
  throw Error(concat(what, " ", path.string(), ": ", std::strerror(code)));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  // Closes and reports; network file systems report a full disk only here.
  int close() {
    const int result = ::close(fd_);
    fd_ = -1;
    return result;
  }

 private:
  int fd_;
};

void flush_to_disk(const fs::path& path, int flags) {
  Descriptor file(::open(path.c_str(), flags | O_CLOEXEC));
  if (file.get() < 0) fail("cannot open", path, errno);
  if (::fsync(file.get()) != 0) fail("cannot flush", path, errno);
}

// Of this machine or container: processes of another one cannot be asked whether they live.
std::string host_mark() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return hash_bytes(name.data(), std::strlen(name.data())).to_string().substr(0, 8);
}

// "case.nii.gz" becomes ".segmamba-tmp-HOST-PID-N-case.nii.gz" in the same folder, so that rename()
// is atomic and the suffix stays.
fs::path temporary_beside(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  return path.parent_path() / concat(kTemporaryMark, host_mark(), "-", ::getpid(), "-", counter++,
                                     "-", path.filename().string());
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t max_bytes) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail("cannot read", path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail("cannot read", path, errno);
  if (S_ISDIR(status.st_mode)) throw Error(concat("cannot read ", path.string(), ": is a folder"));
  if (static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    throw Error(concat("cannot read ", path.string(), ": ", format_bytes(status.st_size),
                       " is more than the ", format_bytes(max_bytes), " such a file may have"));
  }
  std::string content;
  content.resize(static_cast<std::size_t>(status.st_size));
  std::size_t done = 0;
  // Pipes and /proc files report size 0: read on until the end.
  while (true) {
    if (done == content.size()) {
      if (done > max_bytes) throw Error(concat("cannot read ", path.string(), ": too large"));
      content.resize(done + 4096);
    }
    const ssize_t count = ::read(file.get(), content.data() + done, content.size() - done);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("cannot read", path, errno);
    }
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  content.resize(done);
  return content;
}

void write_file_atomically(const fs::path& path,
                           const std::function<void(const fs::path&)>& write) {
  const fs::path temporary = temporary_beside(path);
  try {
    write(temporary);
    flush_to_disk(temporary, O_RDONLY);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail("cannot write", path, errno);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
  // The rename itself reaches the disk with its folder. Some file systems cannot flush a folder;
  // the content is safe without it.
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) ::fsync(directory.get());
}

void write_file_atomically(const fs::path& path, const std::string& content) {
  write_file_atomically(path, [&](const fs::path& temporary) {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.get() < 0) fail("cannot write", path, errno);
    std::size_t done = 0;
    while (done < content.size()) {
      const ssize_t count = ::write(file.get(), content.data() + done, content.size() - done);
      if (count < 0) {
        if (errno == EINTR) continue;
        fail("cannot write", path, errno);
      }
      done += static_cast<std::size_t>(count);
    }
    if (file.close() != 0) fail("cannot write", path, errno);
  });
}

void remove_stale_temporaries(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!starts_with(name, kTemporaryMark)) continue;
    const auto parts = split(name.substr(kTemporaryMark.size()), '-');
    if (parts.size() < 3 || parts[0] != host_mark()) continue;
    const std::string& process = parts[1];
    if (process.empty() || process.size() > 9 ||
        process.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    // A living process may still be writing it.
    const pid_t pid = std::stoi(process);
    if (pid > 0 && pid != ::getpid() && ::kill(pid, 0) != 0 && errno == ESRCH) {
      std::error_code ignored;
      fs::remove(entry.path(), ignored);
    }
  }
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder, error) && !fs::is_directory(folder, error)) {
    throw Error(concat("cannot make the folder ", folder.string(), ": a file has that name"));
  }
  fs::create_directories(folder, error);
  if (error) throw Error(concat("cannot make the folder ", folder.string(), ": ", error.message()));
}

}  // namespace segmamba
