#include "segmamba/data/threshold.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

constexpr double kRange = 8;  // z-scores beyond it count as the end bins
constexpr int kBinsPerUnit = 128;
constexpr int kBins = static_cast<int>(2 * kRange * kBinsPerUnit);

int bin_of(float z) {
  const double position = (static_cast<double>(z) + kRange) * kBinsPerUnit;
  return static_cast<int>(std::clamp(position, 0.0, kBins - 1.0));
}

}  // namespace

std::vector<ThresholdResult> best_threshold_dice(const std::vector<PreparedCase>& cases) {
  if (cases.empty()) throw Error("threshold baseline: there are no cases");
  const std::int64_t channels = cases.front().channels;
  // Sums over the cases of the Dice of z >= edge and of z < edge, by channel and edge.
  std::vector<std::array<std::vector<double>, 2>> sums(static_cast<std::size_t>(channels));
  for (auto& sides : sums) sides.fill(std::vector<double>(kBins + 1, 0.0));

  for (const PreparedCase& item : cases) {
    if (item.labels.empty() || item.channels != channels) {
      throw Error(concat(item.name, ": ",
                         item.labels.empty() ? "the case has no labels"
                                             : "its number of channels differs from the others'"));
    }
    const std::size_t voxels = item.labels.size();
    for (std::size_t channel = 0; channel < sums.size(); ++channel) {
      std::vector<std::int64_t> all(kBins, 0);
      std::vector<std::int64_t> tumour(kBins, 0);
      std::int64_t tumour_total = 0;
      std::int64_t all_total = 0;
      for (std::size_t i = 0; i < voxels; ++i) {
        const bool inside = item.labels[i] != 0;
        tumour_total += inside;
        const float z = to_float(item.image[i * sums.size() + channel]);
        if (z == 0) continue;  // background
        const auto bin = static_cast<std::size_t>(bin_of(z));
        ++all[bin];
        ++all_total;
        tumour[bin] += inside;
      }
      std::int64_t all_below = 0;
      std::int64_t hits_below = 0;
      const std::int64_t hits_total = [&] {
        std::int64_t sum = 0;
        for (const std::int64_t count : tumour) sum += count;
        return sum;
      }();
      const auto dice = [&](std::int64_t hits, std::int64_t predicted) {
        const std::int64_t sizes = predicted + tumour_total;
        return sizes == 0 ? 1.0 : 2.0 * static_cast<double>(hits) / static_cast<double>(sizes);
      };
      for (std::size_t edge = 0; edge <= kBins; ++edge) {
        sums[channel][0][edge] += dice(hits_total - hits_below, all_total - all_below);
        sums[channel][1][edge] += dice(hits_below, all_below);
        if (edge == kBins) break;
        all_below += all[edge];
        hits_below += tumour[edge];
      }
    }
  }

  std::vector<ThresholdResult> results;
  for (const auto& sides : sums) {
    ThresholdResult best;
    best.dice = -1;
    for (std::size_t side = 0; side < sides.size(); ++side) {
      const auto peak = std::max_element(sides[side].begin(), sides[side].end());
      const double dice = *peak / static_cast<double>(cases.size());
      if (dice <= best.dice) continue;
      const auto edge = static_cast<double>(peak - sides[side].begin());
      best = {dice, edge / kBinsPerUnit - kRange, side == 0};
    }
    results.push_back(best);
  }
  return results;
}

}  // namespace segmamba::data
