#include "segmamba/engine/validation.h"

#include <map>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::engine {

RegionDice region_dice(std::span<const std::uint8_t> prediction,
                       std::span<const std::uint8_t> reference,
                       const std::vector<metrics::Region>& regions) {
  RegionDice scores;
  for (const auto& region : regions) {
    scores.regions.push_back(region.name);
    scores.dice.push_back(metrics::dice(prediction, reference, region));
  }
  return scores;
}

std::vector<metrics::Region> validation_regions(const std::vector<std::string>& classes) {
  std::map<std::string, std::uint8_t> place;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    place[data::canonical_class(classes[i])] = static_cast<std::uint8_t>(i);
  }
  if (place.contains("necrosis") && place.contains("oedema") && place.contains("enhancing")) {
    const auto necrosis = place["necrosis"], oedema = place["oedema"];
    const auto enhancing = place["enhancing"];
    return {
        {"WT", {necrosis, oedema, enhancing}}, {"TC", {necrosis, enhancing}}, {"ET", {enhancing}}};
  }
  std::vector<metrics::Region> regions;
  for (std::size_t i = 1; i < classes.size(); ++i) {
    regions.push_back({classes[i], {static_cast<std::uint8_t>(i)}});
  }
  return regions;
}

RegionDice validate(const Predictor& predictor, data::CaseStore& cases, std::int64_t count,
                    const std::function<void(std::int64_t done)>& on_case,
                    const std::function<void(const std::string& message)>& on_bad_case) {
  const auto regions = validation_regions(cases.dataset().classes);
  RegionDice mean;
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
      const auto scores = region_dice(predictor.segment_prepared(*item), item->labels, regions);
      mean.regions = scores.regions;
      mean.dice.resize(scores.dice.size());
      for (std::size_t r = 0; r < scores.dice.size(); ++r) mean.dice[r] += scores.dice[r];
      ++scored;
    }
    on_case(i + 1);
  }
  if (scored == 0) throw Error(concat("no case can be validated: ", last_message));
  for (double& value : mean.dice) value /= static_cast<double>(scored);
  return mean;
}

}  // namespace segmamba::engine
