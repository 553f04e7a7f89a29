#include "segmamba/io/maps.h"

#include <algorithm>
#include <limits>

#include "nifti_geometry.h"
#include "nifti_writer.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr float kSteps = 65535;
// Of sums of half-precision numbers near 1.
constexpr float kRounding = 2e-3F;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat("cannot write ", path.string(), ": ", what));
}

void check_size(const fs::path& path, const Geometry& geometry, const std::string& name,
                std::size_t voxels) {
  if (voxels == static_cast<std::size_t>(geometry.voxel_count())) return;
  fail(path, concat(name, " has ", voxels, " voxels, its grid ", join(geometry.size, "x")));
}

void to_float(std::span<const Half> map, std::int64_t first, std::span<float> values) {
  const auto source = map.subspan(static_cast<std::size_t>(first), values.size());
  std::transform(source.begin(), source.end(), values.begin(),
                 [](Half value) { return segmamba::to_float(value); });
}

// Written so that NaN is outside.
template <class Range>
bool all_between(const Range& values, float low, float high) {
  // A sum, and not a search, is what compilers vectorise.
  std::size_t inside = 0;
  for (const float value : values)
    inside += static_cast<std::size_t>(value >= low && value <= high);
  return inside == values.size();
}

// Where map after map is one long row of voxels: calls part(map, first voxel in the map, position
// in the row from `first` on, count) for each map that the `count` voxels from `first` on touch.
template <class Part>
void for_each_map(std::int64_t voxels_of_a_map, std::int64_t first, std::int64_t count,
                  const Part& part) {
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t map = (first + done) / voxels_of_a_map;
    const std::int64_t voxel = (first + done) % voxels_of_a_map;
    const std::int64_t length = std::min(count - done, voxels_of_a_map - voxel);
    part(static_cast<std::size_t>(map), voxel, static_cast<std::size_t>(done),
         static_cast<std::size_t>(length));
    done += length;
  }
}

}  // namespace

void write_probabilities(const fs::path& path, const Geometry& geometry,
                         const std::vector<std::string>& names, const MapValues& values) {
  if (names.empty() || names.size() > INT16_MAX) {
    fail(path, concat(names.size(), " maps do not fit a file"));
  }
  NiftiHeader header = header_for(geometry);
  header.dim[0] = 4;
  header.dim[4] = static_cast<std::int64_t>(names.size());
  // The fourth axis of the input may have been time.
  header.pixdim[4] = 1;
  constexpr int kUnitsOfLength = 7;
  header.units &= kUnitsOfLength;

  Json extension = Json::object();
  extension["volumes"] = names;
  const NiftiContent content{.type = NiftiType::kUint16,
                             .slope = 1.0 / kSteps,
                             .subject = "probabilities",
                             .extension = json_text(extension)};
  write_nifti_voxels<std::uint16_t>(
      path, header, content, [&](std::int64_t first, std::span<std::uint16_t> stored) {
        std::vector<float> numbers(stored.size());
        for_each_map(geometry.voxel_count(), first, std::ssize(stored),
                     [&](std::size_t map, std::int64_t voxel, std::size_t at, std::size_t count) {
                       const auto part = std::span(numbers).subspan(at, count);
                       values(map, voxel, part);
                       if (!all_between(part, -kRounding, 1 + kRounding)) {
                         fail(path, concat("the map of ", names[map],
                                           " holds values that are no probabilities (0 to 1)"));
                       }
                     });
        std::transform(numbers.begin(), numbers.end(), stored.begin(), [](float value) {
          // NOLINTNEXTLINE(bugprone-incorrect-roundings): a vector of them, unlike lround
          return static_cast<std::uint16_t>(std::clamp(value, 0.0F, 1.0F) * kSteps + 0.5F);
        });
      });
}

void write_probabilities(const fs::path& path, const Geometry& geometry,
                         const std::vector<std::string>& names,
                         std::span<const std::vector<Half>> maps) {
  if (maps.size() != names.size()) {
    fail(path, concat(maps.size(), " maps, but ", names.size(), " names"));
  }
  for (std::size_t i = 0; i < maps.size(); ++i) {
    check_size(path, geometry, concat("the map of ", names[i]), maps[i].size());
  }
  write_probabilities(path, geometry, names,
                      [&](std::size_t map, std::int64_t first, std::span<float> values) {
                        to_float(maps[map], first, values);
                      });
}

void write_map(const fs::path& path, const Geometry& geometry, const std::string& name,
               std::span<const Half> map) {
  check_size(path, geometry, concat("the map of ", name), map.size());
  const NiftiContent content{.type = NiftiType::kFloat32, .subject = name};
  write_nifti_voxels<float>(
      path, header_for(geometry), content, [&](std::int64_t first, std::span<float> stored) {
        to_float(map, first, stored);
        constexpr float kLargest = std::numeric_limits<float>::max();
        if (!all_between(stored, -kLargest, kLargest)) {
          fail(path, concat("the map of ", name, " holds values that are not finite"));
        }
      });
}

}  // namespace segmamba::io
