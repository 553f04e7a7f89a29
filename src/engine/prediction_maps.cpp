#include "prediction_maps.h"

#include "segmamba/data/restore.h"
#include "segmamba/engine/classes.h"

namespace segmamba::engine {
namespace {

constexpr Half kZero{0}, kOne{0x3c00};

template <class T>
void put(const data::PreparedCase& item, const torch::Tensor& values, std::int64_t first_slice,
         std::vector<T>& map) {
  const auto source = values.cpu().contiguous();
  const auto* begin = static_cast<const T*>(source.const_data_ptr());
  data::restore_slices<T>(item, first_slice, {begin, static_cast<std::size_t>(source.numel())},
                          map);
}

}  // namespace

PredictionMaps::PredictionMaps(const data::PreparedCase& item, const ScoreKind& kind,
                               std::int64_t outputs, const std::vector<data::Region>& regions,
                               const WantedMaps& wanted)
    : item_(item), kind_(kind), outputs_(outputs), regions_(regions) {
  const auto voxels = static_cast<std::size_t>(item.geometry.voxel_count());
  labels.resize(voxels);
  for (std::int64_t i = 0; wanted.probabilities && i < outputs; ++i) {
    const bool is_background = i == 0 && !kind.is_regions;
    probabilities.emplace_back(voxels, is_background ? kOne : kZero);
  }
  if (wanted.uncertainty) {
    entropy.resize(voxels);
    disagreement.resize(voxels);
  }
}

void PredictionMaps::add(const torch::Tensor& scores, std::int64_t first_slice) {
  const auto own = scores.narrow(0, 0, outputs_);
  put(item_, classes_of(own, regions_, kind_.threshold()), first_slice, labels);
  if (!probabilities.empty()) {
    const auto shares = kind_.is_probability ? own : kind_.to_probabilities(own);
    for (std::int64_t i = 0; i < outputs_; ++i) {
      put(item_, shares[i].to(torch::kHalf), first_slice,
          probabilities[static_cast<std::size_t>(i)]);
    }
  }
  if (!entropy.empty()) {
    const auto of_mean = kind_.entropy(kind_.probabilities(scores));
    put(item_, of_mean.to(torch::kHalf), first_slice, entropy);
    put(item_, scores[-1].to(torch::kHalf), first_slice, disagreement);
  }
}

}  // namespace segmamba::engine
