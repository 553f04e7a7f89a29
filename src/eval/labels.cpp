#include "labels.h"

#include <algorithm>

namespace segmamba::eval {
namespace {

constexpr std::uint8_t kEnhancing = 3, kFour = 4;

bool asks_for_brats_regions(const RegionSet& set) {
  const auto& brats = metrics::brats_regions();
  return !set.each_label && std::all_of(set.regions.begin(), set.regions.end(), [&](const auto& r) {
    return std::any_of(brats.begin(), brats.end(), [&](const metrics::Region& known) {
      return known.name == r.name && known.labels == r.labels;
    });
  });
}

}  // namespace

LabelCounts count_labels(std::span<const std::uint8_t> labels) {
  constexpr std::size_t kBlock = 256;  // most blocks are background
  LabelCounts counts{};
  for (std::size_t first = 0; first < labels.size(); first += kBlock) {
    const auto block = labels.subspan(first, std::min(kBlock, labels.size() - first));
    if (!metrics::any_set(block.data(), static_cast<std::int64_t>(block.size()))) {
      counts[0] += static_cast<std::int64_t>(block.size());
      continue;
    }
    for (const std::uint8_t label : block) ++counts[label];
  }
  return counts;
}

bool keeps_label_four(const EvaluateOptions& options, const metrics::Convention& convention) {
  switch (options.label_four) {
    case LabelFour::kEnhancing:
      return false;
    case LabelFour::kKeep:
      return true;
    case LabelFour::kAuto:
      break;
  }
  return convention.name == "brats2024" || !asks_for_brats_regions(options.regions);
}

bool reads_four_as_three(LabelFour rule, const LabelCounts& counts) {
  return counts[kFour] > 0 && (rule == LabelFour::kEnhancing || counts[kEnhancing] == 0);
}

void read_four_as_three(std::vector<std::uint8_t>& labels) {
  std::replace(labels.begin(), labels.end(), kFour, kEnhancing);
}

std::string label_four_notice(const EvaluateOptions& options, const LabelCounts& counts) {
  if (counts[kFour] == 0 || options.label_four == LabelFour::kKeep) return "";
  bool some_keep = false, some_read = false;
  for (const metrics::Convention& convention : options.conventions) {
    (keeps_label_four(options, convention) ? some_keep : some_read) = true;
  }
  if (!some_read) {
    return options.label_four == LabelFour::kAuto && asks_for_brats_regions(options.regions)
               ? "label 4 is taken as the resection cavity of brats2024 (--label-4 et reads it as "
                 "enhancing tumour)"
               : "";
  }
  const std::string except = some_keep ? "; brats2024 takes it as the resection cavity" : "";
  if (!reads_four_as_three(options.label_four, counts)) {
    return "labels 3 and 4 both occur; label 4 is not scored as enhancing tumour" + except;
  }
  return "label 4 is read as enhancing tumour (3), as in older BraTS releases" + except;
}

}  // namespace segmamba::eval
