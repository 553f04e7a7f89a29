// A library for LD_PRELOAD that stands between a program and the system's calls on files: it counts
// those that touch certain folders, and lets chosen ones fail, or kills or stops the process in
// them. Told by the environment:
//   SEGMAMBA_FAULT_WRITES  the folder in which calls count that change something, an absolute path
//   SEGMAMBA_FAULT_READS   the folder in which calls count that read, another one
//   SEGMAMBA_FAULT_TRACE   a file outside of them: a line "CALL PATH" for each call counted,
//                          "!CALL PATH" where something happens
//   SEGMAMBA_FAULT_AT      the first call that fails, counted from 1; none where it is not set
//   SEGMAMBA_FAULT_TIMES   how many fail from there on (1), or all
//   SEGMAMBA_FAULT_ACTION  what happens in them:
//     a number           the call does nothing and fails with this errno
//     interrupted_short  calls that a signal may interrupt fail with EINTR, each once, and of what
//                        is to be written, half is
//     kill               half is written, or nothing else done, and SIGKILL ends the process
//     kill_after         the call is done, and SIGKILL ends the process
//     stop_after         the call is done, and SIGSTOP holds the process until it gets SIGCONT
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

enum class Action { kNone, kFail, kInterruptedShort, kKill, kKillAfter, kStopAfter };
enum class On { kWrite, kRead };

std::string text_of(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

struct Settings {
  std::string writes = text_of("SEGMAMBA_FAULT_WRITES");
  std::string reads = text_of("SEGMAMBA_FAULT_READS");
  std::string trace = text_of("SEGMAMBA_FAULT_TRACE");
  long first = std::atol(text_of("SEGMAMBA_FAULT_AT").c_str());
  long last = first;
  Action action = Action::kNone;
  int code = 0;
  int trace_file = -1;

  Settings();
};

// The system's own function of a name.
template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int real_open(const char* path, int flags, mode_t mode) {
  static auto* const call = real<int(const char*, int, ...)>("open");
  return call(path, flags, mode);
}
ssize_t real_write(int file, const void* bytes, std::size_t count) {
  static auto* const call = real<ssize_t(int, const void*, std::size_t)>("write");
  return call(file, bytes, count);
}

Settings::Settings() {
  const std::string times = text_of("SEGMAMBA_FAULT_TIMES"),
                    what = text_of("SEGMAMBA_FAULT_ACTION");
  if (times == "all") last = 1L << 62;
  if (times != "all" && !times.empty()) last = first + std::atol(times.c_str()) - 1;
  if (first == 0) last = -1;
  if (what == "interrupted_short") {
    action = Action::kInterruptedShort;
  } else if (what == "kill") {
    action = Action::kKill;
  } else if (what == "kill_after") {
    action = Action::kKillAfter;
  } else if (what == "stop_after") {
    action = Action::kStopAfter;
  } else if (!what.empty()) {
    action = Action::kFail;
    code = std::atoi(what.c_str());
  }
  if (!trace.empty()) {
    trace_file = real_open(trace.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }
}

const Settings& settings() {
  static const Settings instance;
  return instance;
}

// The path of each open file whose calls may count, by its number.
constexpr int kMostFiles = 4096;
struct OpenFile {
  char path[1024];
  bool for_writing;
};
std::array<std::atomic<OpenFile*>, kMostFiles> open_files{};

OpenFile* file_of(int number) {
  return number < 0 || number >= kMostFiles ? nullptr
                                            : open_files[static_cast<std::size_t>(number)].load();
}

std::string absolute(int folder, const char* path) {
  if (path[0] == '/') return path;
  char start[4096] = "";
  if (folder == AT_FDCWD) {
    if (::getcwd(start, sizeof start) == nullptr) return path;
  } else if (::readlink(("/proc/self/fd/" + std::to_string(folder)).c_str(), start,
                        sizeof start - 1) < 0) {
    return path;
  }
  return std::string(start) + "/" + path;
}

bool counts(On on, std::string_view path) {
  const auto& folder = on == On::kWrite ? settings().writes : settings().reads;
  return !folder.empty() && path.substr(0, folder.size()) == folder &&
         (path.size() == folder.size() || path[folder.size()] == '/');
}

void note_open(int number, const std::string& path, bool for_writing) {
  if (number < 0 || number >= kMostFiles) return;
  OpenFile* file = nullptr;  // also where another file, closed unseen, had the number
  if (counts(On::kWrite, path) || counts(On::kRead, path)) {
    file = new OpenFile;
    std::snprintf(file->path, sizeof file->path, "%s", path.c_str());
    file->for_writing = for_writing;
  }
  delete open_files[static_cast<std::size_t>(number)].exchange(file);
}

void note_close(int number) {
  if (number >= 0 && number < kMostFiles) {
    delete open_files[static_cast<std::size_t>(number)].exchange(nullptr);
  }
}

std::atomic<long> calls{0};

// What is to happen in this call, which is counted here if it counts.
Action action_of(On on, const char* call, const char* path) {
  if (!counts(on, path)) return Action::kNone;
  const auto& set = settings();
  const long number = ++calls;
  const bool is_hit = number >= set.first && number <= set.last;
  if (set.trace_file >= 0) {
    const std::string line = std::string(is_hit ? "!" : "") + call + " " + path + "\n";
    if (real_write(set.trace_file, line.data(), line.size()) < 0) std::abort();
  }
  return is_hit ? set.action : Action::kNone;
}

[[noreturn]] void die() {
  ::kill(::getpid(), SIGKILL);
  while (true) ::pause();
}

// Whether a call that a signal may interrupt is to fail with EINTR now: every other one of a
// thread, since such a call is made again at once.
bool is_interrupted(Action action) {
  thread_local bool was_interrupted = false;
  was_interrupted = action == Action::kInterruptedShort && !was_interrupted;
  return was_interrupted;
}

// What happens once a call is done.
void end_call(Action action) {
  if (action == Action::kKill || action == Action::kKillAfter) die();
  if (action == Action::kStopAfter) ::raise(SIGSTOP);
}

// A call that gives -1 for an error.
template <class Do>
auto call(On on, const char* name, const char* path, bool interruptible, const Do& act)
    -> decltype(act()) {
  const Action action = action_of(on, name, path);
  if (action == Action::kKill) die();
  if (action == Action::kFail) {
    errno = settings().code;
    return -1;
  }
  if (interruptible && is_interrupted(action)) {
    errno = EINTR;
    return -1;
  }
  const auto result = act();
  end_call(action);
  return result;
}

// A call that writes up to `count` bytes: act(how many).
template <class Write>
ssize_t call_writing(const char* name, int number, std::size_t count, const Write& act) {
  const OpenFile* const file = file_of(number);
  if (file == nullptr || !file->for_writing) return act(count);
  const Action action = action_of(On::kWrite, name, file->path);
  if (action == Action::kFail) {
    errno = settings().code;
    return -1;
  }
  if (is_interrupted(action)) {
    errno = EINTR;
    return -1;
  }
  const bool half = action == Action::kInterruptedShort || action == Action::kKill;
  const auto result = act(half && count > 1 ? count / 2 : count);
  end_call(action);
  return result;
}

template <class Open>
int call_open(const char* name, int folder, const char* path, int flags, const Open& act) {
  const std::string full = absolute(folder, path);
  const bool writes = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
  const int number = call(writes ? On::kWrite : On::kRead, name, full.c_str(), writes, act);
  note_open(number, full, writes);
  return number;
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

template <class Open>
FILE* call_fopen(const char* path, const char* mode, const Open& act) {
  const std::string full = absolute(AT_FDCWD, path);
  const bool writes = std::strpbrk(mode, "wa+") != nullptr;
  FILE* stream = nullptr;
  const int result = call(writes ? On::kWrite : On::kRead, "fopen", full.c_str(), false, [&] {
    stream = act();
    return stream == nullptr ? -1 : 0;
  });
  if (result == 0) note_open(::fileno(stream), full, writes);
  return stream;
}

// On two paths, named by the second; on one, that.
template <class Change>
int call_changing(const char* name, int folder, const char* path, const Change& act) {
  const std::string full = absolute(folder, path);
  return call(On::kWrite, name, full.c_str(), false, act);
}

template <class Change>
int call_on_file(const char* name, int number, const Change& act) {
  const OpenFile* const file = file_of(number);
  return file == nullptr ? act() : call(On::kWrite, name, file->path, true, act);
}

template <class Read>
ssize_t call_reading(const char* name, int number, const Read& act) {
  const OpenFile* const file = file_of(number);
  return file == nullptr ? act() : call(On::kRead, name, file->path, false, act);
}

// Null at the end of the folder, and, with errno, for an error.
template <class Entry>
Entry* call_listing(DIR* folder, Entry* (*act)(DIR*)) {
  const OpenFile* const file = file_of(::dirfd(folder));
  if (file == nullptr) return act(folder);
  Entry* entry = nullptr;
  call(On::kRead, "readdir", file->path, false, [&] {
    entry = act(folder);
    return 0;
  });
  return entry;
}

}  // namespace

// The names of the C library.
extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return call_open("open", AT_FDCWD, path, flags, [&] { return real_open(path, flags, mode); });
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return call_open("open", AT_FDCWD, path, flags, [&] { return real_open(path, flags, mode); });
}

int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  static auto* const act = real<int(int, const char*, int, ...)>("openat");
  return call_open("open", folder, path, flags, [&] { return act(folder, path, flags, mode); });
}

FILE* fopen(const char* path, const char* mode) {
  static auto* const act = real<FILE*(const char*, const char*)>("fopen");
  return call_fopen(path, mode, [&] { return act(path, mode); });
}

FILE* fopen64(const char* path, const char* mode) {
  static auto* const act = real<FILE*(const char*, const char*)>("fopen64");
  return call_fopen(path, mode, [&] { return act(path, mode); });
}

DIR* opendir(const char* path) {
  static auto* const act = real<DIR*(const char*)>("opendir");
  const std::string full = absolute(AT_FDCWD, path);
  DIR* folder = nullptr;
  const int result = call(On::kRead, "opendir", full.c_str(), false, [&] {
    folder = act(path);
    return folder == nullptr ? -1 : 0;
  });
  if (result != 0) return nullptr;
  note_open(::dirfd(folder), full, false);
  return folder;
}

dirent* readdir(DIR* folder) {
  static auto* const act = real<dirent*(DIR*)>("readdir");
  return call_listing(folder, act);
}

dirent64* readdir64(DIR* folder) {
  static auto* const act = real<dirent64*(DIR*)>("readdir64");
  return call_listing(folder, act);
}

int closedir(DIR* folder) {
  static auto* const act = real<int(DIR*)>("closedir");
  note_close(::dirfd(folder));
  return act(folder);
}

ssize_t write(int file, const void* bytes, std::size_t count) {
  return call_writing("write", file, count,
                      [&](std::size_t some) { return real_write(file, bytes, some); });
}

ssize_t pwrite(int file, const void* bytes, std::size_t count, off_t place) {
  static auto* const act = real<ssize_t(int, const void*, std::size_t, off_t)>("pwrite");
  return call_writing("pwrite", file, count,
                      [&](std::size_t some) { return act(file, bytes, some, place); });
}

ssize_t pwrite64(int file, const void* bytes, std::size_t count, off64_t place) {
  return pwrite(file, bytes, count, place);
}

// Its first piece alone where it is cut short.
ssize_t writev(int file, const iovec* pieces, int count) {
  static auto* const act = real<ssize_t(int, const iovec*, int)>("writev");
  return call_writing("writev", file, static_cast<std::size_t>(count),
                      [&](std::size_t some) { return act(file, pieces, static_cast<int>(some)); });
}

int close(int file) {
  static auto* const act = real<int(int)>("close");
  const OpenFile* const known = file_of(file);
  if (known == nullptr || !known->for_writing) {
    note_close(file);
    return act(file);
  }
  const std::string path = known->path;
  note_close(file);
  // However it fails, Linux has closed the file.
  const int result = act(file);
  return call(On::kWrite, "close", path.c_str(), true, [&] { return result; });
}

int fsync(int file) {
  static auto* const act = real<int(int)>("fsync");
  return call_on_file("fsync", file, [&] { return act(file); });
}

int fdatasync(int file) {
  static auto* const act = real<int(int)>("fdatasync");
  return call_on_file("fdatasync", file, [&] { return act(file); });
}

int ftruncate(int file, off_t size) noexcept {
  static auto* const act = real<int(int, off_t)>("ftruncate");
  return call_on_file("ftruncate", file, [&] { return act(file, size); });
}

int ftruncate64(int file, off64_t size) noexcept { return ftruncate(file, size); }

int rename(const char* from, const char* to) noexcept {
  static auto* const act = real<int(const char*, const char*)>("rename");
  return call_changing("rename", AT_FDCWD, to, [&] { return act(from, to); });
}

int link(const char* from, const char* to) noexcept {
  static auto* const act = real<int(const char*, const char*)>("link");
  return call_changing("link", AT_FDCWD, to, [&] { return act(from, to); });
}

int unlink(const char* path) noexcept {
  static auto* const act = real<int(const char*)>("unlink");
  return call_changing("unlink", AT_FDCWD, path, [&] { return act(path); });
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  static auto* const act = real<int(int, const char*, int)>("unlinkat");
  return call_changing("unlink", folder, path, [&] { return act(folder, path, flags); });
}

int remove(const char* path) noexcept {
  static auto* const act = real<int(const char*)>("remove");
  return call_changing("unlink", AT_FDCWD, path, [&] { return act(path); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const act = real<int(const char*, mode_t)>("mkdir");
  return call_changing("mkdir", AT_FDCWD, path, [&] { return act(path, mode); });
}

ssize_t read(int file, void* target, std::size_t count) {
  static auto* const act = real<ssize_t(int, void*, std::size_t)>("read");
  return call_reading("read", file, [&] { return act(file, target, count); });
}

ssize_t pread(int file, void* target, std::size_t count, off_t place) {
  static auto* const act = real<ssize_t(int, void*, std::size_t, off_t)>("pread");
  return call_reading("pread", file, [&] { return act(file, target, count, place); });
}

ssize_t pread64(int file, void* target, std::size_t count, off64_t place) {
  return pread(file, target, count, place);
}

void* mmap(void* address, std::size_t bytes, int protection, int flags, int file,
           off_t place) noexcept {
  static auto* const act = real<void*(void*, std::size_t, int, int, int, off_t)>("mmap");
  const OpenFile* const known = file_of(file);
  if (known == nullptr) return act(address, bytes, protection, flags, file, place);
  void* memory = MAP_FAILED;
  call(On::kRead, "mmap", known->path, false, [&] {
    memory = act(address, bytes, protection, flags, file, place);
    return memory == MAP_FAILED ? -1 : 0;
  });
  return memory;
}

}  // extern "C"
