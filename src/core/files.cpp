#include "segmamba/core/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>

#include "fail_reading.h"
#include "fail_writing.h"
#include "host.h"
#include "retry.h"
#include "segmamba/core/error.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/text.h"
#include "special_file.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryMark = ".segmamba-tmp-";

std::string message(const std::string& what, const fs::path& path, int code) {
  return concat(what, " ", path.string(), ": ", std::strerror(code));
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags)
      : fd_(retry_interrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC); })) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Up to `size` bytes; fewer only at the end of the file.
std::size_t read_some(const Descriptor& file, const fs::path& path, char* target,
                      std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const auto count =
        retry_interrupted([&] { return ::read(file.get(), target + done, size - done); });
    if (count < 0) fail_reading(path, errno);
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

// Of this machine since its start, or of this container: processes of another one cannot be asked
// whether they live. The name alone does not tell them apart: containers may have that of their
// machine. Nor does the namespace of processes: a machine's own has the same number everywhere.
std::string host_mark() {
  std::string start;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), start);
  std::error_code error;
  const auto processes = fs::read_symlink("/proc/self/ns/pid", error).string();
  const auto name = concat(host_name(), "/", start, "/", processes);
  return hash_bytes(name.data(), name.size()).to_string().substr(0, 8);
}

// When a process began, in ticks since the machine did; nothing where that is not told. With it a
// process is told from a later one of the same number, which in a container is the rule.
std::optional<std::int64_t> start_of_process(std::int64_t process) {
  constexpr int kFieldsBefore = 19;  // between the name and the start (proc(5))
  std::ifstream file(concat("/proc/", process, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return {};
  const auto fields = split(line.substr(line.rfind(')') + 1), ' ');
  if (fields.size() <= kFieldsBefore + 1) return {};
  return to_integer(fields[kFieldsBefore + 1]);
}

// "case.nii.gz" becomes ".segmamba-tmp-HOST-PROCESS-START-N-case.nii.gz" in the same folder, so
// that rename() is atomic. Of a long name the end suffices.
fs::path temporary_beside(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  constexpr std::size_t kMostOfName = 100;
  std::string name = path.filename().string();
  if (name.size() > kMostOfName) name.erase(0, name.size() - kMostOfName);
  return path.parent_path() / concat(kTemporaryMark, host_mark(), "-", ::getpid(), "-",
                                     start_of_process(::getpid()).value_or(0), "-", counter++, "-",
                                     name);
}

bool is_of_an_earlier_day(const fs::path& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  return !error && time < fs::file_time_type::clock::now() - std::chrono::hours(24);
}

// Whether the process that writes this file has ended. One of another machine or container cannot
// be asked; no file takes it a day without a write.
bool is_stale(const fs::path& path) {
  const auto name = path.filename().string();
  if (!starts_with(name, kTemporaryMark)) return false;
  const auto parts = split(name.substr(kTemporaryMark.size()), '-');
  if (parts.size() < 5) return false;
  const auto process = to_integer(parts[1]), start = to_integer(parts[2]);
  if (!process || !start || *process < 1 || *process > INT32_MAX) return false;
  if (parts[0] != host_mark()) return is_of_an_earlier_day(path);
  if (::kill(static_cast<pid_t>(*process), 0) != 0 && errno == ESRCH) return true;
  const auto start_now = start_of_process(*process);
  return start_now && *start != 0 && *start_now != *start;
}

// The rename itself reaches the disk with its folder. Some file systems cannot flush a folder; the
// content is safe without it.
void flush_folder_of(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const Descriptor directory(folder, O_RDONLY | O_DIRECTORY);
  if (directory.get() < 0) return;
  const int result = retry_interrupted([&] { return ::fsync(directory.get()); });
  if (result != 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT)) {
    fail_writing(path, errno);
  }
}

void clean_at_first_write(const fs::path& path) {
  static std::mutex mutex;
  static std::set<fs::path> cleaned;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  {
    const std::lock_guard lock(mutex);
    if (!cleaned.insert(folder).second) return;
  }
  remove_stale_temporaries(folder);
}

// `make` makes the temporary file.
void replace_atomically(const fs::path& path,
                        const std::function<void(const fs::path& temporary)>& make) {
  clean_at_first_write(path);
  const fs::path temporary = temporary_beside(path);
  try {
    make(temporary);
    rename_file(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  flush_folder_of(path);
}

}  // namespace

void fail_reading(const fs::path& path, int code) {
  refuse_short_memory(code);
  if (code == EISDIR) throw ReadError(concat("cannot read ", path.string(), ": is a folder"));
  throw ReadError(message("cannot read", path, code));
}

void refuse_special_file(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return;
  const char* const kind = S_ISFIFO(status.st_mode)                             ? "a pipe"
                           : S_ISSOCK(status.st_mode)                           ? "a socket"
                           : S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode) ? "a device"
                                                                                : nullptr;
  if (kind != nullptr) {
    throw ReadError(concat("cannot read ", path.string(), ": is ", kind, ", not a file"));
  }
}

void fail_writing(const fs::path& path, int code, const char* what) {
  if (code == EISDIR) {
    throw Error(concat(what, " ", path.string(), ": a folder has that name; remove or rename it"));
  }
  throw WriteError(message(what, path, code));
}

std::string read_file(const fs::path& path, std::uint64_t max_bytes) {
  const Descriptor file(path, O_RDONLY);
  if (file.get() < 0) fail_reading(path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_reading(path, errno);
  if (S_ISDIR(status.st_mode)) fail_reading(path, EISDIR);
  if (static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    throw Error(concat("cannot read ", path.string(), ": ", format_bytes(status.st_size),
                       " is more than the ", format_bytes(max_bytes), " such a file may have"));
  }
  // Pipes and /proc files report size 0: read on until the end.
  std::string content;
  std::size_t done = 0, room = static_cast<std::size_t>(status.st_size) + 1;
  while (true) {
    content.resize(room);
    done += read_some(file, path, content.data() + done, room - done);
    if (done < room) break;
    if (done > max_bytes) throw Error(concat("cannot read ", path.string(), ": too large"));
    room = done + 4096;
  }
  content.resize(done);
  return content;
}

void read_whole_lines(const fs::path& path,
                      const std::function<void(std::string_view line)>& take) {
  constexpr std::size_t kBlock = 1 << 16;
  const Descriptor file(path, O_RDONLY);
  if (file.get() < 0) fail_reading(path, errno);
  std::string text;  // from the line that is being read on
  for (std::size_t count = kBlock; count == kBlock;) {
    const std::size_t known = text.size();
    text.resize(known + kBlock);
    count = read_some(file, path, text.data() + known, kBlock);
    text.resize(known + count);
    std::size_t line = 0;
    for (auto end = text.find('\n', known); end != std::string::npos; end = text.find('\n', line)) {
      take(std::string_view(text).substr(line, end - line));
      line = end + 1;
    }
    text.erase(0, line);
  }
}

void write_file_atomically(const fs::path& path, const std::function<void(OutputFile&)>& write) {
  replace_atomically(path, [&](const fs::path& temporary) {
    OutputFile file(temporary, path);
    write(file);
    file.finish();
  });
}

void write_file_atomically(const fs::path& path, const std::string& content) {
  write_file_atomically(path, [&](OutputFile& file) { file.write(content); });
}

void copy_file_atomically(const fs::path& path, const fs::path& copy) {
  // Between two names of one file rename() does nothing, and the temporary one would stay.
  std::error_code ignored;  // of what does not exist
  if (fs::equivalent(path, copy, ignored)) return;
  replace_atomically(copy, [&](const fs::path& temporary) {
    if (::link(path.c_str(), temporary.c_str()) == 0) return;
    const Descriptor from(path, O_RDONLY);
    if (from.get() < 0) fail_reading(path, errno);
    OutputFile to(temporary, copy);
    std::string piece(std::size_t{1} << 20, '\0');
    while (const auto count = read_some(from, path, piece.data(), piece.size())) {
      to.write(piece.data(), count);
    }
    to.finish();
  });
}

void rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_writing(to, errno);
}

void remove_file(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_writing(path, errno, "cannot remove");
}

void remove_stale_temporaries(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_stale(entry->path())) ::unlink(entry->path().c_str());
  }
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder, error) && !fs::is_directory(folder, error)) {
    throw WriteError(concat("cannot make the folder ", folder.string(), ": a file has that name"));
  }
  fs::create_directories(folder, error);
  if (error) {
    throw WriteError(concat("cannot make the folder ", folder.string(), ": ", error.message()));
  }
}

}  // namespace segmamba
