#include "segmamba/engine/validation.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/data/augment.h"
#include "segmamba/data/regions.h"
#include "segmamba/io/orientation.h"
#include "segmamba/io/picture.h"
#include "segmamba/metrics/convention.h"
#include "segmamba/metrics/mask.h"
#include "segmamba/metrics/score.h"

namespace segmamba::engine {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

metrics::Grid grid_of(const data::PreparedCase& item) {
  return {{item.size[2], item.size[1], item.size[0]},
          {item.spacing[2], item.spacing[1], item.spacing[0]}};
}

double diagonal(const metrics::Grid& grid) {
  double sum = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    sum += std::pow(static_cast<double>(grid.size[axis]) * grid.spacing[axis], 2);
  }
  return std::sqrt(sum);
}

bool holds(std::span<const std::uint8_t> labels, const metrics::Region& region) {
  return std::any_of(labels.begin(), labels.end(), [&](std::uint8_t label) {
    return std::find(region.labels.begin(), region.labels.end(), label) != region.labels.end();
  });
}

// image (the last channel) | reference | prediction | difference, as the bytes of a PNG file.
std::string draw_case(const data::PreparedCase& item, const std::vector<std::uint8_t>& prediction) {
  const auto grid = grid_of(item);
  io::Geometry geometry;
  geometry.size = grid.size;
  geometry.spacing = grid.spacing;
  geometry.direction = io::reoriented(item.geometry, item.axes).direction;
  io::Image background{geometry, std::vector<float>(prediction.size())};
  const auto channels = static_cast<std::size_t>(item.channels);
  float darkest = std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < prediction.size(); ++i) {
    background.voxels[i] = to_float(item.image[(i + 1) * channels - 1]);
    darkest = std::min(darkest, background.voxels[i]);
  }
  // Air is black also where normalising has put it into the midst of the brain's values.
  for (std::size_t i = 0; i < prediction.size(); ++i) {
    const auto* voxel = item.image.data() + i * channels;
    bool is_air = item.outside.size() == channels;
    for (std::size_t c = 0; c < channels && is_air; ++c) {
      is_air = to_float(voxel[c]) == to_float(to_half(item.outside[c]));
    }
    if (is_air) background.voxels[i] = darkest;
  }
  const io::LabelMap reference{geometry, {item.labels.begin(), item.labels.end()}};
  const io::LabelMap predicted{geometry, prediction};
  return io::encode_png(io::draw_overlay(background, &reference, &predicted));
}

// What one rank has to tell of one case.
struct ScoredCase {
  std::int64_t index = 0;
  CaseScores scores;
  std::string png;
};

struct Share {
  std::vector<ScoredCase> cases;
  std::string last_error;
  bool interrupted = false;
};

Share score_share(const ValidationTask& task) {
  Share share;
  const auto rank = task.ranks.rank(), ranks = task.ranks.size();
  const auto total = (task.count - rank + ranks - 1) / ranks;
  std::int64_t done = 0;
  for (auto i = rank; i < task.count; i += ranks) {
    std::shared_ptr<const data::PreparedCase> item;
    try {
      item = task.cases.get(static_cast<std::size_t>(i));
    } catch (const Error& error) {
      share.last_error = error.what();
      task.on_bad_case(share.last_error);
    }
    if (item) {
      try {
        const auto prediction = task.predictor.segment_prepared(*item, task.cancelled);
        share.cases.push_back({i,
                               {item->name, score_regions(prediction, item->labels, grid_of(*item),
                                                          task.regions, task.with_hd95)},
                               draw_case(*item, prediction)});
      } catch (const Interrupted&) {
        share.interrupted = true;
        return share;
      }
    }
    task.on_case(++done, total);
  }
  return share;
}

// As bytes for Ranks::gather, and back.
std::string pack(const Share& share) {
  Json cases = Json::array();
  for (const auto& item : share.cases) {
    cases.push_back({{"index", item.index},
                     {"name", item.scores.name},
                     {"dice", item.scores.scores.dice},
                     {"hd95", item.scores.scores.hd95},
                     {"png", nlohmann::json::binary({item.png.begin(), item.png.end()})}});
  }
  const Json all = {
      {"cases", cases}, {"last_error", share.last_error}, {"interrupted", share.interrupted}};
  const auto bytes = Json::to_cbor(all);
  return {bytes.begin(), bytes.end()};
}

Share unpack(const std::string& bytes, const std::vector<std::string>& regions) {
  const auto all = Json::from_cbor(bytes);
  Share share;
  share.last_error = all.at("last_error").get<std::string>();
  share.interrupted = all.at("interrupted").get<bool>();
  for (const auto& item : all.at("cases")) {
    const auto& png = item.at("png").get_binary();
    share.cases.push_back({item.at("index").get<std::int64_t>(),
                           {item.at("name").get<std::string>(),
                            {regions, item.at("dice").get<std::vector<double>>(),
                             item.at("hd95").get<std::vector<double>>()}},
                           {png.begin(), png.end()}});
  }
  return share;
}

// The best, the median and the worst by mean Dice, no case twice.
std::vector<CasePicture> choose_pictures(const std::vector<ScoredCase>& cases) {
  std::vector<std::size_t> order(cases.size());
  std::iota(order.begin(), order.end(), 0);
  const auto dice = [&](std::size_t i) { return cases[i].scores.scores.mean_dice(); };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return dice(a) > dice(b); });
  std::vector<CasePicture> pictures;
  const auto add = [&](const char* role, std::size_t place) {
    const auto& item = cases[order[place]];
    pictures.push_back({role, item.scores.name, item.scores.scores.mean_dice(), item.png});
  };
  add("best", 0);
  if (order.size() > 2) add("median", order.size() / 2);
  if (order.size() > 1) add("worst", order.size() - 1);
  return pictures;
}

}  // namespace

std::vector<metrics::Region> validation_regions(const data::DataConfig& config) {
  std::vector<metrics::Region> regions;
  if (!config.regions.empty()) {
    for (const auto& region : data::parse_regions(config.regions, config.classes)) {
      regions.push_back({region.name, region.classes});
    }
    return regions;
  }
  const auto& classes = config.classes;
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
  for (std::size_t i = 1; i < classes.size(); ++i) {
    regions.push_back({classes[i], {static_cast<std::uint8_t>(i)}});
  }
  return regions;
}

RegionScores score_regions(std::span<const std::uint8_t> prediction,
                           std::span<const std::uint8_t> reference, const metrics::Grid& grid,
                           const std::vector<metrics::Region>& regions, bool with_hd95) {
  RegionScores scores;
  std::vector<metrics::Region> in_both;
  for (const auto& region : regions) {
    scores.regions.push_back(region.name);
    scores.dice.push_back(metrics::dice(prediction, reference, region));
    if (!with_hd95) continue;
    const bool predicted = holds(prediction, region), referred = holds(reference, region);
    scores.hd95.push_back(predicted == referred ? 0 : diagonal(grid));
    if (predicted && referred) in_both.push_back(region);
  }
  if (in_both.empty()) return scores;
  for (const auto& score : metrics::score_case({prediction, reference, grid}, in_both,
                                               {metrics::find_convention("medpy")}, {"hd95"})) {
    const auto place = std::find(scores.regions.begin(), scores.regions.end(), score.region);
    scores.hd95[static_cast<std::size_t>(place - scores.regions.begin())] = score.value;
  }
  return scores;
}

RegionScores mean_scores(const std::vector<CaseScores>& cases) {
  if (cases.empty()) return {};
  const auto mean = [&](std::size_t region, std::vector<double> RegionScores::*values) {
    double sum = 0;
    std::int64_t count = 0;
    for (const auto& item : cases) {
      const double value = (item.scores.*values)[region];
      if (std::isnan(value)) continue;
      sum += value;
      ++count;
    }
    return count > 0 ? sum / static_cast<double>(count) : kNan;
  };
  const auto& first = cases.front().scores;
  RegionScores scores{first.regions, {}, {}};
  for (std::size_t r = 0; r < first.dice.size(); ++r) {
    scores.dice.push_back(mean(r, &RegionScores::dice));
  }
  for (std::size_t r = 0; r < first.hd95.size(); ++r) {
    scores.hd95.push_back(mean(r, &RegionScores::hd95));
  }
  return scores;
}

ValidationResult validate(const ValidationTask& task) {
  std::vector<std::string> names;
  for (const auto& region : task.regions) names.push_back(region.name);
  const auto own = score_share(task);

  std::vector<ScoredCase> all;
  std::string last_error;
  bool interrupted = false;
  for (const auto& bytes : task.ranks.gather(pack(own))) {
    auto share = unpack(bytes, names);
    interrupted = interrupted || share.interrupted;
    if (!share.last_error.empty()) last_error = share.last_error;
    std::move(share.cases.begin(), share.cases.end(), std::back_inserter(all));
  }
  if (interrupted) throw Interrupted{};
  if (all.empty()) throw Error(concat("no case can be validated: ", last_error));
  std::sort(all.begin(), all.end(),
            [](const ScoredCase& a, const ScoredCase& b) { return a.index < b.index; });

  ValidationResult result;
  for (const auto& item : all) result.cases.push_back(item.scores);
  result.mean = mean_scores(result.cases);
  result.pictures = choose_pictures(all);
  return result;
}

RegionScores validate_patches(const Predictor& predictor, data::PatchSource& source,
                              std::int64_t count, const std::vector<metrics::Region>& regions,
                              Ranks& ranks, const std::function<bool()>& cancelled) {
  // Of each region: voxels in both, in the prediction, in the reference.
  std::vector<double> counts(3 * regions.size());
  double interrupted = 0;
  const auto& size = source.size();
  const auto plan = data::no_augmentation(size, source.channels());
  auto image = torch::empty({1, source.channels(), size[0], size[1], size[2]});
  std::vector<std::uint8_t> reference(static_cast<std::size_t>(data::volume_of(size)));
  data::PatchScratch scratch;
  for (auto i = ranks.rank(); i < count; i += ranks.size()) {
    if (cancelled()) {
      interrupted = 1;
      break;
    }
    const auto drawn = source.draw(i);
    data::render_patch(*drawn.item, drawn.begin, plan, image.data_ptr<float>(), reference.data(),
                       scratch);
    const auto prediction = predictor.segment_window(image);
    for (std::size_t r = 0; r < regions.size(); ++r) {
      std::array<bool, 256> in_region{};
      for (const auto label : regions[r].labels) in_region[label] = true;
      for (std::size_t v = 0; v < prediction.size(); ++v) {
        const bool predicted = in_region[prediction[v]], referred = in_region[reference[v]];
        counts[3 * r] += predicted && referred ? 1 : 0;
        counts[3 * r + 1] += predicted ? 1 : 0;
        counts[3 * r + 2] += referred ? 1 : 0;
      }
    }
  }
  counts.push_back(interrupted);
  counts = ranks.sum(std::move(counts));
  if (counts.back() > 0) throw Interrupted{};
  RegionScores scores;
  for (std::size_t r = 0; r < regions.size(); ++r) {
    const double sizes = counts[3 * r + 1] + counts[3 * r + 2];
    scores.regions.push_back(regions[r].name);
    scores.dice.push_back(sizes > 0 ? 2 * counts[3 * r] / sizes : 1);
  }
  return scores;
}

}  // namespace segmamba::engine
