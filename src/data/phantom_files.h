#pragma once
// Phantoms on disk.

#include <filesystem>

#include "segmamba/core/random.h"
#include "segmamba/data/phantom.h"

namespace segmamba::data {

// Writes the files of one case into a folder of its own in `output`. `random` draws what varies
// between cases and files. Throws Error.
void write_phantom(const std::filesystem::path& output, Phantom phantom,
                   const FileConventions& conventions, Random& random);

}  // namespace segmamba::data
