#pragma once

#include <filesystem>

namespace segmamba {

// Throws ReadError "cannot read PATH: is a pipe, not a file", also for devices and sockets: to open
// one may wait for ever. What else is wrong with PATH, opening it tells.
void refuse_special_file(const std::filesystem::path& path);

}  // namespace segmamba
