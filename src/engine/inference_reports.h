#pragma once
// report.json, volumes.csv and report.html of many cases, while they are done.

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/engine/inference_run.h"
#include "segmamba/io/viewer_report.h"

namespace segmamba::engine {

class InferenceReports {
 public:
  // Of `expected_cases` in all. Entries of a report.json that an earlier run has left in the folder
  // are taken over for the cases that are kept.
  InferenceReports(const InferenceRunOptions& options, const Predictor& predictor,
                   std::vector<std::string> channels, std::int64_t expected_cases);

  bool has_page() const { return page_.has_value(); }
  // Puts a case that has a result into the page, if there is one. `images`: one a channel, or none.
  // May be called beside the other functions, by one thread.
  void show(const CaseOutcome& outcome, const io::LabelMap& labels,
            const std::vector<io::Image>& images);
  // Seconds that computing it took in the earlier run; NaN where that is not known.
  double earlier_seconds(const std::string& name) const;
  // The case's entry in report.json and volumes.csv; a failed one's row of the page, too.
  void add(const CaseOutcome& outcome);

  // Atomic, each. Throws Error.
  void write(const InferenceSummary& summary);

 private:
  std::filesystem::path path(const std::string& stem, const std::string& suffix) const;
  Json kept_entry(const CaseOutcome& outcome) const;

  const InferenceRunOptions& options_;
  std::vector<std::string> channels_;
  Json earlier_ = Json::object();  // entries of report.json, by case
  Json entries_ = Json::array();
  std::mutex page_mutex_;
  std::optional<io::ViewerReport> page_;
};

}  // namespace segmamba::engine
