#pragma once
// Files that are never left half-written.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace segmamba {

class OutputFile;

// Reads a whole file. Throws ReadError where it is missing or unreadable, and Error where it is
// larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path,
                      std::uint64_t max_bytes = std::uint64_t{1} << 32);

// Gives the lines of a file one by one, without their line breaks: only what it holds at once is in
// memory. What stands behind the last line break is left out: it may still be being written. Throws
// ReadError where the file is missing or unreadable; what `take` throws is passed on.
void read_whole_lines(const std::filesystem::path& path,
                      const std::function<void(std::string_view line)>& take);

// Writes to a temporary file beside `path`, brings it to the disk and renames it: `path` holds
// either its old content or all of the new one, whatever happens. Throws WriteError naming `path`
// and the reason (full disk, read-only folder, ...), Error where a folder has that name, leaving no
// temporary file behind; what killed processes left in the folder is removed at the first write
// into it.
void write_file_atomically(const std::filesystem::path& path, const std::string& content);
// The same for content that is made bit by bit. What `write` throws is passed on.
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(OutputFile&)>& write);

// The content of `path` under a second name, atomically; by a hard link where the file system has
// them. Throws ReadError where `path` cannot be read, WriteError as above.
void copy_file_atomically(const std::filesystem::path& path, const std::filesystem::path& copy);

// Renames in one step, replacing `to`. Throws as write_file_atomically(), naming `to`.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);

// Removes a file where there is one. Throws WriteError, and Error where it is a folder.
void remove_file(const std::filesystem::path& path);

// Removes the temporary files of killed processes of this host, and such of others that nobody has
// written to for a day, from `folder` (not recursive).
void remove_stale_temporaries(const std::filesystem::path& folder);

// mkdir -p. Throws WriteError.
void make_folders(const std::filesystem::path& folder);

}  // namespace segmamba
