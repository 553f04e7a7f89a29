// Every golden value of every convention, against numbers that the named tools gave.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "golden_masks.h"
#include "segmamba/core/text.h"
#include "segmamba/metrics/score.h"

namespace segmamba::metrics {
namespace {

using testing::build_case;
using testing::golden_file;
using testing::GoldenCase;

// Recorded from the tools, but not meant to be reproduced (README of the golden values).
bool is_informational(const std::string& convention, const std::string& metric,
                      bool one_mask_is_empty) {
  if (convention == "brats-evaluation") return true;
  if (convention == "metrics-reloaded") return metric == "nsd_1mm" && one_mask_is_empty;
  return metric == "legacy_ok";  // says whether the script's defect shows
}

double tolerance(const std::string& convention, const std::string& metric) {
  const bool is_float32 =
      convention == "monai" || (convention == "metrics-reloaded" && metric == "precision");
  return is_float32 ? 1e-6 : 1e-10;
}

double number(const Json& value) {
  if (value.is_number()) return value.get<double>();
  const auto text = value.get<std::string>();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();  // "nan", and "error: ..."
}

bool agrees(double value, double expected, double relative) {
  if (std::isnan(expected)) return std::isnan(value);
  if (std::isinf(expected)) return value == expected;
  return std::abs(value - expected) <= relative * std::max(1.0, std::abs(expected));
}

using ScoreTable = std::map<std::string, double>;

std::string key(const std::string& region, const std::string& convention,
                const std::string& metric) {
  return concat(region, "/", convention, "/", metric);
}

// Compares the values of one region and convention; returns how many were compared.
int compare(const GoldenCase& item, const std::string& region, const std::string& convention,
            const Json& values, const ScoreTable& scores) {
  const auto holds_region = [&](const std::vector<std::uint8_t>& labels) {
    for (const auto* list : {&brats_regions(), &brats_tissues()}) {
      for (const Region& candidate : *list) {
        if (candidate.name != region) continue;
        return std::any_of(labels.begin(), labels.end(), [&](std::uint8_t label) {
          return std::find(candidate.labels.begin(), candidate.labels.end(), label) !=
                 candidate.labels.end();
        });
      }
    }
    return false;
  };
  const bool one_is_empty = holds_region(item.prediction) != holds_region(item.reference);
  int compared = 0;
  for (const auto& [metric, value] : values.items()) {
    if (is_informational(convention, metric, one_is_empty)) continue;
    const auto found = scores.find(key(region, convention, metric));
    if (found == scores.end()) {
      ADD_FAILURE() << convention << " has no metric " << metric;
      continue;
    }
    EXPECT_TRUE(agrees(found->second, number(value), tolerance(convention, metric)))
        << item.name << " " << region << " " << convention << " " << metric << ": "
        << format_double(found->second) << ", expected " << value;
    ++compared;
  }
  return compared;
}

ScoreTable score(const GoldenCase& item) {
  std::vector<Region> regions = brats_regions();
  if (item.has_labels) {
    regions.insert(regions.end(), brats_tissues().begin(), brats_tissues().end());
  } else {
    regions = {regions[0], regions[2]};
  }
  ScoreTable table;
  for (const Score& score :
       score_case({item.prediction, item.reference, item.grid}, regions, conventions())) {
    table[key(score.region, score.convention, score.metric)] = score.value;
  }
  return table;
}

TEST(Golden, RandomBytesOfTheMasks) {
  EXPECT_EQ(testing::lcg_bytes(12345, 5), (std::vector<std::uint8_t>{5, 4, 139, 162, 232}));
}

TEST(Golden, EveryConventionOnEveryCase) {
  std::map<std::string, int> compared;
  for (const Json& json : golden_file().at("cases")) {
    const GoldenCase item = build_case(json);
    const ScoreTable scores = score(item);
    for (const auto& [golden_region, by_convention] : item.expected.items()) {
      for (const auto& [convention, values] : by_convention.items()) {
        if (values.contains("WT")) {  // brats2024 of a binary mask: thresholds differ by region
          for (const std::string region : {"WT", "ET"}) {
            compared[convention] += compare(item, region, convention, values.at(region), scores);
          }
        } else {
          const std::string region = golden_region == "mask" ? "WT" : golden_region;
          compared[convention] += compare(item, region, convention, values, scores);
        }
      }
    }
  }
  EXPECT_EQ(golden_file().at("cases").size(), 51u);
  // 46 binary cases and 5 of labels with three regions: 61 pairs of masks.
  EXPECT_EQ(compared["segmamba"], 61 * 2);
  EXPECT_EQ(compared["medpy"], 61 * 10);
  EXPECT_EQ(compared["monai"], 61 * 9);
  EXPECT_GE(compared["metrics-reloaded"], 61 * 10);
  EXPECT_EQ(compared["surface-area"], 61 * 10);
  EXPECT_EQ(compared["captk"], 61 * 7);
  for (const std::string name : {"brats2023", "brats2023-men", "brats2023-met"}) {
    EXPECT_EQ(compared[name], 61 * 10) << name;
  }
  EXPECT_EQ(compared["brats2024"], (46 * 2 + 5 * 6) * 14);
}

}  // namespace
}  // namespace segmamba::metrics
