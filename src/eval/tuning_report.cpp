#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/eval/tune_postprocess.h"
#include "tables.h"

namespace segmamba::eval {
namespace {

constexpr std::int64_t kFewCases = 20;

std::string percent(double share) {
  constexpr double kPercent = 100;
  const std::string text = format_fixed(share * kPercent, 2);
  return text == "-0.00" ? "0.00" : text;
}

std::string signed_percent(double share) {
  const std::string text = percent(share);
  return text[0] == '-' || text == "0.00" ? text : "+" + text;
}

std::string interval(const Interval& range) {
  return concat(percent(range.low), " to ", percent(range.high));
}

Table rule_table(const Tuning& tuning) {
  Table table;
  table.header = {"rule", "gain", "95 %", "better", "worse"};
  for (const TunedRule& rule : tuning.rules) {
    table.rows.push_back({rule.rule, signed_percent(rule.gain), interval(rule.gain_ci95),
                          concat(rule.better), concat(rule.worse)});
  }
  return table;
}

Table region_table(const Tuning& tuning) {
  Table table;
  table.header = {"region", "before", "after", "gain"};
  RegionScore all{"mean"};
  const auto add = [&](const RegionScore& score) {
    table.rows.push_back({score.region, percent(score.before), percent(score.after),
                          signed_percent(score.after - score.before)});
  };
  for (const RegionScore& score : tuning.regions) {
    add(score);
    all.before += score.before / static_cast<double>(tuning.regions.size());
    all.after += score.after / static_cast<double>(tuning.regions.size());
  }
  if (tuning.regions.size() > 1) add(all);
  return table;
}

}  // namespace

std::string tuning_text(const Tuning& tuning) {
  std::string text = concat("Post-processing by ", tuning.metric, " of ", tuning.convention,
                            " (%), ", tuning.cases, " cases\n\n");
  if (tuning.rules.empty()) {
    text += "no rule helps: nothing is switched on\n";
  } else {
    text += concat(to_text(rule_table(tuning)), "gain: mean over cases and regions, of cases in ",
                   tuning.folds, " folds that did not choose the threshold, beside the other ",
                   "rules;\nbetter, worse: so many of the cases\n");
  }
  if (tuning.next_best) {
    const TunedRule& rule = *tuning.next_best;
    text += concat("not kept, the best of the rest: ", rule.rule, ", gain ",
                   signed_percent(rule.gain), " (", interval(rule.gain_ci95), ")\n");
  }
  text += concat("\n", to_text(region_table(tuning)));
  if (!tuning.rules.empty()) text += "before and after on all cases, which chose the thresholds\n";
  if (tuning.absent_scores_zero) {
    text += concat(tuning.convention, " scores a region that is rightly absent as 0: removing a ",
                   "false one gains nothing by it, but does by --convention brats2023\n");
  }
  if (tuning.cases < kFewCases) {
    text += concat("only ", tuning.cases, " cases: thresholds are uncertain\n");
  }
  return text;
}

std::string tuning_yaml(const Tuning& tuning) {
  std::string yaml = concat("# segmamba-eval ", version(), " --tune-postprocess\n");
  for (const std::string& line : split(trim(tuning_text(tuning)), '\n')) {
    yaml += line.empty() ? "#\n" : concat("# ", line, "\n");
  }
  return yaml + post::to_yaml(tuning.config);
}

}  // namespace segmamba::eval
