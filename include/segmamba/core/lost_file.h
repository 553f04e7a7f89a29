#pragma once

#include <string>

namespace segmamba {

// A mapped file (core/mapped_file.h) that another process cuts short, or whose disk fails, cannot
// be read any more, and the system says so by the signal SIGBUS. After this call the process then
// ends with exit code 1 and one line that names the file, which `program` begins. For programs to
// call at their start: a library leaves the signals of its host alone.
void explain_lost_files(const std::string& program);

}  // namespace segmamba
