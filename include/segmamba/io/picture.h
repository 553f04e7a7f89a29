#pragma once
// Pictures of a segmentation, to look at a result without a viewer.

#include <cstdint>
#include <filesystem>

#include "segmamba/io/png.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {

// The colour of a label: 1, 2 and 3 (of BraTS necrosis, oedema and enhancing tumour) are red, green
// and yellow, others are told apart by their hue. Black for 0.
Colour label_colour(std::uint8_t label);

enum class LabelStyle {
  kFilled,
  kOutlined,  // one pixel wide, opaque: the image stays visible
};

struct OverlayOptions {
  LabelStyle style = LabelStyle::kFilled;
  double opacity = 0.55;            // of filled labels over the image
  std::int64_t panel_height = 240;  // pixels of the tallest panel, at least
};

// Three rows (axial, coronal, sagittal, each the slice where the tumour is largest) by up to four
// columns: image | reference | prediction | difference. In the difference, blue is tumour that the
// prediction missed, orange what it added, purple tumour with the wrong label; it is filled always.
// Either label map may be null: its column and the difference are then left out. In every slice the
// patient's left is on the right, the front or the head on top (in sagittal slices the front is on
// the left); this follows the direction of the background. Pixels are square millimetres or parts
// of them. Throws Error where the label maps have another size than the background.
Picture draw_overlay(const Image& background, const LabelMap* reference, const LabelMap* prediction,
                     const OverlayOptions& options = {});

// Where two segmentations differ: axial, coronal and sagittal slices beside each other, each the
// one with the most voxels that differ (the most labelled ones where none does), cut to the box of
// both with a margin. Agreement is grey by label; missed, added and wrong labels are coloured as in
// draw_overlay, and so are the views oriented. At most nine colours for labels up to 3. Only the
// sizes must agree; the geometry is the reference's. Throws Error where they do not.
struct DifferenceOptions {
  std::int64_t panel_size = 160;  // pixels that no panel exceeds
  std::int64_t margin = 4;        // voxels around the labels
};
Picture draw_difference(const LabelMap& reference, const LabelMap& prediction,
                        const DifferenceOptions& options = {});

// Draws it into a PNG file. Atomic. Throws Error as draw_overlay and write_png.
void write_overlay_picture(const std::filesystem::path& path, const Image& background,
                           const LabelMap* reference, const LabelMap* prediction,
                           const OverlayOptions& options = {});

}  // namespace segmamba::io
