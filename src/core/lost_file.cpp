// Only calls that are safe in a signal handler (signal-safety(7)) are made in one here.
#include "segmamba/core/lost_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <string_view>

namespace segmamba {
namespace {

constexpr std::size_t kMostOfName = 64, kMostOfLine = 5000;  // a path has at most 4096 bytes
std::array<char, kMostOfName> program_name{};

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

void print(std::string_view text) {
  while (!text.empty()) {
    const auto count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

void end_with_a_line(int signal, siginfo_t* info, void*) {
  // Of several threads that come here at once, the first speaks and ends them all.
  static std::atomic_flag taken = ATOMIC_FLAG_INIT;
  while (taken.test_and_set()) ::pause();
  static std::array<char, kMostOfLine> line;
  std::size_t length = 0;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  while (maps >= 0 && read_line(maps, line, length)) {
    const auto path = file_around(address, {line.data(), length});
    if (path.empty()) continue;
    print(program_name.data());
    print(": cannot read ");
    print(path);
    print(": it was cut short, or its disk failed, while it was in use\n");
    ::_exit(1);
  }
  // Something else: as without this handler.
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

void explain_lost_files(const std::string& program) {
  const auto count = std::min(program.size(), program_name.size() - 1);
  std::copy_n(program.begin(), count, program_name.begin());
  struct sigaction action {};
  action.sa_sigaction = end_with_a_line;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace segmamba
