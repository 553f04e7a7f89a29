#include "inference_reports.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "segmamba/core/csv.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/engine/validation.h"

namespace segmamba::engine {
namespace {

io::ViewerOptions viewer_options(const Predictor& predictor, std::int64_t expected_cases) {
  io::ViewerOptions viewer;
  viewer.description =
      concat(predictor.model_count(), " model", predictor.model_count() == 1 ? "" : "s", ", ",
             predictor.precision(), " on ", predictor.device());
  const auto& config = predictor.config().data;
  for (std::size_t i = 1; i < config.classes.size(); ++i) {
    viewer.labels.push_back({static_cast<std::uint8_t>(i), config.classes[i]});
  }
  for (const auto& region : validation_regions(config)) {
    viewer.regions.push_back({region.name, region.labels});
  }
  viewer.expected_cases = std::max<std::int64_t>(1, expected_cases);
  return viewer;
}

// The cases of an earlier report that have a result, by name; none where it is no report of ours.
Json earlier_entries(const std::filesystem::path& path) {
  Json entries = Json::object();
  if (!std::filesystem::exists(path)) return entries;
  try {
    const Json report = read_json(path);
    for (const auto& entry : report.at("cases")) {
      if (!entry.contains("error")) entries[entry.at("case").get<std::string>()] = entry;
    }
  } catch (const std::exception&) {  // the label maps count
  }
  return entries;
}

Json millilitres_of(const CaseOutcome& outcome) {
  Json volumes = Json::object();
  for (const auto& [region, volume] : outcome.millilitres) volumes[region] = json_number(volume);
  return volumes;
}

Json seconds_of(const CaseOutcome& outcome) {
  const auto rounded = [](double seconds) { return std::round(seconds * 1000) / 1000; };
  return {{"reading", rounded(outcome.reading)},
          {"computing", rounded(outcome.computing)},
          {"writing", rounded(outcome.writing)}};
}

Json done_entry(const CaseOutcome& outcome) {
  Json entry = {{"case", outcome.name},
                {"state", "done"},
                {"seconds", seconds_of(outcome)},
                {"millilitres", millilitres_of(outcome)}};
  for (const auto& change : outcome.changes) {
    if (change.voxels == 0) continue;
    entry["postprocess"].push_back({{"rule", change.rule},
                                    {"parts", change.parts},
                                    {"voxels", change.voxels},
                                    {"millilitres", json_number(change.millilitres)}});
  }
  if (!outcome.notes.empty()) entry["notes"] = outcome.notes;
  return entry;
}

}  // namespace

InferenceReports::InferenceReports(const InferenceRunOptions& options, const Predictor& predictor,
                                   std::vector<std::string> channels, std::int64_t expected_cases)
    : options_(options), channels_(std::move(channels)) {
  if (options_.existing == Existing::kSkip) earlier_ = earlier_entries(path("report", ".json"));
  if (options_.page) page_.emplace(viewer_options(predictor, expected_cases));
}

std::filesystem::path InferenceReports::path(const std::string& stem,
                                             const std::string& suffix) const {
  const auto part = options_.part.empty() ? "" : "." + options_.part;
  return options_.folder / (stem + part + suffix);
}

void InferenceReports::show(const CaseOutcome& outcome, const io::LabelMap& labels,
                            const std::vector<io::Image>& images) {
  if (!page_) return;
  std::vector<io::ViewerChannel> channels;
  for (const std::size_t place : data::viewing_order(channels_)) {
    if (!images.empty()) channels.push_back({channels_[place], &images.at(place)});
  }
  std::vector<std::string> result = {outcome.state == CaseState::kKept ? "kept" : "ok"};
  result.insert(result.end(), outcome.notes.begin(), outcome.notes.end());
  const std::lock_guard lock(page_mutex_);
  page_->add_case(outcome.name, outcome.computing, labels, channels, join(result, "; "));
}

Json InferenceReports::kept_entry(const CaseOutcome& outcome) const {
  Json entry = earlier_.value(outcome.name, Json{{"case", outcome.name}});
  entry["state"] = "kept";
  if (!outcome.millilitres.empty()) entry["millilitres"] = millilitres_of(outcome);
  return entry;
}

double InferenceReports::earlier_seconds(const std::string& name) const {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  try {
    return earlier_.at(name).at("seconds").at("computing");
  } catch (const Json::exception&) {
    return kUnknown;
  }
}

void InferenceReports::add(const CaseOutcome& outcome) {
  switch (outcome.state) {
    case CaseState::kDone:
      entries_.push_back(done_entry(outcome));
      break;
    case CaseState::kKept:
      entries_.push_back(kept_entry(outcome));
      break;
    case CaseState::kFailed:
      entries_.push_back({{"case", outcome.name}, {"state", "failed"}, {"error", outcome.error}});
      if (!page_) break;
      const std::lock_guard lock(page_mutex_);
      page_->add_failure(outcome.name, outcome.computing, outcome.error);
      break;
  }
}

void InferenceReports::write(const InferenceSummary& summary) {
  Json report = options_.about;
  report["summary"] = {{"done", summary.done},
                       {"kept", summary.kept},
                       {"failed", summary.failed},
                       {"interrupted", summary.interrupted}};
  report["cases"] = entries_;
  write_json(path("report", ".json"), report);
  std::string table = csv_line({"case", "region", "millilitres"});
  for (const auto& entry : entries_) {
    if (!entry.contains("millilitres")) continue;
    for (const auto& [region, volume] : entry["millilitres"].items()) {
      table +=
          csv_line({entry["case"].get<std::string>(), region, format_double(volume.get<double>())});
    }
  }
  write_file_atomically(path("volumes", ".csv"), table);
  if (!page_) return;
  const std::lock_guard lock(page_mutex_);
  page_->write(path("report", ".html"));
}

}  // namespace segmamba::engine
