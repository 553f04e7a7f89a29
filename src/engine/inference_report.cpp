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

// Nothing where it is something else.
std::vector<std::string> texts_at(const Json& report, const char* key) {
  const auto found = report.find(key);
  if (found == report.end() || !found->is_array()) return {};
  std::vector<std::string> texts;
  for (const auto& item : *found) {
    if (!item.is_string()) return {};
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

WeightsRecord weights_of(const Json& report) {
  const auto choice = report.find("weights");
  return {
      .checkpoints = texts_at(report, "checkpoints"),
      .hashes = texts_at(report, "checkpoint_hashes"),
      .choice = choice != report.end() && choice->is_string() ? choice->get<std::string>() : ""};
}

// An ensemble is the same in any order.
std::vector<std::string> sorted(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  return texts;
}

// One text for each file, as a report holds it.
std::vector<std::string> comparable_paths(const std::vector<std::string>& paths) {
  std::vector<std::string> texts;
  for (const auto& path : paths) {
    std::error_code ignored;  // of "", which a report may hold
    texts.push_back(utf8_text(fs::absolute(path, ignored).lexically_normal().string()));
  }
  return sorted(texts);
}

// "a.pt, b.pt", with what tells them from others of these paths.
std::string described(const WeightsRecord& weights, bool with_hashes, bool with_choice) {
  std::vector<std::string> texts = weights.checkpoints;
  for (std::size_t i = 0; with_hashes && i < std::min(texts.size(), weights.hashes.size()); ++i) {
    texts[i] += concat(" (hash ", weights.hashes[i].substr(0, 8), ")");
  }
  return printable(join(texts, ", ") + (with_choice ? concat(" (", weights.choice, ")") : ""));
}

// What an earlier run has reported; nothing where it is no report. Throws ReadError: where the disk
// fails, that must not be forgotten.
std::optional<EarlierReport> read_earlier(const fs::path& path) {
  if (!fs::exists(path)) return std::nullopt;
  EarlierReport earlier;
  try {
    Json report = read_json(path);
    for (auto& entry : report.at("cases")) {
      earlier.entries.emplace(entry.at("case").get<std::string>(), known_part(entry));
    }
    earlier.weights = weights_of(report);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const ReadError&) {
    throw;
  } catch (const std::exception&) {
    return std::nullopt;
  }
  return earlier;
}

}  // namespace

bool would_be_replaced(const fs::path& path) {
  return fs::exists(path) && !fs::is_directory(fs::symlink_status(path));
}

InferenceReport::InferenceReport(const InferenceRunOptions& options) : options_(options) {
  if (options.existing == Existing::kOverwrite) return;  // whatever it is
  earlier_ = read_earlier(path("report.json"));
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

std::string InferenceReport::difference_of_weights() const {
  if (!earlier_) return "";
  const auto& own = options_.weights;
  const auto& other = earlier_->weights;
  if (own.checkpoints.empty() || other.checkpoints.empty()) return "";
  const bool same_paths = comparable_paths(own.checkpoints) == comparable_paths(other.checkpoints);
  const bool has_hashes = !own.hashes.empty() && !other.hashes.empty();
  const bool same_files = has_hashes ? sorted(own.hashes) == sorted(other.hashes) : same_paths;
  const bool same_choice = own.choice.empty() || other.choice.empty() || own.choice == other.choice;
  if (same_files && same_choice) return "";
  const auto text_of = [&](const WeightsRecord& weights) {
    return described(weights, same_paths && !same_files, !same_choice);
  };
  return concat(path("report.json").string(), " is of label maps of ", text_of(other),
                ", this run would be of ", text_of(own),
                ": take the same weights, another folder for the results, or --overwrite");
}

std::vector<std::string> InferenceReport::earlier_cases() const {
  std::vector<std::string> names;
  if (!earlier_) return names;
  for (const auto& [name, entry] : earlier_->entries) names.push_back(name);
  return names;
}

fs::path InferenceReport::worth_keeping() const {
  const bool has_done_nothing =
      earlier_ &&
      std::all_of(earlier_->entries.begin(), earlier_->entries.end(), [](const auto& item) {
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
  if (!earlier_ || !earlier_->entries.contains(name)) return kUnknown;
  try {
    return earlier_->entries.at(name).at("seconds").at("computing");
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
  const bool is_known = earlier_ && earlier_->entries.contains(outcome.name);
  Json entry = is_known ? earlier_->entries.at(outcome.name) : Json{{"case", outcome.name}};
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
  const auto& weights = options_.weights;
  if (!weights.checkpoints.empty()) report["checkpoints"] = weights.checkpoints;
  if (!weights.hashes.empty()) report["checkpoint_hashes"] = weights.hashes;
  if (!weights.choice.empty()) report["weights"] = weights.choice;
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
