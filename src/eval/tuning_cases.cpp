#include "tuning_cases.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "labels.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/io/volume.h"
#include "segmamba/metrics/score.h"

namespace segmamba::eval {
namespace {

// The farthest that a convention looks beyond the labels.
std::int64_t reach(const metrics::Convention& convention) {
  std::int64_t voxels = 0;
  if (!convention.lesions) return voxels;
  voxels = convention.lesions->dilation;
  for (const auto& exception : convention.lesions->exceptions) {
    voxels = std::max<std::int64_t>(voxels, exception.dilation);
  }
  return voxels;
}

bool holds(std::span<const std::uint8_t> labels, const metrics::Region& region) {
  return std::any_of(labels.begin(), labels.end(), [&](std::uint8_t label) {
    return std::find(region.labels.begin(), region.labels.end(), label) != region.labels.end();
  });
}

}  // namespace

double Objective::of_absent() const {
  const std::uint8_t nothing = 0;
  const metrics::LabelPair labels{{&nothing, 1}, {&nothing, 1}, {{1, 1, 1}, {1, 1, 1}}};
  const double value =
      metrics::score_case(labels, {regions.front()}, {convention}, {metric}).front().value;
  return std::isnan(value) ? 1 : value;
}

PackedLabels::PackedLabels(std::span<const std::uint8_t> labels) {
  constexpr auto kLongest = std::numeric_limits<std::uint32_t>::max();
  for (const std::uint8_t label : labels) {
    if (stretches_.empty() || stretches_.back().first != label ||
        stretches_.back().second == kLongest) {
      stretches_.emplace_back(label, 0);
    }
    ++stretches_.back().second;
  }
  stretches_.shrink_to_fit();
}

std::vector<std::uint8_t> PackedLabels::unpack() const {
  std::vector<std::uint8_t> labels;
  std::size_t size = 0;
  for (const auto& [label, length] : stretches_) size += length;
  labels.reserve(size);
  for (const auto& [label, length] : stretches_) labels.insert(labels.end(), length, label);
  return labels;
}

TuningCase::TuningCase(const CasePair& pair, const EvaluateOptions& options) {
  const metrics::Convention& convention = options.conventions.front();
  io::LabelMap prediction = io::read_labels(pair.prediction);
  io::LabelMap reference = io::read_labels(pair.reference);
  const auto& size = reference.geometry.size;
  if (prediction.geometry.size != size) {
    throw Error(concat(pair.prediction.string(), " has changed since it was looked at"));
  }
  for (io::LabelMap* side : {&prediction, &reference}) {
    if (!keeps_label_four(options, convention) &&
        reads_four_as_three(options.label_four, count_labels(side->voxels))) {
      read_four_as_three(side->voxels);
    }
  }
  const metrics::Box box = metrics::bounding_box(prediction.voxels, size)
                               .united(metrics::bounding_box(reference.voxels, size))
                               .grown(reach(convention), size);
  grid_ = {box.size(), reference.geometry.spacing};
  prediction_ = PackedLabels(metrics::crop(prediction.voxels, size, box));
  reference_ = PackedLabels(metrics::crop(reference.voxels, size, box));
}

std::vector<double> TuningCase::score(std::span<const std::uint8_t> prediction,
                                      const Objective& objective) const {
  const std::vector<std::uint8_t> reference = reference_.unpack();
  std::vector<double> values;
  for (const metrics::Score& score :
       metrics::score_case({prediction, reference, grid_}, objective.regions,
                           {objective.convention}, {objective.metric})) {
    values.push_back(score.value);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isnan(values[i])) continue;
    const metrics::Region& region = objective.regions[i];
    const bool is_absent = !holds(prediction, region) && !holds(reference, region);
    values[i] = is_absent ? 1 : 0;
  }
  return values;
}

}  // namespace segmamba::eval
