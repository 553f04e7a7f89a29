#pragma once
// Files that may be compressed by gzip: read piece by piece, written by several threads.

#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

#include "segmamba/core/output_file.h"

namespace segmamba::io {

// gzip and plain files alike.
class InputFile {
 public:
  // Throws Error naming the file where it cannot be opened.
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile() { gzclose(file_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // Up to `size` bytes; fewer only at the end of the file. Throws DamagedFileError on damaged gzip
  // streams.
  std::size_t read(char* target, std::size_t size);
  bool is_compressed() { return gzdirect(file_) == 0; }

 private:
  std::filesystem::path path_;
  gzFile file_ = nullptr;
};

// Fills `bytes` with what stands at `offset` of a file's content. Offsets are multiples of 16.
using FillBytes = std::function<void(std::int64_t offset, std::span<char> bytes)>;

// Writes `head` and `size` bytes more, which are made a block at a time: `fill` is called by
// several threads at once, for different blocks. Where `compressed`, the file is one member of
// gzip, the same whatever the number of threads, without a time or name in it. Memory: 2 MiB a
// block, two blocks a thread. Throws WriteError, and what `fill` throws.
void write_blocks(OutputFile& file, bool compressed, std::string_view head, std::int64_t size,
                  const FillBytes& fill);

}  // namespace segmamba::io
