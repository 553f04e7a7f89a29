#pragma once
// Log lines for people, to standard error and to an optional file (over spdlog).

#include <filesystem>
#include <string>

namespace segmamba {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// What goes to the terminal; the file always gets everything from kDebug up. Default kInfo.
void set_log_level(LogLevel level);
LogLevel log_level();
// Appends every line, with time and level, to `path` until close_log_file(). Throws WriteError; a
// line that cannot be written later is the last, and a warning says so.
void open_log_file(const std::filesystem::path& path);
void close_log_file();

void log_debug(const std::string& message);
void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);

}  // namespace segmamba
