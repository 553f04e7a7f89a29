#include "segmamba/io/png.h"

#include <png.h>

#include <cstring>
#include <map>
#include <new>
#include <optional>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

struct Indexed {
  std::vector<Colour> palette;
  std::vector<std::uint8_t> pixels;  // places in the palette
};

// Nothing where there are too many colours for a palette. Colours stand in the order of their first
// pixel.
std::optional<Indexed> indexed(const Picture& picture) {
  constexpr std::size_t kLargestPalette = 256;
  std::map<Colour, std::uint8_t> places;
  Indexed result;
  result.pixels.reserve(picture.pixels.size());
  for (const Colour& colour : picture.pixels) {
    auto place = places.find(colour);
    if (place == places.end()) {
      if (places.size() == kLargestPalette) return std::nullopt;
      place = places.emplace(colour, static_cast<std::uint8_t>(places.size())).first;
      result.palette.push_back(colour);
    }
    result.pixels.push_back(place->second);
  }
  return result;
}

}  // namespace

std::string encode_png(const Picture& picture) {
  if (picture.width < 1 || picture.height < 1) {
    throw Error(
        concat("a picture of ", picture.width, "x", picture.height, " pixels cannot be written"));
  }
  static_assert(sizeof(Colour) == 3, "rows of colours are handed to libpng as bytes");
  const std::optional<Indexed> with_palette = indexed(picture);
  png_image header;
  std::memset(&header, 0, sizeof(header));
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(picture.width);
  header.height = static_cast<png_uint_32>(picture.height);
  header.format = with_palette ? PNG_FORMAT_RGB_COLORMAP : PNG_FORMAT_RGB;
  const void* pixels = picture.pixels.data();
  const void* palette = nullptr;
  if (with_palette) {
    header.colormap_entries = static_cast<png_uint_32>(with_palette->palette.size());
    pixels = with_palette->pixels.data();
    palette = with_palette->palette.data();
  }
  png_alloc_size_t size = 0;
  std::string bytes;
  if (png_image_write_get_memory_size(header, size, 0, pixels, 0, palette)) {
    bytes.resize(size);
    if (png_image_write_to_memory(&header, bytes.data(), &size, 0, pixels, 0, palette)) {
      return bytes;
    }
  }
  // That memory is short libpng tells by words alone, its own or those of zlib.
  const std::string why = to_lower(header.message);
  if (ends_with(why, "out of memory") || ends_with(why, "insufficient memory")) {
    throw std::bad_alloc();
  }
  throw Error(concat("cannot encode the picture: ", header.message));
}

void write_png(const std::filesystem::path& path, const Picture& picture) {
  std::string bytes;
  try {
    bytes = encode_png(picture);
  } catch (const Error& error) {
    throw Error(concat(path.string(), ": ", error.what()));
  }
  write_file_atomically(path, bytes);
}

}  // namespace segmamba::io
