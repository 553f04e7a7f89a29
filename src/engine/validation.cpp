#include "segmamba/engine/validation.h"

#include "segmamba/metrics/mask.h"

namespace segmamba::engine {

RegionDice region_dice(const std::vector<std::uint8_t>& prediction,
                       const std::vector<std::uint8_t>& reference) {
  const auto& regions = metrics::brats_regions();  // WT, TC, ET
  return {.wt = metrics::dice(prediction, reference, regions[0]),
          .tc = metrics::dice(prediction, reference, regions[1]),
          .et = metrics::dice(prediction, reference, regions[2])};
}

RegionDice validate(const Predictor& predictor, CaseStore& cases, std::int64_t count,
                    const std::function<void(std::int64_t done)>& on_case) {
  RegionDice mean;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto item = cases.get(i);
    const auto dice = region_dice(predictor.segment_crop(*item), item->labels);
    mean.wt += dice.wt / static_cast<double>(count);
    mean.tc += dice.tc / static_cast<double>(count);
    mean.et += dice.et / static_cast<double>(count);
    on_case(i + 1);
  }
  return mean;
}

}  // namespace segmamba::engine
