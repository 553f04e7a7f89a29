#pragma once
// The volumes of a case as they stand in a page.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "display_grid.h"
#include "segmamba/core/json.h"
#include "segmamba/io/viewer_report.h"

namespace segmamba::io {

// 8-bit voxels [S, P, L], L fastest: base64 of zlib. Those of an image are differences to what
// their neighbours let expect (predict()).
struct ViewerVolumes {
  std::vector<std::string> packed;  // the labels, then the channels
  Json grid;                        // how the voxels lie in the file and in the world
  Json channels;                    // names, values of the bytes 0 and 255, first window in bytes

  std::uint64_t size() const;  // bytes of `packed`
};

ViewerVolumes viewer_volumes(const LabelMap& labels, const std::vector<ViewerChannel>& channels,
                             const DisplayGrid& grid);

// In each slice of [depth, height, width] the difference, modulo 256, of a voxel to the median of
// left, above and left + above - above left (LOCO-I of JPEG-LS, ISO 14495-1): 0 outside.
std::vector<std::uint8_t> predict(const std::vector<std::uint8_t>& voxels, std::int64_t width,
                                  std::int64_t height);

}  // namespace segmamba::io
