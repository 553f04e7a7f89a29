#pragma once

#include <filesystem>
#include <vector>

#include "segmamba/data/dataset.h"
#include "segmamba/io/volume.h"

namespace segmamba::data {

// The channels of one case, one after another. A 4-D file that several of them lie in is unpacked
// once.
class ChannelReader {
 public:
  explicit ChannelReader(const Case& item) : item_(item) {}

  // Throws Error naming the file, also where it has no such volume.
  io::Image read(const ChannelFile& file);
  // Whether reading this file failed as a whole, for all channels in it.
  bool has_failed(const std::filesystem::path& path) const { return failed_ && path == path_; }

 private:
  const Case& item_;
  std::filesystem::path path_;  // of `volumes_`
  std::vector<io::Image> volumes_;
  bool failed_ = false;
};

}  // namespace segmamba::data
