#include "segmamba/core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
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
      last_bar_(start_),
      last_line_(start_) {}

Progress::~Progress() { finish(); }

void Progress::update(std::int64_t done, const std::string& note,
                      std::optional<double> seconds_left) {
  const auto now = Clock::now();
  if (first_done_ < 0) {
    // A resumed job starts at `done`: the time per step counts from there.
    first_done_ = std::max<std::int64_t>(done - 1, 0);
  }
  const bool ends = done >= total_ && done != done_;
  done_ = done;
  note_ = note;
  seconds_left_ = seconds_left;
  constexpr double kBarSeconds = 0.1;
  if (interactive_ && (ends || seconds_between(last_bar_, now) >= kBarSeconds)) {
    last_bar_ = now;
    draw_bar(/*last=*/false);
  }
  if (ends || seconds_between(last_line_, now) >= line_seconds_) {
    last_line_ = now;
    const auto line = concat(label_, " ", format_fixed(100 * fraction(), 0), "% ", status());
    if (interactive_) {
      log_debug(line);
    } else {
      log_info(line);
    }
  }
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (interactive_ && first_done_ >= 0) draw_bar(/*last=*/true);
}

double Progress::fraction() const {
  if (total_ <= 0) return 1;
  return std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
}

std::string Progress::status() const {
  const double elapsed = seconds_between(start_, Clock::now());
  const auto steps = std::max<std::int64_t>(done_ - first_done_, 1);
  const double left = seconds_left_.value_or(elapsed / static_cast<double>(steps) *
                                             static_cast<double>(total_ - done_));
  const bool ended = done_ >= total_ && left <= 0;
  const std::string time =
      std::isnan(left) ? ""
                       : concat(ended ? " in " : " ETA ", format_duration(ended ? elapsed : left));
  return concat(done_, "/", total_, time, note_.empty() ? "" : "  ", note_);
}

void Progress::draw_bar(bool last) const {
  if (log_level() > LogLevel::kInfo) return;
  const std::string head = concat(label_, " ", format_fixed(100 * fraction(), 0), "% ");
  std::string tail = " " + status();
  // Where the terminal is narrow the bar gives way first.
  const auto room = static_cast<std::int64_t>(terminal_width()) - 1 -
                    static_cast<std::int64_t>(head.size() + tail.size());
  const auto cells = std::clamp<std::int64_t>(room, 8, 24);
  if (room < cells) tail.resize(std::max<std::int64_t>(std::ssize(tail) + room - cells, 0));
  const auto filled = static_cast<std::int64_t>(fraction() * static_cast<double>(cells));
  std::string bar;
  for (std::int64_t i = 0; i < cells; ++i) bar += i < filled ? "█" : "░";
  std::fprintf(stderr, "\r\033[K%s%s%s%s", head.c_str(), bar.c_str(), tail.c_str(),
               last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace segmamba
