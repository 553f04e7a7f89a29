#include "segmamba/io/png.h"

#include <png.h>

#include <cstring>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba::io {

void write_png(const std::filesystem::path& path, const Picture& picture) {
  if (picture.width < 1 || picture.height < 1) {
    throw Error(concat(path.string(), ": a picture of ", picture.width, "x", picture.height,
                       " pixels cannot be written"));
  }
  static_assert(sizeof(Colour) == 3, "rows of colours are handed to libpng as bytes");
  png_image header;
  std::memset(&header, 0, sizeof(header));
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(picture.width);
  header.height = static_cast<png_uint_32>(picture.height);
  header.format = PNG_FORMAT_RGB;
  write_file_atomically(path, [&](const std::filesystem::path& temporary) {
    if (!png_image_write_to_file(&header, temporary.c_str(), 0, picture.pixels.data(), 0,
                                 nullptr)) {
      throw Error(concat(path.string(), ": cannot write the picture: ", header.message));
    }
  });
}

}  // namespace segmamba::io
