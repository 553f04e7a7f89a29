#pragma once
// The rules that tuning tries.

#include <string>
#include <vector>

#include "segmamba/metrics/mask.h"
#include "segmamba/post/postprocess_config.h"
#include "tuning_cases.h"

namespace segmamba::eval {

// A kind of rule for one region: entries of one list of the config, from the mildest to the
// harshest; what one of them changes, those after it change, too.
struct RuleFamily {
  std::vector<std::string> post::PostprocessConfig::*list;
  std::string key;  // of the list
  std::vector<std::string> entries;
};

// The names that rules are written with, a label's at its place: those of BraTS for regions of
// BraTS, else the labels' numbers.
std::vector<std::string> class_names(const std::vector<metrics::Region>& regions);

// Every kind of rule for every region, in the order of post::make_rules(). Thresholds lie between
// the volumes that occur in the predictions (volume_steps.h).
std::vector<RuleFamily> rule_families(const std::vector<TuningCase>& cases,
                                      const std::vector<metrics::Region>& regions);

}  // namespace segmamba::eval
