#pragma once
// 8-bit RGB pictures.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace segmamba::io {

using Colour = std::array<std::uint8_t, 3>;  // red, green, blue

struct Picture {
  std::int64_t width = 0, height = 0;
  std::vector<Colour> pixels;  // rows from the top, [height, width]

  Picture(std::int64_t picture_width, std::int64_t picture_height, Colour fill = {0, 0, 0})
      : width(picture_width),
        height(picture_height),
        pixels(static_cast<std::size_t>(width * height), fill) {}
  Colour& at(std::int64_t x, std::int64_t y) {
    return pixels[static_cast<std::size_t>(y * width + x)];
  }
  const Colour& at(std::int64_t x, std::int64_t y) const {
    return pixels[static_cast<std::size_t>(y * width + x)];
  }
};

// The bytes of a PNG file; with a palette where there are at most 256 colours. Throws Error where
// the picture is empty.
std::string encode_png(const Picture& picture);

// Atomic. Throws Error where the picture is empty or the file cannot be written.
void write_png(const std::filesystem::path& path, const Picture& picture);

}  // namespace segmamba::io
