#pragma once
// Files that are never left half-written.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace segmamba {

// Reads a whole file. Throws Error where it is missing, unreadable or larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path,
                      std::uint64_t max_bytes = std::uint64_t{1} << 32);

// Writes to a temporary file beside `path`, flushes it to the disk and renames it: `path` holds
// either its old content or all of the new one, whatever happens. Throws Error (full disk,
// read-only folder, ...), leaving no temporary file behind.
void write_file_atomically(const std::filesystem::path& path, const std::string& content);

// The same for writers that take a path (ITK, LibTorch). The temporary name keeps the suffix of
// `path` (".nii.gz"), because such writers choose the format by it.
void write_file_atomically(
    const std::filesystem::path& path,
    const std::function<void(const std::filesystem::path& temporary)>& write);

// Removes what a killed process of this host left of write_file_atomically in `folder` (not
// recursive).
void remove_stale_temporaries(const std::filesystem::path& folder);

// mkdir -p. Throws Error.
void make_folders(const std::filesystem::path& folder);

}  // namespace segmamba
