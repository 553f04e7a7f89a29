#pragma once
// Many cases through one Predictor: while one is computed, the next is read and the one before is
// written. A case that cannot be segmented is reported, and the rest go on.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/data/dataset.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/post/postprocess.h"

namespace segmamba::engine {

// What to do with results that are there already. kSkip keeps the cases that have a label map, and
// what the reports say of them.
enum class Existing { kRefuse, kOverwrite, kSkip };

// Which weights the results are of, for report.json and for what kSkip may keep.
struct WeightsRecord {
  std::vector<std::string> checkpoints;  // paths; none: not known, and not compared
  std::vector<std::string> hashes = {};  // of their content; none in reports of older versions
  std::string choice = {};  // PredictorOptions::weights; "" in reports of older versions
};
// Throws Error where a file cannot be read.
WeightsRecord weights_record(const std::vector<std::string>& checkpoints,
                             const std::string& choice);

// Files in `folder`:
//   CASE.nii.gz                              the label map
//   probabilities/CASE.nii.gz                4-D, a volume an output of the model
//   entropy/CASE.nii.gz, disagreement/...    see Prediction
//   regions/WT/CASE.nii.gz                   a mask a region
//   dicom/CASE.dcm                           DICOM SEG, where the images were DICOM
//   pictures/CASE.png                        three planes with outlines
//   report.json, volumes.csv, report.html    of all cases; the page has a viewer of slices
// A case's label map is written last: where it is there, all are that this run was asked for. Cases
// that are kept are in the reports as their label maps stand; one whose label map cannot be read
// has failed.
struct InferenceRunOptions {
  std::filesystem::path folder;
  Existing existing = Existing::kRefuse;
  bool probabilities = false, uncertainty = false, region_masks = false, pictures = false;
  bool page = true;
  std::vector<post::Rule> rules;  // of post-processing
  std::string resample_to;        // a channel whose grid the others are brought to
  // Read and write beside computing; takes the memory of a case more.
  bool overlap_files = true;
  WeightsRecord weights = {};   // of the Predictor
  Json about = Json::object();  // what else report.json says of the run
  std::string part;             // of several processes that share a data set: report.PART.json ...
};

enum class CaseState { kDone, kKept, kFailed };

struct CaseOutcome {
  std::string name;
  CaseState state = CaseState::kDone;
  std::string error = {};  // of kFailed, one line
  // Seconds; of kKept only `computing`, in the earlier run, NaN where no report says it.
  double reading = 0, computing = 0, writing = 0;
  std::vector<std::pair<std::string, double>> millilitres = {};  // by region
  std::vector<post::Change> changes = {};                        // by post-processing
  std::vector<std::string> notes = {};
};

struct InferenceSummary {
  std::int64_t done = 0, kept = 0, failed = 0;
  bool interrupted = false;
  std::filesystem::path report;  // the one to look at
};

struct InferenceProgress {
  // Both from the thread of run_inference(). `share` of a case is computed, 0 to 1.
  std::function<void(const std::string& name, double share)> on_share;
  std::function<void(const CaseOutcome& outcome)> on_case;
  std::function<bool()> cancelled;
};

// `missing`, of a survey, are reported as cases that failed. Throws Error where a label map or a
// report exists and must not be replaced or a label map would replace an input, before anything is
// computed, where kSkip would go on with results of other weights or keep a case without a file
// that is asked for, and where another process writes into the folder, for the same part. Throws
// WriteError where a file cannot be written; the reports are tried first. The cases before stay,
// and kSkip goes on with them.
InferenceSummary run_inference(const Predictor& predictor, const data::DatasetSurvey& survey,
                               const InferenceRunOptions& options,
                               const InferenceProgress& progress = {});

}  // namespace segmamba::engine
