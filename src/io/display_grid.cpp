#include "display_grid.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "segmamba/io/orientation.h"

namespace segmamba::io {
namespace {

constexpr std::int64_t kMargin = 2;  // voxels of the file around what is shown

// One axis of the file as the grid divides it.
struct FileAxis {
  Range range;
  std::int64_t count = 0;  // of cells

  // The cell that holds the centre of voxel `i`.
  std::int64_t cell_of(std::int64_t i) const {
    return (2 * (i - range.low) + 1) * count / (2 * range.length());
  }
};
using FileAxes = std::array<FileAxis, 3>;  // (x, y, z)

FileAxes file_axes(const DisplayGrid& grid) {
  FileAxes axes;
  for (const DisplayAxis& axis : grid.axes) axes[axis.file_axis] = {axis.range, axis.count};
  return axes;
}

// What a voxel gives to cells `cell` and `cell` + 1: the parts of them that it covers.
struct Share {
  std::int64_t cell = 0;
  std::array<float, 2> parts{};
};

std::vector<Share> shares_of(const FileAxis& axis) {
  const std::int64_t length = axis.range.length();
  std::vector<Share> shares;
  for (std::int64_t i = 0; i < length; ++i) {
    // In units in which a cell is `length` long and a voxel `count`.
    const std::int64_t begin = i * axis.count, end = begin + axis.count;
    const std::int64_t cell = begin / length, border = (cell + 1) * length;
    const auto part = [&](std::int64_t covered) {
      return static_cast<float>(covered) / static_cast<float>(length);
    };
    shares.push_back(
        {cell,
         {part(std::min(end, border) - begin), part(std::max<std::int64_t>(0, end - border))}});
  }
  return shares;
}

// Means over the cells, x fastest as in the file. row(z, y) gives the values of the range along x,
// or null where all are 0.
template <class Row>
std::vector<float> means(const FileAxes& axes, Row row) {
  const auto along_x = shares_of(axes[0]), along_y = shares_of(axes[1]),
             along_z = shares_of(axes[2]);
  const std::int64_t width = axes[0].count, height = axes[1].count;
  std::vector<float> cells(static_cast<std::size_t>(width * height * axes[2].count), 0.0f);
  std::vector<float> line(static_cast<std::size_t>(width) + 1);  // the last cell has none behind it
  for (std::size_t z = 0; z < along_z.size(); ++z) {
    for (std::size_t y = 0; y < along_y.size(); ++y) {
      const float* values = row(axes[2].range.low + static_cast<std::int64_t>(z),
                                axes[1].range.low + static_cast<std::int64_t>(y));
      if (values == nullptr) continue;
      std::fill(line.begin(), line.end(), 0.0f);
      for (std::size_t x = 0; x < along_x.size(); ++x) {
        const Share& share = along_x[x];
        line[static_cast<std::size_t>(share.cell)] += share.parts[0] * values[x];
        line[static_cast<std::size_t>(share.cell) + 1] += share.parts[1] * values[x];
      }
      for (std::size_t i = 0; i < 2; ++i) {
        for (std::size_t j = 0; j < 2; ++j) {
          const float part = along_z[z].parts[i] * along_y[y].parts[j];
          if (part == 0) continue;
          const std::int64_t cell_z = along_z[z].cell + static_cast<std::int64_t>(i);
          const std::int64_t cell_y = along_y[y].cell + static_cast<std::int64_t>(j);
          float* out = cells.data() + (cell_z * height + cell_y) * width;
          for (std::int64_t x = 0; x < width; ++x)
            out[x] += part * line[static_cast<std::size_t>(x)];
        }
      }
    }
  }
  return cells;
}

// From the file's order to [S, P, L].
template <class T>
std::vector<T> turned(const std::vector<T>& cells, const DisplayGrid& grid) {
  const FileAxes axes = file_axes(grid);
  const std::array<std::int64_t, 3> file_stride = {1, axes[0].count, axes[0].count * axes[1].count};
  std::array<std::int64_t, 3> stride{};
  std::int64_t start = 0;
  for (std::size_t world = 0; world < 3; ++world) {
    const DisplayAxis& axis = grid.axes[world];
    stride[world] = file_stride[axis.file_axis];
    if (!axis.reversed) continue;
    start += (axis.count - 1) * stride[world];
    stride[world] = -stride[world];
  }
  std::vector<T> out;
  out.reserve(cells.size());
  for (std::int64_t s = 0; s < grid.axes[2].count; ++s) {
    for (std::int64_t p = 0; p < grid.axes[1].count; ++p) {
      const std::int64_t row = start + s * stride[2] + p * stride[1];
      for (std::int64_t l = 0; l < grid.axes[0].count; ++l) {
        out.push_back(cells[static_cast<std::size_t>(row + l * stride[0])]);
      }
    }
  }
  return out;
}

// body(value, x, y, z) for each label of the box that is not 0.
template <class Body>
void for_each_labelled(const LabelMap& labels, const FileAxes& axes, Body body) {
  const auto& size = labels.geometry.size;
  for (std::int64_t z = axes[2].range.low; z < axes[2].range.high; ++z) {
    for (std::int64_t y = axes[1].range.low; y < axes[1].range.high; ++y) {
      const std::uint8_t* row = labels.voxels.data() + (z * size[1] + y) * size[0];
      for (std::int64_t x = axes[0].range.low; x < axes[0].range.high; ++x) {
        if (row[x] != 0) body(row[x], x, y, z);
      }
    }
  }
}

// Those of the box, the one with the most voxels first.
std::vector<std::uint8_t> labels_by_size(const LabelMap& labels, const FileAxes& axes) {
  std::array<std::int64_t, 256> counts{};
  for_each_labelled(labels, axes, [&](std::uint8_t value, auto, auto, auto) { ++counts[value]; });
  std::vector<std::uint8_t> values;
  for (std::size_t value = 1; value < counts.size(); ++value) {
    if (counts[value] > 0) values.push_back(static_cast<std::uint8_t>(value));
  }
  std::stable_sort(values.begin(), values.end(),
                   [&](std::uint8_t a, std::uint8_t b) { return counts[a] > counts[b]; });
  return values;
}

// Gives a cell to each voxel of the label `value` that has none of that label around it.
void rescue(const LabelMap& labels, const FileAxes& axes, std::uint8_t value,
            std::vector<std::uint8_t>& cells) {
  const std::int64_t width = axes[0].count, height = axes[1].count, depth = axes[2].count;
  const auto at = [&](std::int64_t x, std::int64_t y, std::int64_t z) -> std::uint8_t& {
    return cells[static_cast<std::size_t>((z * height + y) * width + x)];
  };
  const auto is_near = [&](std::int64_t x, std::int64_t y, std::int64_t z) {
    for (auto k = std::max<std::int64_t>(z - 1, 0); k <= std::min(z + 1, depth - 1); ++k) {
      for (auto j = std::max<std::int64_t>(y - 1, 0); j <= std::min(y + 1, height - 1); ++j) {
        for (auto i = std::max<std::int64_t>(x - 1, 0); i <= std::min(x + 1, width - 1); ++i) {
          if (at(i, j, k) == value) return true;
        }
      }
    }
    return false;
  };
  for_each_labelled(labels, axes, [&](std::uint8_t found, auto x, auto y, auto z) {
    if (found != value) return;
    const auto i = axes[0].cell_of(x), j = axes[1].cell_of(y), k = axes[2].cell_of(z);
    if (at(i, j, k) != value && !is_near(i, j, k)) at(i, j, k) = value;
  });
}

}  // namespace

IndexBox content_box(const LabelMap& labels, const std::vector<const Image*>& images) {
  const auto& size = labels.geometry.size;
  IndexBox box;
  for (std::size_t axis = 0; axis < 3; ++axis) box[axis] = {size[axis], 0};
  const auto take = [&](std::size_t axis, std::int64_t low, std::int64_t high) {
    box[axis] = {std::min(box[axis].low, low), std::max(box[axis].high, high)};
  };
  const auto take_row = [&](const auto* row, std::int64_t y, std::int64_t z) {
    const auto is_shown = [](auto value) { return value != 0; };
    const auto* end = row + size[0];
    const auto* first = std::find_if(row, end, is_shown);
    if (first == end) return;
    const auto* last = end - 1;
    while (*last == 0) --last;
    take(0, first - row, last - row + 1);
    take(1, y, y + 1);
    take(2, z, z + 1);
  };
  for (std::int64_t z = 0; z < size[2]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      const std::int64_t row = (z * size[1] + y) * size[0];
      take_row(labels.voxels.data() + row, y, z);
      for (const Image* image : images) take_row(image->voxels.data() + row, y, z);
    }
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (box[axis].length() <= 0) return {Range{0, size[0]}, {0, size[1]}, {0, size[2]}};
    box[axis] = {std::max<std::int64_t>(0, box[axis].low - kMargin),
                 std::min(size[axis], box[axis].high + kMargin)};
  }
  return box;
}

DisplayGrid display_grid(const Geometry& geometry, const IndexBox& box, double spacing) {
  const AxisMap to_world = axes_towards(geometry, "LPS");
  DisplayGrid grid;
  for (std::size_t world = 0; world < 3; ++world) {
    const std::size_t axis = to_world.axis[world];
    const std::int64_t length = box[axis].length();
    const double wanted = static_cast<double>(length) * geometry.spacing[axis] / spacing;
    const auto count = std::llround(std::min(wanted, static_cast<double>(length)));
    grid.axes[world] = {axis, to_world.reversed[world], box[axis],
                        std::max<std::int64_t>(1, count)};
  }
  return grid;
}

std::vector<float> reduce_image(const Image& image, const DisplayGrid& grid) {
  const FileAxes axes = file_axes(grid);
  const auto& size = image.geometry.size;
  std::vector<float> row(static_cast<std::size_t>(axes[0].range.length()));
  return turned(means(axes,
                      [&](std::int64_t z, std::int64_t y) {
                        const float* begin =
                            image.voxels.data() + (z * size[1] + y) * size[0] + axes[0].range.low;
                        std::transform(begin, begin + row.size(), row.begin(), [](float value) {
                          return std::isfinite(value) ? value : 0.0f;
                        });
                        return row.data();
                      }),
                grid);
}

std::vector<std::uint8_t> reduce_labels(const LabelMap& labels, const DisplayGrid& grid) {
  const FileAxes axes = file_axes(grid);
  const auto& size = labels.geometry.size;
  const auto cell_count = static_cast<std::size_t>(grid.voxel_count());
  std::vector<std::uint8_t> cells(cell_count, 0);
  std::vector<float> labelled(cell_count, 0.0f), largest(cell_count, 0.0f);
  std::vector<float> row(static_cast<std::size_t>(axes[0].range.length()));
  const auto values = labels_by_size(labels, axes);
  for (const std::uint8_t value : values) {
    const auto shares = means(axes, [&](std::int64_t z, std::int64_t y) -> const float* {
      const std::uint8_t* begin =
          labels.voxels.data() + (z * size[1] + y) * size[0] + axes[0].range.low;
      if (std::memchr(begin, value, row.size()) == nullptr) return nullptr;
      std::transform(begin, begin + row.size(), row.begin(),
                     [value](std::uint8_t found) { return found == value ? 1.0f : 0.0f; });
      return row.data();
    });
    for (std::size_t i = 0; i < cell_count; ++i) {
      labelled[i] += shares[i];
      if (shares[i] == 0 || shares[i] < largest[i]) continue;
      largest[i] = shares[i];
      cells[i] = value;
    }
  }
  constexpr float kHalf = 0.5f - 1e-5f;  // shares are sums of rounded parts
  for (std::size_t i = 0; i < cell_count; ++i) {
    if (labelled[i] < kHalf) cells[i] = 0;
  }
  for (const std::uint8_t value : values) rescue(labels, axes, value, cells);
  return turned(cells, grid);
}

}  // namespace segmamba::io
