#pragma once

#include <filesystem>

namespace segmamba {

// Throws ReadError "cannot read PATH: " and the system's words for `code` (an errno). Where it is
// ENOMEM std::bad_alloc: that tells nothing of the file.
[[noreturn]] void fail_reading(const std::filesystem::path& path, int code);

}  // namespace segmamba
