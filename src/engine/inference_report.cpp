#include "inference_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;

Json seconds_of(const CaseOutcome& outcome) {
  const auto rounded = [](double seconds) { return std::round(seconds * 1000) / 1000; };
  return {{"reading", rounded(outcome.reading)},
          {"computing", rounded(outcome.computing)},
          {"writing", rounded(outcome.writing)}};
}

// What report.json says of a case with labels.
Json entry_of(const CaseOutcome& outcome) {
  const bool is_done = outcome.state == CaseState::kDone;
  Json entry = {{"case", outcome.name}, {"state", is_done ? "done" : "kept"}};
  if (is_done) entry["seconds"] = seconds_of(outcome);
  for (const auto& [region, volume] : outcome.millilitres) {
    entry["millilitres"][region] = json_number(volume);
  }
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

// The entries of a report by case; nothing where it is no report.
std::optional<std::map<std::string, Json>> read_entries(const fs::path& path) {
  if (!fs::exists(path)) return std::nullopt;
  std::map<std::string, Json> entries;
  try {
    const Json report = read_json(path);
    for (const auto& entry : report.at("cases")) {
      entries.emplace(entry.at("case").get<std::string>(), entry);
    }
  } catch (const std::exception&) {
    return std::nullopt;
  }
  return entries;
}

}  // namespace

InferenceReport::InferenceReport(const InferenceRunOptions& options) : options_(options) {
  earlier_ = read_entries(path("report.json"));
}

void InferenceReport::open_page(io::ViewerOptions viewer) { page_.emplace(std::move(viewer)); }

fs::path InferenceReport::path(const std::string& name) const {
  const fs::path file = name;
  const auto part = options_.part.empty() ? "" : "." + options_.part;
  return options_.folder / concat(file.stem().string(), part, file.extension().string());
}

std::vector<fs::path> InferenceReport::files() const {
  std::vector<fs::path> all;
  if (options_.page) all.push_back(path("report.html"));
  all.push_back(path("report.json"));
  all.push_back(path("volumes.csv"));
  return all;
}

std::vector<std::string> InferenceReport::earlier_cases() const {
  std::vector<std::string> names;
  if (!earlier_) return names;
  for (const auto& [name, entry] : *earlier_) names.push_back(name);
  return names;
}

bool InferenceReport::knows(const std::string& name) const {
  return earlier_ && earlier_->contains(name) && earlier_->at(name).contains("millilitres");
}

fs::path InferenceReport::worth_keeping() const {
  const bool has_done_nothing =
      earlier_ && std::all_of(earlier_->begin(), earlier_->end(), [](const auto& item) {
        return item.second.contains("state") && item.second["state"] == "failed";
      });
  if (has_done_nothing) return {};
  for (const auto& file : files()) {
    if (fs::exists(file)) return file;
  }
  return {};
}

void InferenceReport::add_done(const CaseOutcome& outcome, const io::LabelMap& labels,
                               const std::vector<io::ViewerChannel>& channels) {
  if (page_) page_->add_case(outcome.name, outcome.computing, labels, channels);
  entries_.push_back(entry_of(outcome));
}

void InferenceReport::add_failed(const CaseOutcome& outcome, double seconds) {
  if (page_) page_->add_failure(outcome.name, seconds, outcome.error);
  entries_.push_back({{"case", outcome.name}, {"state", "failed"}, {"error", outcome.error}});
}

void InferenceReport::add_kept(const CaseOutcome& outcome) {
  Json entry = knows(outcome.name) ? earlier_->at(outcome.name) : entry_of(outcome);
  entry["state"] = "kept";
  entries_.push_back(std::move(entry));
}

std::string InferenceReport::table() const {
  std::string table = csv_line({"case", "region", "millilitres"});
  for (const auto& entry : entries_) {
    if (!entry.contains("millilitres")) continue;
    for (const auto& [region, volume] : entry["millilitres"].items()) {
      if (!volume.is_number()) continue;  // in a report of another program's
      table +=
          csv_line({entry["case"].get<std::string>(), region, format_double(volume.get<double>())});
    }
  }
  return table;
}

void InferenceReport::write(const InferenceSummary& summary) {
  Json report = options_.about;
  report["summary"] = {{"done", summary.done},
                       {"kept", summary.kept},
                       {"failed", summary.failed},
                       {"interrupted", summary.interrupted}};
  report["cases"] = entries_;
  write_json(path("report.json"), report);
  write_file_atomically(path("volumes.csv"), table());
  if (page_) page_->write(path("report.html"));
  written_ = std::chrono::steady_clock::now();
}

void InferenceReport::write_if_due(const InferenceSummary& summary) {
  constexpr std::chrono::seconds kEvery(10);
  if (std::chrono::steady_clock::now() - written_ > kEvery) write(summary);
}

}  // namespace segmamba::engine
