#pragma once
// What a run of inference tells of its cases: report.json, volumes.csv and report.html.

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/engine/inference_run.h"
#include "segmamba/io/viewer_report.h"

namespace segmamba::engine {

class InferenceReport {
 public:
  // Reads what an earlier run has reported.
  explicit InferenceReport(const InferenceRunOptions& options);
  // Where there is to be a page, before any case is added.
  void open_page(io::ViewerOptions viewer);

  // All of its files; the first is the one to look at.
  std::vector<std::filesystem::path> files() const;
  // Cases of the earlier report.
  std::vector<std::string> earlier_cases() const;
  // Whether the earlier report tells of a case's labels.
  bool knows(const std::string& name) const;
  // One of the files that is there; "" where they only tell that an earlier run has done nothing.
  std::filesystem::path worth_keeping() const;

  void add_done(const CaseOutcome& outcome, const io::LabelMap& labels,
                const std::vector<io::ViewerChannel>& channels);
  void add_failed(const CaseOutcome& outcome, double seconds);
  // As the earlier run has reported it, where it has.
  void add_kept(const CaseOutcome& outcome);

  // Throws Error where a file cannot be written.
  void write(const InferenceSummary& summary);
  // The same where the last time is a while ago.
  void write_if_due(const InferenceSummary& summary);

 private:
  std::filesystem::path path(const std::string& name) const;
  std::string table() const;

  const InferenceRunOptions& options_;
  std::optional<std::map<std::string, Json>> earlier_;  // entries of cases
  Json entries_ = Json::array();
  std::optional<io::ViewerReport> page_;
  std::chrono::steady_clock::time_point written_;
};

}  // namespace segmamba::engine
