#include "segmamba/data/fingerprint.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace segmamba::data {
namespace {

constexpr std::size_t kSampled = 65536, kKept = 512, kBins = 40;

template <class T>
double percentile(const std::vector<T>& sorted, double percent) {
  const auto rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()));
  return sorted[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

template <class T>
void describe_moments(const std::vector<T>& values, Distribution& result) {
  result.count = std::ssize(values);
  const auto count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  result.minimum = result.maximum = values.front();
  for (const double value : values) {
    sum += value;
    result.minimum = std::min(result.minimum, value);
    result.maximum = std::max(result.maximum, value);
  }
  result.mean = sum / count;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  result.deviation = std::sqrt(squares / count);
}

template <class T>
void describe_percentiles(const std::vector<T>& sorted, Distribution& result) {
  result.percentile_0_5 = percentile(sorted, 0.5);
  result.median = percentile(sorted, 50);
  result.percentile_99_5 = percentile(sorted, 99.5);
}

// `count` items evenly spread over a list of at least as many.
template <class T>
std::vector<T> spread(const std::vector<T>& values, std::size_t count) {
  if (values.size() <= count) return values;
  std::vector<T> chosen(count);
  for (std::size_t i = 0; i < count; ++i) {
    chosen[i] = values[(2 * i + 1) * values.size() / (2 * count)];
  }
  return chosen;
}

Json rounded(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(json_number(value));
  return list;
}

}  // namespace

Json Distribution::to_json() const {
  return {{"count", count},
          {"mean", json_number(mean)},
          {"std", json_number(deviation)},
          {"min", json_number(minimum)},
          {"percentile_0.5", json_number(percentile_0_5)},
          {"median", json_number(median)},
          {"percentile_99.5", json_number(percentile_99_5)},
          {"max", json_number(maximum)}};
}

Distribution describe(std::vector<double> values) {
  Distribution result;
  if (values.empty()) return result;
  describe_moments(values, result);
  std::sort(values.begin(), values.end());
  describe_percentiles(values, result);
  return result;
}

IntensitySample::IntensitySample(std::vector<float> voxels) {
  if (voxels.empty()) return;
  describe_moments(voxels, distribution_);
  voxels = spread(voxels, kSampled);
  std::sort(voxels.begin(), voxels.end());
  describe_percentiles(voxels, distribution_);
  values_ = spread(voxels, kKept);
  values_.shrink_to_fit();
}

Distribution IntensitySample::pooled(const std::vector<const IntensitySample*>& samples) {
  Distribution result;
  double sum = 0;
  std::vector<std::pair<float, double>> weighted;  // a value and how many voxels it stands for
  for (const auto* sample : samples) {
    const auto& part = sample->distribution_;
    if (part.count == 0) continue;
    result.minimum = result.count == 0 ? part.minimum : std::min(result.minimum, part.minimum);
    result.maximum = result.count == 0 ? part.maximum : std::max(result.maximum, part.maximum);
    result.count += part.count;
    sum += part.mean * static_cast<double>(part.count);
    const double weight =
        static_cast<double>(part.count) / static_cast<double>(sample->values_.size());
    for (const float value : sample->values_) weighted.emplace_back(value, weight);
  }
  if (result.count == 0) return result;
  const auto count = static_cast<double>(result.count);
  result.mean = sum / count;
  double squares = 0;
  for (const auto* sample : samples) {
    const auto& part = sample->distribution_;
    const double shift = part.mean - result.mean;
    squares += static_cast<double>(part.count) * (part.deviation * part.deviation + shift * shift);
  }
  result.deviation = std::sqrt(squares / count);
  std::sort(weighted.begin(), weighted.end());
  const std::pair<double, double*> wanted[] = {
      {0.5, &result.percentile_0_5}, {50, &result.median}, {99.5, &result.percentile_99_5}};
  double below = 0;
  std::size_t place = 0;
  for (const auto& [percent, target] : wanted) {
    // Sums of weights round: a voxel's millionth is no voxel.
    const double rank = percent / 100 * count - 1e-6;
    while (place + 1 < weighted.size() && below + weighted[place].second < rank) {
      below += weighted[place++].second;
    }
    *target = weighted[place].first;
  }
  return result;
}

Histogram IntensitySample::histogram(const std::vector<const IntensitySample*>& samples, double low,
                                     double high, std::size_t bins) {
  Histogram result{low, high, std::vector<double>(bins, 0)};
  double total = 0;
  for (const auto* sample : samples) {
    if (sample->values_.empty()) continue;
    const double weight = static_cast<double>(sample->distribution_.count) /
                          static_cast<double>(sample->values_.size());
    for (const double value : sample->values_) {
      if (!(value >= low && value <= high)) continue;
      const double place =
          high > low ? (value - low) / (high - low) * static_cast<double>(bins) : 0;
      result.shares[std::min(static_cast<std::size_t>(place), bins - 1)] += weight;
      total += weight;
    }
  }
  for (double& share : result.shares) share = total > 0 ? share / total : 0;
  return result;
}

Fingerprint summarise(std::vector<CaseNumbers> cases, const std::vector<std::string>& channels,
                      const std::vector<std::string>& classes) {
  Fingerprint result;
  result.cases = std::move(cases);
  const auto over_cases = [&](auto number) {
    std::vector<double> values;
    for (const auto& item : result.cases) values.push_back(static_cast<double>(number(item)));
    return describe(std::move(values));
  };
  for (std::size_t axis = 0; axis < 3; ++axis) {
    result.size[axis] = over_cases([=](const CaseNumbers& item) { return item.size[axis]; });
    result.spacing[axis] = over_cases([=](const CaseNumbers& item) { return item.spacing[axis]; });
  }
  result.crop_share = over_cases([](const CaseNumbers& item) { return item.crop_share; });
  for (std::size_t channel = 0; channel < channels.size(); ++channel) {
    std::vector<const IntensitySample*> nonzero, foreground;
    for (const auto& item : result.cases) {
      nonzero.push_back(&item.nonzero[channel]);
      foreground.push_back(&item.foreground[channel]);
    }
    ChannelNumbers numbers;
    numbers.name = channels[channel];
    numbers.nonzero = IntensitySample::pooled(nonzero);
    numbers.foreground = IntensitySample::pooled(foreground);
    const double low = numbers.nonzero.percentile_0_5, high = numbers.nonzero.percentile_99_5;
    numbers.nonzero_histogram = IntensitySample::histogram(nonzero, low, high, kBins);
    numbers.foreground_histogram = IntensitySample::histogram(foreground, low, high, kBins);
    result.channels.push_back(std::move(numbers));
  }
  for (std::size_t index = 0; index < classes.size(); ++index) {
    ClassNumbers numbers;
    numbers.name = classes[index];
    for (const auto& item : result.cases) {
      const std::int64_t voxels = item.class_voxels[index];
      if (voxels == 0) continue;
      ++numbers.cases;
      numbers.voxels += voxels;
      numbers.case_millilitres.push_back(static_cast<double>(voxels) * item.voxel_millilitres());
    }
    numbers.millilitres = describe(numbers.case_millilitres);
    result.classes.push_back(std::move(numbers));
  }
  return result;
}

Json Fingerprint::to_json() const {
  const auto axes = [](const std::array<Distribution, 3>& distributions) {
    return Json{{"x", distributions[0].to_json()},
                {"y", distributions[1].to_json()},
                {"z", distributions[2].to_json()}};
  };
  Json json = Json::object();
  json["cases"] = std::ssize(cases);
  json["size"] = axes(size);
  json["spacing_mm"] = axes(spacing);
  json["crop_share"] = crop_share.to_json();
  json["channels"] = Json::object();
  for (const auto& channel : channels) {
    json["channels"][channel.name] = {{"nonzero", channel.nonzero.to_json()},
                                      {"foreground", channel.foreground.to_json()}};
  }
  json["classes"] = Json::object();
  for (const auto& item : classes) {
    json["classes"][item.name] = {{"cases", item.cases},
                                  {"voxels", item.voxels},
                                  {"millilitres", item.millilitres.to_json()}};
  }
  json["by_case"] = Json::object();
  for (const auto& item : cases) {
    Json row = Json::object();
    row["size"] = item.size;
    row["spacing_mm"] = rounded({item.spacing.begin(), item.spacing.end()});
    row["crop_share"] = item.crop_share;
    row["class_voxels"] = item.class_voxels;
    row["channels"] = Json::object();
    for (std::size_t i = 0; i < channels.size(); ++i) {
      row["channels"][channels[i].name] = {
          {"nonzero", item.nonzero[i].distribution().to_json()},
          {"foreground", item.foreground[i].distribution().to_json()}};
    }
    json["by_case"][item.name] = std::move(row);
  }
  return json;
}

}  // namespace segmamba::data
