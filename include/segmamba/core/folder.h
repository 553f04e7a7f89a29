#pragma once

#include <filesystem>
#include <vector>

namespace segmamba {

// What a folder holds, hidden entries too, by name. Throws ReadError naming the folder where it
// cannot be read to its end: a part would pass for all there is.
std::vector<std::filesystem::directory_entry> entries_of(const std::filesystem::path& folder);

}  // namespace segmamba
