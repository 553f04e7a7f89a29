#pragma once

#include <filesystem>

namespace segmamba {

// Throws WriteError "cannot write PATH: " and the system's words for `code` (an errno). Where it is
// EISDIR an Error that says what to do: a folder in the way is a matter of this one name, other
// files can be written.
[[noreturn]] void fail_writing(const std::filesystem::path& path, int code,
                               const char* what = "cannot write");

}  // namespace segmamba
