#include "segmamba/engine/inference_run.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/engine/validation.h"
#include "segmamba/io/dicom_seg.h"
#include "segmamba/io/maps.h"
#include "segmamba/io/picture.h"
#include "segmamba/io/viewer_report.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What the reports show beside the labels: the channels as the files have them.
std::vector<io::Image> images_of(const data::RawCase& raw) {
  std::vector<io::Image> images;
  for (const auto& channel : raw.channels) images.push_back({raw.geometry, channel});
  return images;
}

struct ReadCase {
  data::PreparedCase prepared;
  std::vector<io::Image> images;  // where a picture or the page is asked for
  double seconds = 0;
};

struct WrittenCase {
  CaseOutcome outcome;
  io::LabelMap labels;
  std::vector<io::Image> images;
};

std::vector<std::pair<std::string, double>> volumes_of(
    const io::LabelMap& labels, const std::vector<metrics::Region>& regions) {
  std::array<std::int64_t, 256> counts{};
  for (const auto label : labels.voxels) ++counts[label];
  const auto& spacing = labels.geometry.spacing;
  const double millilitre = spacing[0] * spacing[1] * spacing[2] / 1000;
  std::vector<std::pair<std::string, double>> volumes;
  for (const auto& region : regions) {
    std::int64_t voxels = 0;
    for (const auto label : region.labels) voxels += counts[label];
    volumes.emplace_back(region.name, static_cast<double>(voxels) * millilitre);
  }
  return volumes;
}

metrics::Grid grid_of(const io::Geometry& geometry) { return {geometry.size, geometry.spacing}; }

// The first line: LibTorch's messages go on with a stack.
std::string message_of(const std::exception& error) {
  const std::string message = error.what();
  return message.substr(0, message.find('\n'));
}

Json seconds_of(const CaseOutcome& outcome) {
  const auto rounded = [](double seconds) { return std::round(seconds * 1000) / 1000; };
  return {{"reading", rounded(outcome.reading)},
          {"computing", rounded(outcome.computing)},
          {"writing", rounded(outcome.writing)}};
}

// What report.json says of a case.
Json entry_of(const CaseOutcome& outcome) {
  Json entry = {{"case", outcome.name}};
  if (outcome.state == CaseState::kFailed) {
    entry["state"] = "failed";
    entry["error"] = outcome.error;
    return entry;
  }
  entry["state"] = "done";
  entry["seconds"] = seconds_of(outcome);
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

class Run {
 public:
  Run(const Predictor& predictor, const data::DatasetSurvey& survey,
      const InferenceRunOptions& options, const InferenceProgress& progress)
      : predictor_(predictor),
        survey_(survey),
        options_(options),
        progress_(progress),
        regions_(validation_regions(predictor.config().data)) {
    for (const auto& item : survey_.dataset.cases) {
      if (!fs::exists(labels_path(item.name))) {
        todo_.push_back(&item);
      } else if (options_.existing == Existing::kSkip) {
        kept_.push_back(item.name);
      } else if (options_.existing == Existing::kOverwrite) {
        todo_.push_back(&item);
      } else {
        throw Error(concat(labels_path(item.name).string(),
                           " exists: add --overwrite, or --skip-existing to keep it"));
      }
    }
    make_output_folders();
    if (options_.page) page_.emplace(viewer_options());
  }

  InferenceSummary run();

 private:
  fs::path labels_path(const std::string& name) const {
    return options_.folder / (name + ".nii.gz");
  }
  fs::path report_path(const std::string& stem, const std::string& suffix) const {
    const auto part = options_.part.empty() ? "" : "." + options_.part;
    return options_.folder / (stem + part + suffix);
  }
  bool cancelled() const { return progress_.cancelled && progress_.cancelled(); }

  void make_output_folders() const;
  io::ViewerOptions viewer_options() const;

  ReadCase read(const data::Case& item) const;
  WrittenCase write(Prediction prediction, ReadCase read, double computing) const;
  void write_files(const Prediction& prediction, const std::vector<io::Image>& images) const;

  bool compute_all();
  void take(WrittenCase written);
  void take_failure(const std::string& name, double seconds, const std::string& error);
  void take_kept();
  void record(const CaseOutcome& outcome, Json entry);
  void write_reports() const;

  const Predictor& predictor_;
  const data::DatasetSurvey& survey_;
  const InferenceRunOptions& options_;
  const InferenceProgress& progress_;
  const std::vector<metrics::Region> regions_;
  std::vector<const data::Case*> todo_;
  std::vector<std::string> kept_;
  InferenceSummary summary_;
  Json entries_ = Json::array();
  std::optional<io::ViewerReport> page_;
  Clock::time_point reported_ = Clock::now();
};

void Run::make_output_folders() const {
  std::vector<fs::path> folders = {options_.folder};
  const auto add = [&](bool wanted, const fs::path& name) {
    if (wanted) folders.push_back(options_.folder / name);
  };
  add(options_.probabilities, "probabilities");
  add(options_.uncertainty, "entropy");
  add(options_.uncertainty, "disagreement");
  add(options_.pictures, "pictures");
  for (const auto& region : regions_) {
    add(options_.region_masks, fs::path("regions") / region.name);
  }
  for (const auto& folder : folders) {
    make_folders(folder);
    remove_stale_temporaries(folder);
  }
}

io::ViewerOptions Run::viewer_options() const {
  io::ViewerOptions viewer;
  viewer.description = concat(predictor_.model_count(), " model",
                              predictor_.model_count() == 1 ? "" : "s", ", ",
                              predictor_.precision(), " on ", predictor_.device());
  const auto& classes = predictor_.config().data.classes;
  for (std::size_t i = 1; i < classes.size(); ++i) {
    viewer.labels.push_back({static_cast<std::uint8_t>(i), classes[i]});
  }
  for (const auto& region : regions_) viewer.regions.push_back({region.name, region.labels});
  viewer.expected_cases = std::max<std::int64_t>(1, std::ssize(todo_));
  return viewer;
}

ReadCase Run::read(const data::Case& item) const {
  const auto start = Clock::now();
  auto unlabelled = item;  // labels may be there, and damaged: they are not needed
  unlabelled.labels.clear();
  auto raw = data::read_case(survey_.dataset, unlabelled, {.resample_to = options_.resample_to});
  ReadCase result;
  if (options_.pictures || options_.page) result.images = images_of(raw);
  result.prepared = data::prepare_case(std::move(raw), predictor_.config().preprocess);
  result.seconds = seconds_since(start);
  return result;
}

void Run::write_files(const Prediction& prediction, const std::vector<io::Image>& images) const {
  const auto& labels = prediction.labels;
  const auto path = [&](const fs::path& kind, const char* suffix = ".nii.gz") {
    return options_.folder / kind / (prediction.name + suffix);
  };
  if (options_.probabilities) {
    io::write_probabilities(path("probabilities"), labels.geometry, prediction.outputs,
                            prediction.probabilities);
  }
  if (options_.uncertainty) {
    io::write_map(path("entropy"), labels.geometry, "entropy", prediction.entropy);
    io::write_map(path("disagreement"), labels.geometry, "disagreement", prediction.disagreement);
  }
  if (options_.region_masks) {
    for (const auto& region : regions_) {
      io::LabelMap mask{labels.geometry, std::vector<std::uint8_t>(labels.voxels.size())};
      std::array<std::uint8_t, 256> inside{};
      for (const auto label : region.labels) inside[label] = 1;
      std::transform(labels.voxels.begin(), labels.voxels.end(), mask.voxels.begin(),
                     [&](std::uint8_t label) { return inside[label]; });
      io::write_labels(path(fs::path("regions") / region.name), mask);
    }
  }
  if (labels.geometry.dicom != nullptr) {
    make_folders(options_.folder / "dicom");
    std::vector<io::DicomSegment> segments;
    const auto& classes = predictor_.config().data.classes;
    for (std::size_t i = 1; i < classes.size(); ++i) {
      segments.push_back(io::dicom_segment(static_cast<std::uint8_t>(i), classes[i],
                                           data::canonical_class(classes[i])));
    }
    io::write_dicom_seg(path("dicom", ".dcm"), labels, segments);
  }
  if (options_.pictures) {
    io::write_overlay_picture(path("pictures", ".png"), images.back(), nullptr, &labels,
                              {.style = io::LabelStyle::kOutlined});
  }
  io::write_labels(labels_path(prediction.name), labels);
}

WrittenCase Run::write(Prediction prediction, ReadCase read, double computing) const {
  const auto start = Clock::now();
  CaseOutcome outcome{.name = prediction.name,
                      .reading = read.seconds,
                      .computing = computing,
                      .notes = prediction.notes};
  auto& labels = prediction.labels;
  outcome.changes = post::postprocess(labels.voxels, grid_of(labels.geometry), options_.rules);
  outcome.millilitres = volumes_of(labels, regions_);
  write_files(prediction, read.images);
  outcome.writing = seconds_since(start);
  return {std::move(outcome), std::move(labels), std::move(read.images)};
}

void Run::record(const CaseOutcome& outcome, Json entry) {
  entries_.push_back(std::move(entry));
  if (progress_.on_case) progress_.on_case(outcome);
  constexpr double kReportEvery = 10;  // seconds
  if (seconds_since(reported_) < kReportEvery) return;
  write_reports();
  reported_ = Clock::now();
}

void Run::take(WrittenCase written) {
  const auto& outcome = written.outcome;
  ++summary_.done;
  if (page_) {
    std::vector<io::ViewerChannel> channels;
    for (std::size_t c = 0; c < written.images.size(); ++c) {
      channels.push_back({survey_.dataset.channels[c], &written.images[c]});
    }
    page_->add_case(outcome.name, outcome.computing, written.labels, channels);
  }
  record(outcome, entry_of(outcome));
}

void Run::take_failure(const std::string& name, double seconds, const std::string& error) {
  ++summary_.failed;
  if (page_) page_->add_failure(name, seconds, error);
  const CaseOutcome outcome{.name = name, .state = CaseState::kFailed, .error = error};
  record(outcome, entry_of(outcome));
}

// Cases of an earlier run are listed as that run has reported them.
void Run::take_kept() {
  Json earlier = Json::array();
  if (!kept_.empty() && fs::exists(report_path("report", ".json"))) {
    try {
      earlier = read_json(report_path("report", ".json")).at("cases");
    } catch (const std::exception&) {  // no report of ours: the labels count
    }
  }
  for (const auto& name : kept_) {
    ++summary_.kept;
    Json entry = {{"case", name}};
    for (const auto& item : earlier) {
      if (item.is_object() && item.value("case", "") == name) entry = item;
    }
    entry["state"] = "kept";
    record({.name = name, .state = CaseState::kKept}, std::move(entry));
  }
}

void Run::write_reports() const {
  Json report = options_.about;
  report["summary"] = {{"done", summary_.done},
                       {"kept", summary_.kept},
                       {"failed", summary_.failed},
                       {"interrupted", summary_.interrupted}};
  report["cases"] = entries_;
  write_json(report_path("report", ".json"), report);
  std::string table = csv_line({"case", "region", "millilitres"});
  for (const auto& entry : entries_) {
    if (!entry.contains("millilitres")) continue;
    for (const auto& [region, volume] : entry["millilitres"].items()) {
      table += csv_line({entry["case"].get<std::string>(), region,
                         format_double(volume.get<double>())});
    }
  }
  write_file_atomically(report_path("volumes", ".csv"), table);
  if (page_) page_->write(report_path("report", ".html"));
}

// Returns whether all cases were reached.
bool Run::compute_all() {
  // Without overlap the work of a future is done by its get().
  const auto policy = options_.overlap_files ? std::launch::async : std::launch::deferred;
  const auto start_reading = [&](std::size_t place) {
    return std::async(policy, [this, place] { return read(*todo_[place]); });
  };
  std::future<ReadCase> reading;
  std::future<WrittenCase> writing;
  std::string writing_name;
  const auto finish_writing = [&] {
    if (!writing.valid()) return;
    try {
      take(writing.get());
    } catch (const std::exception& error) {
      take_failure(writing_name, 0, message_of(error));
    }
  };

  bool complete = true;
  if (!todo_.empty()) reading = start_reading(0);
  for (std::size_t i = 0; i < todo_.size(); ++i) {
    if (cancelled()) {
      complete = false;
      break;
    }
    const auto& name = todo_[i]->name;
    std::optional<ReadCase> item;
    try {
      item = reading.get();
    } catch (const std::exception& error) {
      take_failure(name, 0, message_of(error));
    }
    if (i + 1 < todo_.size()) reading = start_reading(i + 1);
    if (!item) continue;

    const auto start = Clock::now();
    std::optional<Prediction> prediction;
    try {
      prediction = predictor_.predict(
          item->prepared, {.probabilities = options_.probabilities,
                           .uncertainty = options_.uncertainty,
                           .on_progress =
                               [&](double share) {
                                 if (progress_.on_share) progress_.on_share(name, share);
                               },
                           .cancelled = progress_.cancelled});
    } catch (const Interrupted&) {
      complete = false;
      break;
    } catch (const std::exception& error) {
      take_failure(name, seconds_since(start), message_of(error));
      continue;
    }
    const double seconds = seconds_since(start);
    finish_writing();
    writing_name = name;
    writing = std::async(policy, [this, seconds, prediction = std::move(*prediction),
                                  item = std::move(*item)]() mutable {
      item.prepared = {};
      return write(std::move(prediction), std::move(item), seconds);
    });
    if (!options_.overlap_files) finish_writing();
  }
  finish_writing();
  return complete;
}

InferenceSummary Run::run() {
  for (const auto& problem : survey_.missing) {
    if (!problem.case_name.empty()) take_failure(problem.case_name, 0, problem.message);
  }
  take_kept();
  summary_.interrupted = !compute_all();
  write_reports();
  return summary_;
}

}  // namespace

InferenceSummary run_inference(const Predictor& predictor, const data::DatasetSurvey& survey,
                               const InferenceRunOptions& options,
                               const InferenceProgress& progress) {
  return Run(predictor, survey, options, progress).run();
}

}  // namespace segmamba::engine
