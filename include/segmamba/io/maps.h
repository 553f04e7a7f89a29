#pragma once
// Numbers that belong to each voxel of a case, as a model gives them: probabilities, uncertainty.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "segmamba/core/half.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {

// Gives the values of map number `map` at the voxels `first`, `first + 1`, ... (x fastest) of the
// grid. Called by several threads at once, for different voxels.
using MapValues = std::function<void(std::size_t map, std::int64_t first, std::span<float> values)>;

// A 4-D file [x, y, z, map] of probabilities, a volume for each name, stored as uint16 with a slope
// of 1/65535: to 8e-6 exact. A header extension (NIFTI_ECODE_COMMENT) says which is which, as JSON:
// {"volumes": ["background", "necrosis"]}. The place in the world is exactly that of `geometry`, as
// in write_labels. No more than a few MiB are held. Atomic. Throws Error naming the file and the
// map where a value is below 0 or above 1 by more than rounding in half precision, or NaN.
void write_probabilities(const std::filesystem::path& path, const Geometry& geometry,
                         const std::vector<std::string>& names, const MapValues& values);
// The same of whole maps. Throws Error where they are not as many as the names, or of another size
// than the grid.
void write_probabilities(const std::filesystem::path& path, const Geometry& geometry,
                         const std::vector<std::string>& names,
                         std::span<const std::vector<Half>> maps);

// A 3-D file of float32: entropy, disagreement, or what else has no range of its own. The name
// stands in the header's description. Atomic. Throws Error naming the file where a value is not
// finite, or the map is of another size than the grid.
void write_map(const std::filesystem::path& path, const Geometry& geometry, const std::string& name,
               std::span<const Half> map);

}  // namespace segmamba::io
