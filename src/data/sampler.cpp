#include "segmamba/data/sampler.h"

#include <algorithm>
#include <numeric>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

enum : std::uint64_t { kOrder = 1 };  // purposes of random numbers: the first step of their path

// Where a patch begins that has `voxel` in its middle, moved into the case where it would stick
// out; a case smaller than the patch lies in the middle of it.
std::int64_t begin_around(std::int64_t voxel, std::int64_t patch, std::int64_t whole) {
  if (whole <= patch) return -((patch - whole) / 2);
  return std::clamp<std::int64_t>(voxel - patch / 2, 0, whole - patch);
}

// Voxels of the chosen classes in slice z.
std::int64_t count_in_slice(const PreparedCase& item, const std::vector<bool>& chosen,
                            std::int64_t z) {
  std::int64_t count = 0;
  for (std::int64_t k = 0; k < item.classes; ++k) {
    if (chosen[static_cast<std::size_t>(k)]) {
      count += item.class_counts[static_cast<std::size_t>(z * item.classes + k)];
    }
  }
  return count;
}

// The `rank`-th voxel of the chosen classes, in the order of memory. Throws Error where the labels
// do not have it, as in a file of a cache that says of itself what is not so.
Index3 find_voxel(const PreparedCase& item, const std::vector<bool>& chosen, std::int64_t rank) {
  const std::int64_t slice = item.size[1] * item.size[2];
  for (std::int64_t z = 0; z < item.size[0]; ++z) {
    const std::int64_t here = count_in_slice(item, chosen, z);
    if (rank >= here) {
      rank -= here;
      continue;
    }
    const std::uint8_t* labels = item.labels.data() + z * slice;
    for (std::int64_t index = 0; index < slice; ++index) {
      const std::size_t label = labels[index];
      if (label < chosen.size() && chosen[label] && rank-- == 0) {
        return {z, index / item.size[2], index % item.size[2]};
      }
    }
    break;
  }
  throw Error(concat("case ", item.name,
                     ": its labels are not those that were counted; remove its file from the cache "
                     "and run segmamba-data prepare again"));
}

}  // namespace

void SamplingConfig::visit(ConfigVisitor& visitor) {
  visitor.value({.name = "foreground_fraction",
                 .help = "Share of patches around a random voxel of a foreground class",
                 .min = 0,
                 .max = 1},
                foreground_fraction);
  visitor.value({.name = "foreground",
                 .help = "each: a class of those in the case, all alike, then a voxel of it; all: "
                         "any foreground voxel",
                 .choices = {"each", "all"}},
                foreground);
  visitor.value({.name = "classes", .help = "Foreground classes; []: all but the first"}, classes);
}

std::vector<bool> foreground_classes(const SamplingConfig& config,
                                     const std::vector<std::string>& classes) {
  std::vector<bool> chosen(classes.size(), config.classes.empty());
  if (config.classes.empty()) chosen.front() = false;
  for (const auto& name : config.classes) {
    const auto found = std::find(classes.begin(), classes.end(), name);
    if (found == classes.end()) {
      throw Error(concat("sampling.classes: there is no class ", name, " in data.classes (",
                         join(classes, ", "), ")"));
    }
    chosen[static_cast<std::size_t>(found - classes.begin())] = true;
  }
  return chosen;
}

std::size_t case_of_sample(std::uint64_t seed, std::int64_t sample, std::size_t cases) {
  const auto count = static_cast<std::int64_t>(cases);
  std::vector<std::size_t> order(cases);
  std::iota(order.begin(), order.end(), 0);
  auto random = Random::keyed(seed, {kOrder, static_cast<std::uint64_t>(sample / count)});
  random.shuffle(order);
  return order[static_cast<std::size_t>(sample % count)];
}

Index3 draw_place(const PreparedCase& item, const Index3& size, const SamplingConfig& config,
                  const std::vector<bool>& is_foreground, Random& random) {
  // Every number is drawn whether it is used or not: the same ones for each case.
  const bool wants_foreground = random.chance(config.foreground_fraction);
  const double class_share = random.uniform();
  const double voxel_share = random.uniform();
  Index3 begin{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double share = random.uniform();
    const std::int64_t room = item.size[axis] - size[axis];
    begin[axis] =
        room <= 0
            ? begin_around(0, size[axis], item.size[axis])
            : std::min(static_cast<std::int64_t>(share * static_cast<double>(room + 1)), room);
  }
  if (!wants_foreground || item.labels.empty()) return begin;

  std::vector<std::int64_t> totals(static_cast<std::size_t>(item.classes), 0);
  for (std::size_t i = 0; i < item.class_counts.size(); ++i) {
    totals[i % totals.size()] += item.class_counts[i];
  }
  std::vector<bool> chosen = is_foreground;
  chosen.resize(totals.size());
  std::vector<std::size_t> present;
  for (std::size_t k = 0; k < totals.size(); ++k) {
    if (chosen[k] && totals[k] > 0) present.push_back(k);
  }
  if (present.empty()) return begin;
  const auto pick = [](double share, std::int64_t count) {
    return std::min(static_cast<std::int64_t>(share * static_cast<double>(count)), count - 1);
  };
  if (config.foreground == "each") {
    const auto k = present[static_cast<std::size_t>(
        pick(class_share, static_cast<std::int64_t>(present.size())))];
    chosen.assign(totals.size(), false);
    chosen[k] = true;
  }
  std::int64_t voxels = 0;
  for (std::size_t k = 0; k < totals.size(); ++k) voxels += chosen[k] ? totals[k] : 0;
  const Index3 voxel = find_voxel(item, chosen, pick(voxel_share, voxels));
  for (std::size_t axis = 0; axis < 3; ++axis) {
    begin[axis] = begin_around(voxel[axis], size[axis], item.size[axis]);
  }
  return begin;
}

}  // namespace segmamba::data
