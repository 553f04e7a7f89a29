#pragma once
// Training patches to look at, before a run spends days on them.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/data/patch_source.h"
#include "segmamba/io/png.h"

namespace segmamba::data {

// A row of panels, one a channel: the axial slice of the patch with the most foreground (the middle
// one where there is none), black to white from the 0.5th to the 99.5th percentile of the patch's
// channel, with the classes outlined. Small patches are enlarged by a whole factor to at least
// `panel_height` pixels.
io::Picture draw_patch(const Index3& size, std::int64_t channels, const float* image,
                       const std::uint8_t* labels, std::int64_t panel_height = 128);

struct PreviewOptions {
  std::int64_t count = 12;
  std::int64_t first_sample = 0;  // patch number of the run
};

// Writes OUTPUT/preview.png, the patches of a run from `first_sample` on as they are trained on
// (two columns: without augmentation, and with it), and OUTPUT/preview.html, the same with the
// case, the place and the drawn parameters under each. Atomic. Throws Error.
void write_preview(const std::filesystem::path& output, PatchSource& source, const Dataset& dataset,
                   const PreviewOptions& options = {});

}  // namespace segmamba::data
