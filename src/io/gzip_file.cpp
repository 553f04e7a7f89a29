#include "gzip_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kBlockBytes = std::int64_t{1} << 20;
// More than this the disk does not take.
constexpr int kLargestThreads = 8;
constexpr int kLevel = 4;

// A part of a deflate stream that ends at a byte, so that parts can be put one behind the other
// (as pigz does), and the check sum of what it holds.
struct Part {
  std::string bytes;
  uLong crc = 0;
};

Part deflated(std::string_view content) {
  constexpr int kRaw = -MAX_WBITS, kMemoryLevel = 9;
  z_stream stream{};
  if (deflateInit2(&stream, kLevel, Z_DEFLATED, kRaw, kMemoryLevel, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  const std::unique_ptr<z_stream, decltype(&deflateEnd)> end(&stream, &deflateEnd);
  constexpr std::size_t kFlush = 16;  // an empty block, which ends at a byte
  Part part;
  part.bytes.resize(deflateBound(&stream, content.size()) + kFlush);
  // zlib only reads it.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(part.bytes.data());
  stream.avail_out = static_cast<uInt>(part.bytes.size());
  if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_out == 0) {
    throw Error("deflate did not take a block");
  }
  part.bytes.resize(part.bytes.size() - stream.avail_out);
  part.crc = crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size());
  return part;
}

// RFC 1952.
class GzipMember {
 public:
  explicit GzipMember(OutputFile& file) : file_(file) {
    constexpr std::string_view kHeader("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
    file_.write(kHeader);
  }
  void add(const Part& part, std::size_t content_bytes) {
    file_.write(part.bytes);
    crc_ = crc32_combine(crc_, part.crc, static_cast<z_off_t>(content_bytes));
    size_ += static_cast<std::uint32_t>(content_bytes);  // modulo 2^32 by the format
  }
  void finish() {
    constexpr std::string_view kEmptyLastBlock("\x03\0", 2);
    file_.write(kEmptyLastBlock);
    for (const std::uint32_t field : {static_cast<std::uint32_t>(crc_), size_}) {
      for (int byte = 0; byte < 4; ++byte) {
        const char value = static_cast<char>(field >> (8 * byte));
        file_.write(&value, 1);
      }
    }
  }

 private:
  OutputFile& file_;
  uLong crc_ = 0;
  std::uint32_t size_ = 0;
};

// Null of a file, and of what is not there.
const char* kind_of_no_file(fs::file_type type) {
  switch (type) {
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::socket:
      return "a socket";
    case fs::file_type::block:
    case fs::file_type::character:
      return "a device";
    default:
      return nullptr;
  }
}

}  // namespace

InputFile::InputFile(const fs::path& path) : path_(path) {
  std::error_code error;
  // To open a pipe may wait for ever.
  if (const char* kind = kind_of_no_file(fs::status(path, error).type())) {
    throw Error(concat(path.string(), ": is ", kind, ", not a NIfTI file"));
  }
  errno = 0;
  file_ = gzopen(path.c_str(), "rb");
  if (file_ == nullptr && (errno == 0 || errno == ENOMEM)) throw std::bad_alloc();
  if (file_ == nullptr) {
    throw ReadError(concat(path.string(), ": cannot be read: ", std::strerror(errno)));
  }
  gzbuffer(file_, 1 << 18);
}

std::size_t InputFile::read(char* target, std::size_t size) {
  const int count = gzread(file_, target, static_cast<unsigned>(size));
  int code = Z_OK;
  const char* message = gzerror(file_, &code);
  if (count < 0 || (code != Z_OK && code != Z_STREAM_END)) {
    if (code == Z_MEM_ERROR) throw std::bad_alloc();  // no damage of the file
    if (code == Z_ERRNO) {
      refuse_short_memory(errno);
      throw ReadError(concat(path_.string(), ": cannot be read: ", std::strerror(errno)));
    }
    throw DamagedFileError(
        code == Z_BUF_ERROR
            ? concat(path_.string(), ": is truncated: the gzip stream ends too early")
            : concat(path_.string(), ": is damaged: gzip reports \"", message, "\""));
  }
  return static_cast<std::size_t>(count);
}

void write_blocks(OutputFile& file, bool compressed, std::string_view head, std::int64_t size,
                  const FillBytes& fill) {
  std::optional<GzipMember> member;
  if (compressed) {
    member.emplace(file);
    member->add(deflated(head), head.size());
  } else {
    file.write(head);
  }
  const int threads = std::min(thread_count(), kLargestThreads);
  const auto blocks_at_once = std::int64_t{2} * threads;
  std::vector<std::string> blocks(static_cast<std::size_t>(blocks_at_once));
  std::vector<Part> parts(blocks.size());
  for (std::int64_t begin = 0; begin < size; begin += blocks_at_once * kBlockBytes) {
    const std::int64_t bytes = std::min(blocks_at_once * kBlockBytes, size - begin);
    const std::int64_t count = (bytes + kBlockBytes - 1) / kBlockBytes;
    parallel_for(
        count,
        [&](std::int64_t i) {
          std::string& block = blocks[static_cast<std::size_t>(i)];
          block.resize(static_cast<std::size_t>(std::min(kBlockBytes, bytes - i * kBlockBytes)));
          fill(begin + i * kBlockBytes, block);
          if (compressed) parts[static_cast<std::size_t>(i)] = deflated(block);
        },
        threads);
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      if (member) {
        member->add(parts[i], blocks[i].size());
      } else {
        file.write(blocks[i]);
      }
    }
  }
  if (member) member->finish();
}

}  // namespace segmamba::io
