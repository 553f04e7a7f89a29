// The only file that sees spdlog: LibTorch's headers bring another version of fmt (see
// docs/architecture.md), so no file may include both.
#include "segmamba/core/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <utility>

#include "segmamba/core/append_file.h"
#include "segmamba/core/error.h"
#include "segmamba/core/progress.h"

namespace segmamba {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    default:
      return spdlog::level::err;
  }
}

spdlog::logger terminal_logger(const char* pattern) {
  const auto colors =
      terminal_is_interactive() ? spdlog::color_mode::automatic : spdlog::color_mode::never;
  spdlog::logger logger("terminal", std::make_shared<spdlog::sinks::stderr_color_sink_mt>(colors));
  logger.set_pattern(pattern);
  logger.set_level(spdlog::level::debug);
  logger.flush_on(spdlog::level::debug);
  return logger;
}

class AppendSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit AppendSink(const std::filesystem::path& path) : file_(path) { file_.drop_half_line(); }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    file_.write({line.data(), line.size()});
  }
  void flush_() override {}  // nothing waits

  AppendFile file_;
};

// Information stands plain; only what needs attention names its level.
struct Loggers {
  spdlog::logger plain = terminal_logger("%v");
  spdlog::logger labelled = terminal_logger("%^%l:%$ %v");
  LogLevel level = LogLevel::kInfo;

  void write(LogLevel message_level, const std::string& message) {
    if (message_level >= level) {
      // Clears what a progress bar may have left on the line.
      if (terminal_is_interactive()) std::fputs("\r\033[K", stderr);
      auto& logger = message_level == LogLevel::kInfo ? plain : labelled;
      logger.log(to_spdlog(message_level), message);
    }
    if (const auto log = file()) log->log(to_spdlog(message_level), message);
  }
  // Of it, another thread's line may turn out to be the last.
  std::shared_ptr<spdlog::logger> file() {
    const std::lock_guard lock(mutex_);
    return file_;
  }
  void set_file(std::shared_ptr<spdlog::logger> file) {
    const std::lock_guard lock(mutex_);
    file_.swap(file);  // and the old one is closed after the lock
  }
  // What it tells stands on the terminal, too.
  void give_file_up(const std::string& why) {
    set_file(nullptr);
    write(LogLevel::kWarning, "no more lines in the log file: " + why);
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<spdlog::logger> file_;
};

Loggers& loggers() {
  static Loggers instance;
  return instance;
}

}  // namespace

void set_log_level(LogLevel level) { loggers().level = level; }

LogLevel log_level() { return loggers().level; }

void open_log_file(const std::filesystem::path& path) {
  auto logger = std::make_shared<spdlog::logger>("file", std::make_shared<AppendSink>(path));
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
  logger->set_level(spdlog::level::debug);
  logger->set_error_handler([](const std::string& why) { loggers().give_file_up(why); });
  loggers().set_file(std::move(logger));
}

void close_log_file() { loggers().set_file(nullptr); }

void log_debug(const std::string& message) { loggers().write(LogLevel::kDebug, message); }
void log_info(const std::string& message) { loggers().write(LogLevel::kInfo, message); }
void log_warning(const std::string& message) { loggers().write(LogLevel::kWarning, message); }
void log_error(const std::string& message) { loggers().write(LogLevel::kError, message); }

}  // namespace segmamba
