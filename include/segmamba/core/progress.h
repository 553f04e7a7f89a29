#pragma once
// Progress for people: a bar with the remaining time on a terminal, plain lines in a log.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace segmamba {

// True where standard error is a terminal and NO_COLOR / TERM=dumb do not speak against it.
bool terminal_is_interactive();

class Progress {
 public:
  // `total` steps. Not on a terminal, one line is printed at most every `line_seconds`; on one,
  // such lines go to the log file.
  Progress(std::string label, std::int64_t total, double line_seconds = 10);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` steps of total; `note` stands behind the bar ("loss 0.31"). The time that is left
  // follows from the steps so far unless the caller knows better and says it in seconds; nan: it is
  // not known, and none is shown.
  void update(std::int64_t done, const std::string& note = "",
              std::optional<double> seconds_left = {});
  // Ends the bar's line; called by the destructor.
  void finish();

 private:
  std::string status() const;  // "12/40 ETA 1:32  loss 0.31"
  void draw_bar(bool last) const;
  double fraction() const;

  std::string label_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  std::int64_t first_done_ = -1;
  std::string note_;
  std::optional<double> seconds_left_;
  double line_seconds_;
  bool interactive_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_, last_bar_, last_line_;
};

}  // namespace segmamba
