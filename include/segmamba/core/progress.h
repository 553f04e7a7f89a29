#pragma once
// Progress for people: a bar with the remaining time on a terminal, plain lines in a log.

#include <chrono>
#include <cstdint>
#include <string>

namespace segmamba {

// True where standard error is a terminal and NO_COLOR / TERM=dumb do not speak against it.
bool terminal_is_interactive();

class Progress {
 public:
  // `total` steps. Not on a terminal, one line is printed at most every `line_seconds`.
  Progress(std::string label, std::int64_t total, double line_seconds = 10);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` steps of total; `note` stands behind the bar ("loss 0.31").
  void update(std::int64_t done, const std::string& note = "");
  // Ends the bar's line; called by the destructor.
  void finish();

 private:
  void print(bool last);
  std::string label_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  std::int64_t first_done_ = -1;
  std::string note_;
  double line_seconds_;
  bool interactive_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_, last_print_;
};

}  // namespace segmamba
