#include "inference_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
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

Json millilitres_of(const CaseOutcome& outcome) {
  Json volumes = Json::object();
  for (const auto& [region, volume] : outcome.millilitres) volumes[region] = json_number(volume);
  return volumes;
}

// What report.json says of a case that is done.
Json done_entry(const CaseOutcome& outcome) {
  Json entry = {{"case", outcome.name},
                {"state", "done"},
                {"seconds", seconds_of(outcome)},
                {"millilitres", millilitres_of(outcome)}};
  Json changes = Json::array();
  for (const auto& change : outcome.changes) {
    if (change.voxels == 0) continue;
    changes.push_back({{"rule", change.rule},
                       {"parts", change.parts},
                       {"voxels", change.voxels},
                       {"millilitres", json_number(change.millilitres)}});
  }
  if (!changes.empty()) entry["postprocess"] = std::move(changes);
  if (!outcome.notes.empty()) entry["notes"] = outcome.notes;
  return entry;
}

// Whether it is what an entry has under this key.
bool is_of_entry(const std::string& key, const Json& value) {
  const auto all = [](const Json& values, const auto& fits) {
    return std::all_of(values.begin(), values.end(), fits);
  };
  const auto is_plain = [](const Json& item) { return item.is_primitive(); };
  if (key == "seconds" || key == "millilitres") return value.is_object() && all(value, is_plain);
  if (key == "postprocess") {
    return value.is_array() && all(value, [&](const Json& change) {
             return change.is_object() && all(change, is_plain);
           });
  }
  if (key == "notes") {
    return value.is_array() && all(value, [](const Json& item) { return item.is_string(); });
  }
  return value.is_string();
}

// Takes out of an entry what this program writes. Anything else, which may be nested at will, takes
// many times its text in memory and is copied and indented when it is written again.
Json known_part(Json& entry) {
  Json known = {{"case", entry.at("case")}};
  for (const char* key : {"state", "error", "seconds", "millilitres", "postprocess", "notes"}) {
    if (!entry.contains(key) || !is_of_entry(key, entry[key])) continue;
    known[key] = std::move(entry[key]);
  }
  return known;
}

// The entries of a report by case; nothing where it is no report. Throws ReadError: where the disk
// fails, what an earlier run has reported must not be forgotten.
std::optional<std::map<std::string, Json>> read_entries(const fs::path& path) {
  if (!fs::exists(path)) return std::nullopt;
  std::map<std::string, Json> entries;
  try {
    Json report = read_json(path);
    for (auto& entry : report.at("cases")) {
      entries.emplace(entry.at("case").get<std::string>(), known_part(entry));
    }
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const ReadError&) {
    throw;
  } catch (const std::exception&) {
    return std::nullopt;
  }
  return entries;
}

}  // namespace

bool would_be_replaced(const fs::path& path) {
  return fs::exists(path) && !fs::is_directory(fs::symlink_status(path));
}

InferenceReport::InferenceReport(const InferenceRunOptions& options) : options_(options) {
  if (options.existing == Existing::kOverwrite) return;  // whatever it is
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

fs::path InferenceReport::worth_keeping() const {
  const bool has_done_nothing =
      earlier_ && std::all_of(earlier_->begin(), earlier_->end(), [](const auto& item) {
        return item.second.contains("state") && item.second["state"] == "failed";
      });
  if (has_done_nothing) return {};
  for (const auto& file : files()) {
    if (would_be_replaced(file)) return file;
  }
  return {};
}

double InferenceReport::earlier_seconds(const std::string& name) const {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (!earlier_ || !earlier_->contains(name)) return kUnknown;
  try {
    return earlier_->at(name).at("seconds").at("computing");
  } catch (const Json::exception&) {
    return kUnknown;
  }
}

void InferenceReport::show(const CaseOutcome& outcome, const io::LabelMap& labels,
                           const std::vector<io::ViewerChannel>& channels) {
  if (!page_) return;
  std::vector<std::string> result = {outcome.state == CaseState::kKept ? "kept" : "ok"};
  result.insert(result.end(), outcome.notes.begin(), outcome.notes.end());
  const std::lock_guard lock(page_mutex_);
  page_->add_case(outcome.name, outcome.computing, labels, channels, join(result, "; "));
}

Json InferenceReport::kept_entry(const CaseOutcome& outcome) const {
  const bool is_known = earlier_ && earlier_->contains(outcome.name);
  Json entry = is_known ? earlier_->at(outcome.name) : Json{{"case", outcome.name}};
  entry["state"] = "kept";
  if (!outcome.millilitres.empty()) entry["millilitres"] = millilitres_of(outcome);
  return entry;
}

void InferenceReport::add(const CaseOutcome& outcome) {
  switch (outcome.state) {
    case CaseState::kDone:
      entries_.emplace(outcome.name, done_entry(outcome));
      break;
    case CaseState::kKept:
      entries_.emplace(outcome.name, kept_entry(outcome));
      break;
    case CaseState::kFailed:
      entries_.emplace(outcome.name,
                       Json{{"case", outcome.name}, {"state", "failed"}, {"error", outcome.error}});
      if (!page_) break;
      const std::lock_guard lock(page_mutex_);
      page_->add_failure(outcome.name, outcome.computing, outcome.error);
      break;
  }
}

std::string InferenceReport::table() const {
  std::string table = csv_line({"case", "region", "millilitres"});
  for (const auto& [name, entry] : entries_) {
    if (!entry.contains("millilitres")) continue;
    for (const auto& [region, volume] : entry["millilitres"].items()) {
      if (!volume.is_number()) continue;  // in a report of another program's
      table += csv_line({name, region, format_double(volume.get<double>())});
    }
  }
  return table;
}

void InferenceReport::write(const InferenceSummary& summary) {
  const auto start = std::chrono::steady_clock::now();
  Json report = options_.about;
  report["summary"] = {{"done", summary.done},
                       {"kept", summary.kept},
                       {"failed", summary.failed},
                       {"interrupted", summary.interrupted}};
  report["cases"] = Json::array();
  for (const auto& [name, entry] : entries_) report["cases"].push_back(entry);
  write_json(path("report.json"), report);
  write_file_atomically(path("volumes.csv"), table());
  if (page_) {
    const std::lock_guard lock(page_mutex_);
    page_->write(path("report.html"));
  }
  const auto end = std::chrono::steady_clock::now();
  // A twentieth of the time at most, for a large page on a slow disk.
  due_ = end + std::max<std::chrono::steady_clock::duration>(std::chrono::seconds(10),
                                                             20 * (end - start));
}

void InferenceReport::write_if_due(const InferenceSummary& summary) {
  if (std::chrono::steady_clock::now() > due_) write(summary);
}

}  // namespace segmamba::engine
