#include "lesions.h"

#include <algorithm>
#include <set>

namespace segmamba::metrics {
namespace {

// The voxels of `box` whose lesion satisfies `wanted`, as a mask of the box's size.
template <class Predicate>
Mask select(const Components& lesions, const Box& box, Predicate wanted) {
  Mask mask(box.size());
  std::uint8_t* target = mask.voxels.data();
  for (std::int64_t z = box.low[2]; z < box.high[2]; ++z) {
    for (std::int64_t y = box.low[1]; y < box.high[1]; ++y) {
      const std::int32_t* row = lesions.labels.data() + (z * lesions.size[1] + y) * lesions.size[0];
      for (std::int64_t x = box.low[0]; x < box.high[0]; ++x) *target++ = wanted(row[x]) ? 1 : 0;
    }
  }
  return mask;
}

// The lesions of `others` that meet lesion `number` of `lesions` after `dilation` dilations.
std::set<std::int32_t> neighbours(const Components& lesions, std::int32_t number, int dilation,
                                  const Components& others) {
  const Box box = lesions.box(number).grown(dilation, lesions.size);
  const Mask reach = dilate_18(
      select(lesions, box, [&](std::int32_t label) { return label == number; }), dilation);
  std::set<std::int32_t> found;
  const std::uint8_t* voxel = reach.voxels.data();
  for (std::int64_t z = box.low[2]; z < box.high[2]; ++z) {
    for (std::int64_t y = box.low[1]; y < box.high[1]; ++y) {
      const std::int32_t* row = others.labels.data() + (z * others.size[1] + y) * others.size[0];
      for (std::int64_t x = box.low[0]; x < box.high[0]; ++x) {
        if (*voxel++ != 0 && row[x] != 0) found.insert(row[x]);
      }
    }
  }
  return found;
}

// Replaces each label by number[label] (0 removes it).
Components renumbered(const Components& lesions, const std::vector<std::int32_t>& number) {
  Components out;
  out.size = lesions.size;
  out.rows = lesions.rows;
  out.labels.resize(lesions.labels.size());
  const std::int64_t nx = lesions.size[0];
  for (std::int64_t row = 0; row < lesions.size[1] * lesions.size[2]; ++row) {
    const std::int32_t* source = lesions.labels.data() + row * nx;
    if (lesions.rows && (*lesions.rows)[static_cast<std::size_t>(row)] == 0) continue;
    std::int32_t* target = out.labels.data() + row * nx;
    for (std::int64_t x = 0; x < nx; ++x) target[x] = number[source[x]];
  }
  out.count = *std::max_element(number.begin(), number.end());
  out.measure();
  return out;
}

}  // namespace

Components merged_lesions(const Mask& mask, int dilation) {
  Components lesions = connected_components_26(dilate_18(mask, dilation));
  const std::int64_t nx = mask.size[0];
  for (std::int64_t row = 0; row < mask.row_count(); ++row) {
    if (lesions.rows && (*lesions.rows)[static_cast<std::size_t>(row)] == 0) continue;
    const std::uint8_t* voxels = mask.voxels.data() + row * nx;
    std::int32_t* labels = lesions.labels.data() + row * nx;
    for (std::int64_t x = 0; x < nx; ++x) labels[x] = voxels[x] != 0 ? labels[x] : 0;
  }
  lesions.measure();
  return lesions;
}

std::vector<std::int32_t> numbers_above(const Components& lesions, double voxels) {
  std::vector<std::int32_t> numbers = {0};
  for (std::int32_t lesion = 1; lesion <= lesions.count; ++lesion) {
    if (static_cast<double>(lesions.voxels(lesion)) > voxels) numbers.push_back(lesion);
  }
  return numbers;
}

Components without_small(const Components& lesions, double voxels) {
  const std::vector<std::int32_t> kept = numbers_above(lesions, voxels);
  std::vector<std::int32_t> number(static_cast<std::size_t>(lesions.count) + 1);
  for (std::size_t i = 1; i < kept.size(); ++i) number[kept[i]] = static_cast<std::int32_t>(i);
  return renumbered(lesions, number);
}

Components joined_through(const Components& own, const Components& tissue) {
  std::size_t contacts = 0;
  std::vector<std::int32_t> lowest(static_cast<std::size_t>(own.count) + 1);  // 0: no contact
  std::vector<std::int32_t> tissues;  // with contact, in the order of the lesions that meet them
  for (std::int32_t lesion = 1; lesion <= own.count; ++lesion) {
    const std::set<std::int32_t> touched = neighbours(own, lesion, 1, tissue);
    contacts += touched.size();
    if (!touched.empty()) lowest[lesion] = *touched.begin();
    for (const std::int32_t part : touched) {
      if (std::find(tissues.begin(), tissues.end(), part) == tissues.end()) tissues.push_back(part);
    }
  }
  if (contacts <= 1) return own;
  // The script's order: what touches nothing keeps its place, then come the groups.
  std::vector<std::int32_t> number(lowest.size());
  std::int32_t next = 0;
  for (std::size_t lesion = 1; lesion < lowest.size(); ++lesion) {
    if (lowest[lesion] == 0) number[lesion] = ++next;
  }
  for (const std::int32_t part : tissues) {
    if (std::find(lowest.begin() + 1, lowest.end(), part) == lowest.end()) continue;
    ++next;
    for (std::size_t lesion = 1; lesion < lowest.size(); ++lesion) {
      if (lowest[lesion] == part) number[lesion] = next;
    }
  }
  return renumbered(own, number);
}

LesionMatches match_lesions(const Components& prediction, const Components& reference,
                            const LesionRule& rule, const Spacing& spacing) {
  const double voxel_volume = spacing[0] * spacing[1] * spacing[2];
  LesionMatches matches;
  std::set<std::int32_t> used;
  for (std::int32_t lesion = 1; lesion <= reference.count; ++lesion) {
    const std::set<std::int32_t> found = neighbours(reference, lesion, rule.dilation, prediction);
    used.insert(found.begin(), found.end());
    LesionMatch match;
    match.found = !found.empty();
    match.scored =
        static_cast<double>(reference.voxels(lesion)) * voxel_volume > rule.minimum_volume;
    if (match.found && match.scored) {
      Box box = reference.box(lesion);
      for (const std::int32_t part : found) box = box.united(prediction.box(part));
      std::vector<std::uint8_t> is_found(static_cast<std::size_t>(prediction.count) + 1);
      for (const std::int32_t part : found) is_found[part] = 1;
      match.prediction =
          select(prediction, box, [&](std::int32_t label) { return is_found[label] != 0; });
      match.reference = select(reference, box, [&](std::int32_t label) { return label == lesion; });
    }
    matches.lesions.push_back(std::move(match));
  }
  matches.false_positives = prediction.count - static_cast<std::int64_t>(used.size());
  return matches;
}

Mask to_mask(const Components& lesions) {
  Mask mask(lesions.size);
  mask.rows = lesions.rows;
  const std::int64_t nx = mask.size[0];
  for (std::int64_t row = 0; row < mask.row_count(); ++row) {
    if (!mask.may_hold(row)) continue;
    const std::int32_t* labels = lesions.labels.data() + row * nx;
    std::uint8_t* voxels = mask.voxels.data() + row * nx;
    for (std::int64_t x = 0; x < nx; ++x) voxels[x] = static_cast<std::uint8_t>(labels[x] != 0);
  }
  return mask;
}

}  // namespace segmamba::metrics
