#include "channel_reader.h"

#include <algorithm>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {

io::Image ChannelReader::read(const ChannelFile& file) {
  const auto shares = [&](const ChannelFile& other) {
    return other.path == file.path && other.volume >= 0;
  };
  const bool is_shared = std::count_if(item_.images.begin(), item_.images.end(), shares) > 1;
  if (!is_shared || file.volume < 0) return io::read_image(file.path, file.volume);
  if (path_ != file.path) {
    path_ = file.path;
    failed_ = true;
    volumes_ = io::read_images(file.path);
    failed_ = false;
  }
  if (failed_ || file.volume >= std::ssize(volumes_)) {
    throw Error(concat(
        file.path.string(), failed_ ? ": cannot be read" : ": has no volume ",
        failed_ ? "" : concat(file.volume, "; its volumes are 0 to ", std::ssize(volumes_) - 1)));
  }
  // Copied, as two channels may be the same volume.
  return volumes_[static_cast<std::size_t>(file.volume)];
}

}  // namespace segmamba::data
