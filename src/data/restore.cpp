#include "segmamba/data/restore.h"

#include <algorithm>

#include "crop_layout.h"
#include "segmamba/core/error.h"
#include "segmamba/core/half.h"
#include "segmamba/core/text.h"

namespace segmamba::data {

template <class T>
void restore_slices(const PreparedCase& item, std::int64_t first, std::span<const T> slices,
                    std::span<T> full) {
  const auto& [depth, rows, columns] = item.crop_size;
  const std::int64_t count = std::ssize(slices) / (rows * columns);
  if (count * rows * columns != std::ssize(slices) || first < 0 || first + count > depth ||
      std::ssize(full) != item.geometry.voxel_count()) {
    throw Error(concat("case ", item.name, ": ", slices.size(), " values from slice ", first,
                       " do not fit its crop of ", join(item.crop_size, "x"), " in ", full.size(),
                       " voxels"));
  }
  const CropLayout layout = crop_layout(item);
  const T* source = slices.data();
  for (std::int64_t d = first; d < first + count; ++d) {
    for (std::int64_t h = 0; h < rows; ++h, source += columns) {
      T* target = full.data() + layout.row(d, h);
      if (layout.step[2] == 1) {
        std::copy_n(source, columns, target);
      } else {
        for (std::int64_t w = 0; w < columns; ++w) target[w * layout.step[2]] = source[w];
      }
    }
  }
}

template void restore_slices(const PreparedCase&, std::int64_t, std::span<const std::uint8_t>,
                             std::span<std::uint8_t>);
template void restore_slices(const PreparedCase&, std::int64_t, std::span<const Half>,
                             std::span<Half>);

}  // namespace segmamba::data
