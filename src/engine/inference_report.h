#pragma once
// What a run of inference tells of its cases: report.json, volumes.csv and report.html.

#include <chrono>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/engine/inference_run.h"
#include "segmamba/io/viewer_report.h"

namespace segmamba::engine {

// Whether something is at `path` that a file of this name takes the place of. A folder keeps it:
// the file cannot be written then, with --overwrite neither, which is an error of its own.
bool would_be_replaced(const std::filesystem::path& path);

struct EarlierReport {
  std::map<std::string, Json> entries;  // of cases
  WeightsRecord weights;
};

class InferenceReport {
 public:
  // Reads what an earlier run has reported, unless that is to be replaced. Throws ReadError.
  explicit InferenceReport(const InferenceRunOptions& options);
  // Where there is to be a page, before any case is added.
  void open_page(io::ViewerOptions viewer);

  // All of its files; the first is the one to look at.
  std::vector<std::filesystem::path> files() const;
  // Why results of the earlier run and of this one must not be mixed; "" where they may be.
  std::string difference_of_weights() const;
  // Cases of the earlier report.
  std::vector<std::string> earlier_cases() const;
  // Seconds that computing a case took in the earlier run; NaN where that is not known.
  double earlier_seconds(const std::string& name) const;
  // One of the files that is there; "" where they only tell that an earlier run has done nothing.
  std::filesystem::path worth_keeping() const;

  // Puts a case that has a result into the page, if there is one. May be called by one thread
  // beside the other functions.
  void show(const CaseOutcome& outcome, const io::LabelMap& labels,
            const std::vector<io::ViewerChannel>& channels);
  // The case's entry in report.json and volumes.csv; a failed one's row of the page, too.
  void add(const CaseOutcome& outcome);

  // Throws Error where a file cannot be written.
  void write(const InferenceSummary& summary);
  // The same where the last time is a while ago: the longer, the longer writing took.
  void write_if_due(const InferenceSummary& summary);

 private:
  std::filesystem::path path(const std::string& name) const;
  Json kept_entry(const CaseOutcome& outcome) const;
  std::string table() const;

  const InferenceRunOptions& options_;
  std::optional<EarlierReport> earlier_;
  std::multimap<std::string, Json> entries_;  // by case: in one order, however often it went on
  std::mutex page_mutex_;
  std::optional<io::ViewerReport> page_;
  std::chrono::steady_clock::time_point due_;
};

}  // namespace segmamba::engine
