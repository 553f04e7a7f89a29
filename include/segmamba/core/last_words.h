#pragma once

#include <string>

namespace segmamba {

// What would end the process by a signal ends it with exit code 1 and a line, `program` before it:
// - memory that runs out where no exception may leave (destructors of libraries beneath take some
//   themselves), or where a library does not look (only under a limit, as of `ulimit -v`);
// - a mapped file (core/mapped_file.h) that another process cuts short, or whose disk fails: the
//   line names it.
// For programs to call at their start: a library leaves the signals of its host alone.
void explain_ends(const std::string& program);

}  // namespace segmamba
