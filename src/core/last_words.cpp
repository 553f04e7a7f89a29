// Only calls that are safe in a signal handler (signal-safety(7)) are made in one here, and none
// takes memory.
#include "segmamba/core/last_words.h"

#include <execinfo.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <limits>
#include <new>
#include <string_view>

namespace segmamba {
namespace {

constexpr std::size_t kMostOfName = 64;
std::array<char, kMostOfName> program_name{};
std::terminate_handler handler_before = nullptr;

void print(std::string_view text) {
  while (!text.empty()) {
    const auto count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

// Of several threads that come here at once, the first speaks and ends them all.
[[noreturn]] void end_with(std::initializer_list<std::string_view> words) {
  static std::atomic_flag is_told = ATOMIC_FLAG_INIT;
  while (is_told.test_and_set()) ::pause();
  print(program_name.data());
  for (const auto text : words) print(text);
  print("\n");
  ::_exit(1);
}

// As without a handler.
void end_by(int signal) {
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// ---- Exceptions ---------------------------------------------------------------------------------

// What to say of what ended the process; null where it was no lack of memory.
const char* words_for(const std::exception_ptr& exception) {
  constexpr const char* kOutOfMemory = ": out of memory";
  // A function of a library promised not to throw, and what it threw is gone.
  if (!exception) return ": ended inside a library (out of memory?)";
  try {
    std::rethrow_exception(exception);
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  } catch (const std::exception& error) {
    // LibTorch's own
    return std::strstr(error.what(), "allocate memory") == nullptr ? nullptr : kOutOfMemory;
  } catch (...) {
    return nullptr;
  }
}

[[noreturn]] void end_process() {
  if (const char* words = words_for(std::current_exception())) end_with({words});
  if (handler_before != nullptr) handler_before();
  std::abort();
}

// ---- Memory that a library misses ---------------------------------------------------------------

constexpr auto kNone = std::numeric_limits<std::uint64_t>::max();

std::uint64_t limit_of(decltype(RLIMIT_AS) resource) {
  rlimit limit{};
  const bool is_set = ::getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  return is_set ? limit.rlim_cur : kNone;
}

// Whether less than a quarter of a limit of this process is left. By system calls alone.
bool is_near_a_limit() {
  std::array<char, 256> text{};
  const int file = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0 || ::read(file, text.data(), text.size() - 1) <= 0) return false;
  std::array<std::uint64_t, 6> pages{};  // of the address space, ..., of data (proc(5), statm)
  std::size_t field = 0;
  for (const char* letter = text.data(); field < pages.size() && *letter != '\0'; ++letter) {
    if (*letter == ' ') {
      ++field;
    } else {
      pages[field] = pages[field] * 10 + static_cast<std::uint64_t>(*letter - '0');
    }
  }
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return pages.front() * page > limit_of(RLIMIT_AS) / 4 * 3 ||
         pages.back() * page > limit_of(RLIMIT_DATA) / 4 * 3;
}

// oneDNN, for one, runs code that it had no memory to make.
void explain_fault(int signal) {
  if (is_near_a_limit()) end_with({": out of memory, which a library did not notice"});
  end_by(signal);
}

// ---- Mapped files -------------------------------------------------------------------------------

constexpr std::size_t kMostOfLine = 5000;  // a path has at most 4096 bytes

// The file of a line of /proc/self/maps (proc(5)) whose memory holds `address`; "" of others.
// "7f12a000-7f12b000 r--s 00000000 08:01 123456                     /the/path"
std::string_view file_around(std::uintptr_t address, std::string_view line) {
  std::uintptr_t begin = 0, end = 0;
  const char* const stop = line.data() + line.size();
  auto number = std::from_chars(line.data(), stop, begin, 16);
  if (number.ec != std::errc() || number.ptr == stop) return "";
  number = std::from_chars(number.ptr + 1, stop, end, 16);
  if (number.ec != std::errc() || address < begin || address >= end) return "";
  const auto path = line.find('/');
  return path == std::string_view::npos ? "" : line.substr(path);
}

// Into `line`, without its end; false at the end of the file.
bool read_line(int file, std::array<char, kMostOfLine>& line, std::size_t& length) {
  char character = 0;
  for (length = 0; ::read(file, &character, 1) == 1;) {
    if (character == '\n') return true;
    if (length < line.size()) line[length++] = character;
  }
  return false;
}

void explain_lost_file(int signal, siginfo_t* info, void*) {
  static std::atomic_flag is_taken = ATOMIC_FLAG_INIT;
  while (is_taken.test_and_set()) ::pause();
  static std::array<char, kMostOfLine> line;
  std::size_t length = 0;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  while (maps >= 0 && read_line(maps, line, length)) {
    const auto path = file_around(address, {line.data(), length});
    if (path.empty()) continue;
    end_with(
        {": cannot read ", path, ": it was cut short, or its disk failed, while it was in use"});
  }
  end_by(signal);
}

}  // namespace

void explain_ends(const std::string& program) {
  // What unwinds the stack of a thread that ends, glibc loads at its first use, and aborts where it
  // cannot.
  void* frame = nullptr;
  static_cast<void>(::backtrace(&frame, 1));
  const auto count = std::min(program.size(), program_name.size() - 1);
  std::copy_n(program.begin(), count, program_name.begin());
  program_name[count] = '\0';
  const auto before = std::set_terminate(end_process);
  if (before != end_process) handler_before = before;
  const bool is_limited = limit_of(RLIMIT_AS) != kNone || limit_of(RLIMIT_DATA) != kNone;
  if (is_limited) std::signal(SIGSEGV, explain_fault);
  struct sigaction action {};
  action.sa_sigaction = explain_lost_file;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace segmamba
