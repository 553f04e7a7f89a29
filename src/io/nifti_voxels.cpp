#include "nifti_voxels.h"

#include <libdeflate.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "gzip_file.h"
#include "nifti_types.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

// Bytes after the last voxel that are read through (for the check sum of gzip) before giving up.
constexpr std::int64_t kMaximumTrailing = std::int64_t{1} << 26;

// A gzip file unpacked at once, which is several times as fast as piece by piece. Nothing where it
// is not just what the header promises (or large): the way piece by piece finds out what is wrong.
std::optional<std::vector<char>> unpack_whole(const fs::path& path, std::int64_t expected_bytes) {
  constexpr std::int64_t kLargest = std::int64_t{1} << 26, kLargestRatio = 1032;
  std::error_code error;
  const auto packed_bytes = static_cast<std::int64_t>(fs::file_size(path, error));
  if (error || expected_bytes > kLargest || packed_bytes > kLargest ||
      expected_bytes / kLargestRatio > packed_bytes) {
    return std::nullopt;
  }
  std::ifstream input(path, std::ios::binary);
  std::vector<char> packed(static_cast<std::size_t>(packed_bytes));
  if (!input.read(packed.data(), packed_bytes)) return std::nullopt;
  if (!std::string_view(packed.data(), packed.size()).starts_with("\x1f\x8b")) return std::nullopt;
  // Its last bytes say how much it holds. Where they do not bear out the header, no room is made.
  std::uint32_t told_bytes = 0;
  if (packed.size() < sizeof(told_bytes)) return std::nullopt;
  std::memcpy(&told_bytes, packed.data() + packed.size() - sizeof(told_bytes), sizeof(told_bytes));
  if (std::int64_t{told_bytes} != expected_bytes) return std::nullopt;

  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)>
      decompressor(libdeflate_alloc_decompressor(), &libdeflate_free_decompressor);
  if (!decompressor) return std::nullopt;
  std::vector<char> content(static_cast<std::size_t>(expected_bytes));
  std::size_t used = 0, made = 0;
  const auto result =
      libdeflate_gzip_decompress_ex(decompressor.get(), packed.data(), packed.size(),
                                    content.data(), content.size(), &used, &made);
  const bool is_whole =
      result == LIBDEFLATE_SUCCESS && used == packed.size() && made == content.size();
  if (!is_whole) return std::nullopt;
  return content;
}

// Reads the file to its end and gives the bytes of the voxels of all volumes to `sink` in pieces of
// whole voxels (but for the last piece of a truncated file). Throws DamagedFileError where the file
// is shorter than its header says, or where gzip's check sum or stream is damaged.
void read_content(const NiftiFile& file, const std::function<void(std::span<const char>)>& sink) {
  const std::int64_t begin = file.header.voxel_offset;
  const std::int64_t end = begin + file.header.data_bytes();
  if (const auto content = unpack_whole(file.data_path, end)) {
    sink(std::span<const char>(*content).subspan(static_cast<std::size_t>(begin)));
    return;
  }
  InputFile input(file.data_path);
  std::vector<char> buffer(std::size_t{1} << 18);
  std::int64_t position = 0;
  // Reads on to `end` and returns the next piece; an empty one at the end of the file.
  const auto next_piece = [&](std::int64_t end) {
    const auto wanted = std::min<std::int64_t>(std::ssize(buffer), end - position);
    const std::size_t count = input.read(buffer.data(), static_cast<std::size_t>(wanted));
    position += static_cast<std::int64_t>(count);
    return std::span<const char>(buffer).first(count);
  };

  while (position < begin && !next_piece(begin).empty()) {
  }
  while (position < end) {
    const auto piece = next_piece(end);
    if (piece.empty()) break;
    sink(piece);
  }
  if (position < end) {
    throw DamagedFileError(concat(file.data_path.string(), ": is truncated: its header promises ",
                                  end, " bytes, it holds ", position));
  }
  const std::int64_t limit = end + kMaximumTrailing;
  while (position < limit && !next_piece(limit).empty()) {
  }
  if (position == limit) {
    throw Error(concat(file.data_path.string(),
                       ": header is damaged: the file holds far more than its header says"));
  }
  if (position > end) {
    log_warning(concat(file.data_path.string(), ": ", position - end,
                       " bytes after the last voxel are ignored"));
  }
}

template <class T>
void swap_bytes(std::vector<T>& values) {
  for (T& value : values) {
    auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
    std::reverse(raw.begin(), raw.end());
    value = std::bit_cast<T>(raw);
  }
}

template <class T>
void refuse_not_finite(const NiftiFile& file, const std::vector<T>& voxels) {
  const auto bad =
      std::count_if(voxels.begin(), voxels.end(), [](T value) { return !std::isfinite(value); });
  if (bad == 0) return;
  throw NotFiniteError(concat(file.header_path.string(), ": ", bad, " of ", voxels.size(),
                              " voxels are NaN or infinite"));
}

template <class Scaled, class T>
std::vector<Scaled> scaled(const std::vector<T>& stored, double slope, double intercept) {
  std::vector<Scaled> voxels(stored.size());
  std::transform(stored.begin(), stored.end(), voxels.begin(), [&](T value) {
    return static_cast<Scaled>(static_cast<double>(value) * slope + intercept);
  });
  return voxels;
}

template <class T>
Voxels read_as(const NiftiFile& file, std::int64_t first_volume, std::int64_t volumes) {
  std::vector<T> voxels;
  // A damaged header may promise anything: room is made ahead only for what the file can hold. What
  // a gzip file holds is known when it is unpacked: room for more than one of its size usually
  // holds, or than this much, is made as voxels come.
  constexpr std::uintmax_t kMostUnseen = std::uintmax_t{1} << 26, kUsualRatio = 8;
  std::error_code error;
  const auto on_disk = std::filesystem::file_size(file.data_path, error);
  const std::int64_t begin = first_volume * file.header.volume_bytes();
  const std::int64_t end = begin + volumes * file.header.volume_bytes();
  const auto promised = static_cast<std::uintmax_t>(end - begin);
  const bool is_packed = file.data_path.extension() == ".gz";
  if (!error) {
    const auto held = is_packed ? std::min(kMostUnseen, kUsualRatio * on_disk) : on_disk;
    const auto room = std::min(promised, held);
    voxels.reserve(static_cast<std::size_t>(room / sizeof(T)));
  }
  std::int64_t position = 0;
  read_content(file, [&](std::span<const char> piece) {
    // The part of the piece that lies in the volumes asked for.
    const std::int64_t from = std::clamp<std::int64_t>(begin - position, 0, std::ssize(piece));
    const std::int64_t to = std::clamp<std::int64_t>(end - position, from, std::ssize(piece));
    position += std::ssize(piece);
    const std::size_t count = static_cast<std::size_t>(to - from) / sizeof(T);
    const std::size_t first = voxels.size();
    if (first + count > voxels.capacity()) {  // not beyond the promise, as resize would
      voxels.reserve(std::min<std::size_t>(promised / sizeof(T), 2 * (first + count)));
    }
    voxels.resize(first + count);
    std::memcpy(voxels.data() + first, piece.data() + from, count * sizeof(T));
  });
  if (file.header.swapped && sizeof(T) > 1) swap_bytes(voxels);
  if constexpr (std::is_floating_point_v<T>) refuse_not_finite(file, voxels);
  const double slope = file.header.slope, intercept = file.header.intercept;
  const bool is_unscaled = slope == 0 || std::isnan(slope) || (slope == 1 && intercept == 0);
  if (is_unscaled) return voxels;
  using Scaled = std::conditional_t<std::is_same_v<T, double>, double, float>;
  return scaled<Scaled>(voxels, slope, intercept);
}

}  // namespace

Voxels read_voxels(const NiftiFile& file, std::int64_t first, std::int64_t count) {
  return visit_type(static_cast<NiftiType>(file.header.datatype),
                    [&]<class T>() { return read_as<T>(file, first, count); });
}

}  // namespace segmamba::io
