#include "segmamba/core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

bool terminal_is_interactive() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal != nullptr && std::string_view(terminal) == "dumb";
  return ::isatty(STDERR_FILENO) == 1 && !dumb && (no_color == nullptr || *no_color == '\0');
}

Progress::Progress(std::string label, std::int64_t total, double line_seconds)
    : label_(std::move(label)),
      total_(total),
      line_seconds_(line_seconds),
      interactive_(terminal_is_interactive()),
      start_(Clock::now()),
      last_print_(start_) {}

Progress::~Progress() { finish(); }

void Progress::update(std::int64_t done, const std::string& note) {
  const auto now = Clock::now();
  if (first_done_ < 0) {
    // A resumed job starts at `done`: the time per step counts from there.
    first_done_ = std::max<std::int64_t>(done - 1, 0);
  }
  done_ = done;
  note_ = note;
  const double wait = interactive_ ? 0.1 : line_seconds_;
  if (done < total_ && seconds_between(last_print_, now) < wait) return;
  last_print_ = now;
  print(false);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (interactive_ && first_done_ >= 0 && log_level() <= LogLevel::kInfo) {
    print(true);
  }
}

void Progress::print(bool last) {
  if (log_level() > LogLevel::kInfo) return;
  const double elapsed = seconds_between(start_, Clock::now());
  const auto steps = std::max<std::int64_t>(done_ - first_done_, 1);
  const double remaining =
      elapsed / static_cast<double>(steps) * static_cast<double>(total_ - done_);
  const double fraction =
      total_ > 0 ? std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0)
                 : 1;
  const std::string count = concat(done_, "/", total_);
  const std::string time =
      done_ >= total_ ? "in " + format_duration(elapsed) : "ETA " + format_duration(remaining);
  const std::string percent = format_fixed(100 * fraction, 0) + "%";
  const std::string note = note_.empty() ? "" : "  " + note_;
  if (!interactive_) {
    log_info(concat(label_, " ", percent, " ", count, " ", time, note));
    return;
  }
  constexpr int kCells = 24;
  const int filled = static_cast<int>(fraction * kCells);
  std::string bar;
  for (int i = 0; i < kCells; ++i) bar += i < filled ? "█" : "░";
  const std::string head = concat(label_, " ", percent, " ");
  std::string tail = concat(" ", count, " ", time, note);
  const std::size_t room = terminal_width() - std::min(terminal_width(), head.size() + kCells + 1);
  if (tail.size() > room) tail.resize(room);
  std::fprintf(stderr, "\r\033[K%s%s%s%s", head.c_str(), bar.c_str(), tail.c_str(),
               last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace segmamba
