#include "segmamba/data/preview.h"

#include <algorithm>
#include <cmath>

#include "segmamba/core/files.h"
#include "segmamba/core/html.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::data {
namespace {

using io::Colour;
using io::Picture;

constexpr std::int64_t kGap = 4;
constexpr Colour kGapColour = {40, 40, 40};
// Of classes 1, 2, ...; later ones begin again.
constexpr std::array<Colour, 6> kClassColours = {Colour{230, 60, 50}, {70, 190, 90},
                                                 {250, 220, 60},      {80, 150, 250},
                                                 {230, 120, 220},     {70, 210, 210}};

Colour colour_of(std::uint8_t label) {
  return kClassColours[(label + kClassColours.size() - 1) % kClassColours.size()];
}

std::int64_t fullest_slice(const Index3& size, const std::uint8_t* labels) {
  const std::int64_t slice = size[1] * size[2];
  std::int64_t best = size[0] / 2, most = 0;
  for (std::int64_t z = 0; z < size[0]; ++z) {
    const auto* first = labels + z * slice;
    const std::int64_t count = slice - std::count(first, first + slice, 0);
    if (count > most) {
      most = count;
      best = z;
    }
  }
  return best;
}

// Black to white from the 0.5th to the 99.5th percentile.
class GreyWindow {
 public:
  GreyWindow(const float* first, std::int64_t count) {
    std::vector<float> values(first, first + count);
    const auto at = [&](double share) {
      const auto nth =
          values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(count - 1));
      std::nth_element(values.begin(), nth, values.end());
      return *nth;
    };
    low_ = at(0.005);
    const float high = at(0.995);
    scale_ = high > low_ ? 255 / (high - low_) : 0;
  }
  std::uint8_t operator()(float value) const {
    return static_cast<std::uint8_t>(
        std::lround(std::clamp((value - low_) * scale_, 0.0f, 255.0f)));
  }

 private:
  float low_ = 0, scale_ = 0;
};

void paste(const Picture& part, std::int64_t left, std::int64_t top, Picture& picture) {
  for (std::int64_t y = 0; y < part.height; ++y) {
    for (std::int64_t x = 0; x < part.width; ++x) picture.at(left + x, top + y) = part.at(x, y);
  }
}

// Pictures in rows of `columns`, all of one size.
Picture contact_sheet(const std::vector<Picture>& pictures, std::int64_t columns) {
  const auto count = static_cast<std::int64_t>(pictures.size());
  const auto rows = (count + columns - 1) / columns;
  const auto width = pictures.front().width + kGap, height = pictures.front().height + kGap;
  Picture sheet(columns * width + kGap, rows * height + kGap, kGapColour);
  for (std::int64_t i = 0; i < count; ++i) {
    paste(pictures[static_cast<std::size_t>(i)], kGap + i % columns * width,
          kGap + i / columns * height, sheet);
  }
  return sheet;
}

constexpr char kStyle[] = R"css(
body { max-width: 1400px; }
.patches { display: grid; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr)); gap: 24px; }
.patches img { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; }
.patches h2 { font-size: 15px; margin: 0 0 4px; overflow-wrap: anywhere; }
.patches dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 12px; margin: 6px 0 0;
  font-size: 13px; font-variant-numeric: tabular-nums; }
.patches dt { color: var(--faint); }
.patches dd { margin: 0; }
)css";

std::string legend(const std::vector<std::string>& classes) {
  std::string text;
  for (std::size_t k = 1; k < classes.size(); ++k) {
    const auto [red, green, blue] = colour_of(static_cast<std::uint8_t>(k));
    text += concat("<span><i style=\"background:rgb(", int{red}, ",", int{green}, ",", int{blue},
                   ")\"></i>", escape_html(classes[k]), "</span> ");
  }
  return concat("<p class=\"legend\">", text, "</p>\n");
}

std::string rows_of(const std::vector<std::pair<std::string, std::string>>& values) {
  std::string text;
  for (const auto& [name, value] : values) {
    text += concat("<dt>", escape_html(name), "</dt><dd>", escape_html(value), "</dd>");
  }
  return concat("<dl>", text, "</dl>");
}

}  // namespace

Picture draw_patch(const Index3& size, std::int64_t channels, const float* image,
                   const std::uint8_t* labels, std::int64_t panel_height) {
  const std::int64_t zoom = std::max<std::int64_t>(1, (panel_height + size[1] - 1) / size[1]);
  const std::int64_t width = size[2] * zoom, height = size[1] * zoom;
  Picture picture(channels * (width + kGap) - kGap, height, kGapColour);
  const std::int64_t z = fullest_slice(size, labels);
  const std::uint8_t* slice = labels + z * size[1] * size[2];
  const auto label_at = [&](std::int64_t x, std::int64_t y) -> std::uint8_t {
    return x < 0 || y < 0 || x >= width || y >= height ? 0 : slice[y / zoom * size[2] + x / zoom];
  };
  for (std::int64_t c = 0; c < channels; ++c) {
    const float* values = image + c * volume_of(size);
    const GreyWindow grey(values, volume_of(size));
    values += z * size[1] * size[2];
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const std::uint8_t g = grey(values[y / zoom * size[2] + x / zoom]);
        Colour colour = {g, g, g};
        // The innermost pixels of a class, where a neighbour is of another one.
        const std::uint8_t label = label_at(x, y);
        if (label != 0 && (label_at(x - 1, y) != label || label_at(x + 1, y) != label ||
                           label_at(x, y - 1) != label || label_at(x, y + 1) != label)) {
          colour = colour_of(label);
        }
        picture.at(c * (width + kGap) + x, y) = colour;
      }
    }
  }
  return picture;
}

void write_preview(const std::filesystem::path& output, PatchSource& source, const Dataset& dataset,
                   const PreviewOptions& options) {
  make_folders(output);
  const Index3& size = source.size();
  const auto voxels = static_cast<std::size_t>(volume_of(size));
  std::vector<float> image(voxels * static_cast<std::size_t>(source.channels()));
  std::vector<std::uint8_t> labels(voxels);
  PatchScratch scratch;
  std::vector<Picture> pictures;
  std::string figures;
  for (std::int64_t i = 0; i < options.count; ++i) {
    const std::int64_t sample = options.first_sample + i;
    const auto drawn = source.draw(sample);
    const auto draw = [&](const AugmentPlan& plan) {
      render_patch(*drawn.item, drawn.begin, plan, image.data(), labels.data(), scratch);
      pictures.push_back(draw_patch(size, source.channels(), image.data(), labels.data()));
    };
    draw(no_augmentation(size, source.channels()));
    draw(drawn.plan);
    const auto pair = contact_sheet({pictures.end() - 2, pictures.end()}, 1);
    auto values = describe(drawn.plan);
    values.insert(values.begin(),
                  {"begins at", concat("z ", drawn.begin[0], ", y ", drawn.begin[1], ", x ",
                                       drawn.begin[2], " of ", join(drawn.item->size, "x"))});
    figures += concat("<section><h2>", sample, ": ", escape_html(drawn.item->name),
                      "</h2>\n<img alt=\"patch ", sample, " without and with augmentation\" src=\"",
                      "data:image/png;base64,", base64(io::encode_png(pair)), "\">\n",
                      rows_of(values), "</section>\n");
  }
  io::write_png(output / "preview.png", contact_sheet(pictures, 2));
  const std::string intro =
      concat("<header><h1>Training patches</h1>\n<p>Patches ", options.first_sample, " to ",
             options.first_sample + options.count - 1, " of a run, ", join(size, "x"),
             " voxels, by segmamba ", escape_html(version()),
             "; above as the case has it, below as it is trained on. Channels: ",
             escape_html(join(dataset.channels, ", ")),
             ". Each picture is the axial slice with the most foreground.</p></header>\n",
             legend(dataset.classes));
  write_file_atomically(output / "preview.html",
                        html_page("Training patches", kStyle,
                                  intro + "<div class=\"patches\">\n" + figures + "</div>\n"));
}

}  // namespace segmamba::data
