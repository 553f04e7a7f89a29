#include "segmamba/engine/validation.h"

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::engine {

RegionDice region_dice(std::span<const std::uint8_t> prediction,
                       std::span<const std::uint8_t> reference) {
  const auto& regions = metrics::brats_regions();  // WT, TC, ET
  return {.wt = metrics::dice(prediction, reference, regions[0]),
          .tc = metrics::dice(prediction, reference, regions[1]),
          .et = metrics::dice(prediction, reference, regions[2])};
}

RegionDice validate(const Predictor& predictor, data::CaseStore& cases, std::int64_t count,
                    const std::function<void(std::int64_t done)>& on_case,
                    const std::function<void(const std::string& message)>& on_bad_case) {
  RegionDice sum;
  std::int64_t scored = 0;
  std::string last_message;
  for (std::int64_t i = 0; i < count; ++i) {
    std::shared_ptr<const data::PreparedCase> item;
    try {
      item = cases.get(static_cast<std::size_t>(i));
    } catch (const Error& error) {
      last_message = error.what();
      on_bad_case(last_message);
    }
    if (item) {
      const auto dice = region_dice(predictor.segment_prepared(*item), item->labels);
      sum.wt += dice.wt;
      sum.tc += dice.tc;
      sum.et += dice.et;
      ++scored;
    }
    on_case(i + 1);
  }
  if (scored == 0) throw Error(concat("no case can be validated: ", last_message));
  const auto n = static_cast<double>(scored);
  return {.wt = sum.wt / n, .tc = sum.tc / n, .et = sum.et / n};
}

}  // namespace segmamba::engine
