// write_like KIND REFERENCE OUTPUT: writes what inference would for a file, for nibabel_test.py.
//   image          the reference itself
//   labels         voxel v has the label v % 5
//   probabilities  of "a" and "b, c": (7 v + 13 map) % 101 / 100 at voxel v
//   map            0.25 v
// A 4-D reference stands for its volume 0.

#include <cstdio>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/io/maps.h"
#include "segmamba/io/volume.h"

namespace {

using namespace segmamba;

void write_like(const std::string& kind, const std::string& reference, const std::string& output) {
  io::Image image = io::read_image(reference, 0);
  const io::Geometry& geometry = image.geometry;
  const auto count = static_cast<std::size_t>(geometry.voxel_count());
  if (kind == "image") {
    io::write_image(output, image);
  } else if (kind == "labels") {
    io::LabelMap labels{geometry, std::vector<std::uint8_t>(count)};
    for (std::size_t v = 0; v < count; ++v) labels.voxels[v] = static_cast<std::uint8_t>(v % 5);
    io::write_labels(output, labels);
  } else if (kind == "probabilities") {
    io::write_probabilities(
        output, geometry, {"a", "b, c"},
        [](std::size_t map, std::int64_t first, std::span<float> values) {
          for (float& value : values) {
            value =
                static_cast<float>((7 * first++ + 13 * static_cast<std::int64_t>(map)) % 101) / 100;
          }
        });
  } else if (kind == "map") {
    std::vector<Half> map(count);
    for (std::size_t v = 0; v < count; ++v) map[v] = to_half(0.25F * static_cast<float>(v));
    io::write_map(output, geometry, "entropy", map);
  } else {
    throw Error("unknown kind " + kind);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    write_like(argv[1], argv[2], argv[3]);
  } catch (const segmamba::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
