#include "segmamba/engine/inference_run.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "inference_reports.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/engine/validation.h"
#include "segmamba/io/dicom_seg.h"
#include "segmamba/io/maps.h"
#include "segmamba/io/picture.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kReportEvery = 10;  // seconds, at most so often

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What the reports show beside the labels: the channels as the files have them.
std::vector<io::Image> images_of(data::RawCase raw) {
  std::vector<io::Image> images;
  for (auto& channel : raw.channels) images.push_back({raw.geometry, std::move(channel)});
  return images;
}

struct ReadCase {
  data::PreparedCase prepared;
  std::vector<io::Image> images;  // where a picture or the page is asked for
  double seconds = 0;
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
        kept_.push_back(&item);
      } else if (options_.existing == Existing::kOverwrite) {
        todo_.push_back(&item);
      } else {
        throw Error(concat(labels_path(item.name).string(),
                           " exists: add --overwrite, or --skip-existing to keep it"));
      }
    }
    make_output_folders();
    const auto missing = std::count_if(
        survey_.missing.begin(), survey_.missing.end(),
        [](const data::DatasetProblem& problem) { return !problem.case_name.empty(); });
    reports_.emplace(options_, predictor_, survey_.dataset.channels,
                     std::ssize(todo_) + std::ssize(kept_) + missing);
  }

  InferenceSummary run();

 private:
  fs::path labels_path(const std::string& name) const {
    return options_.folder / (name + ".nii.gz");
  }
  bool cancelled() const { return progress_.cancelled && progress_.cancelled(); }

  void make_output_folders() const;

  data::RawCase read_raw(const data::Case& item) const;
  ReadCase read(const data::Case& item) const;
  CaseOutcome write(Prediction prediction, ReadCase read, double computing);
  void write_files(const Prediction& prediction, const std::vector<io::Image>& images) const;

  bool compute_all();
  void take_kept(const data::Case& item);
  std::vector<io::Image> images_of_kept(const data::Case& item, const io::LabelMap& labels,
                                        CaseOutcome& outcome) const;
  void take_failure(const std::string& name, double seconds, const std::string& error);
  void take(const CaseOutcome& outcome);

  const Predictor& predictor_;
  const data::DatasetSurvey& survey_;
  const InferenceRunOptions& options_;
  const InferenceProgress& progress_;
  const std::vector<metrics::Region> regions_;
  std::vector<const data::Case*> todo_, kept_;
  InferenceSummary summary_;
  std::optional<InferenceReports> reports_;
  Clock::time_point reported_ = Clock::now();
  double report_pause_ = kReportEvery;
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

data::RawCase Run::read_raw(const data::Case& item) const {
  auto unlabelled = item;  // labels may be there, and damaged: they are not needed
  unlabelled.labels.clear();
  return data::read_case(survey_.dataset, unlabelled, {.resample_to = options_.resample_to});
}

ReadCase Run::read(const data::Case& item) const {
  const auto start = Clock::now();
  auto raw = read_raw(item);
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
      segments.push_back(io::dicom_segment(static_cast<std::uint8_t>(i), classes[i]));
    }
    io::write_dicom_seg(path("dicom", ".dcm"), labels, segments);
  }
  if (options_.pictures) {
    io::write_overlay_picture(path("pictures", ".png"), images.back(), nullptr, &labels,
                              {.style = io::LabelStyle::kOutlined});
  }
  io::write_labels(labels_path(prediction.name), labels);
}

CaseOutcome Run::write(Prediction prediction, ReadCase read, double computing) {
  const auto start = Clock::now();
  CaseOutcome outcome{.name = prediction.name,
                      .reading = read.seconds,
                      .computing = computing,
                      .notes = prediction.notes};
  auto& labels = prediction.labels;
  outcome.changes = post::postprocess(labels.voxels, grid_of(labels.geometry), options_.rules);
  outcome.millilitres = volumes_of(labels, regions_);
  write_files(prediction, read.images);
  reports_->show(outcome, labels, read.images);
  outcome.writing = seconds_since(start);
  return outcome;
}

void Run::take(const CaseOutcome& outcome) {
  ++(outcome.state == CaseState::kDone   ? summary_.done
     : outcome.state == CaseState::kKept ? summary_.kept
                                         : summary_.failed);
  reports_->add(outcome);
  if (progress_.on_case) progress_.on_case(outcome);
  if (seconds_since(reported_) < report_pause_) return;
  const auto start = Clock::now();
  reports_->write(summary_);
  reported_ = Clock::now();
  constexpr double kShare = 0.05;  // of the time, for a large page on a slow disk
  report_pause_ = std::max(kReportEvery, seconds_since(start) / kShare);
}

void Run::take_failure(const std::string& name, double seconds, const std::string& error) {
  take({.name = name, .state = CaseState::kFailed, .error = error, .computing = seconds});
}

// A case of an earlier run: its label map counts as it stands now.
void Run::take_kept(const data::Case& item) {
  CaseOutcome outcome{.name = item.name,
                      .state = CaseState::kKept,
                      .computing = reports_->earlier_seconds(item.name)};
  if (cancelled()) {
    summary_.interrupted = true;
    return take(outcome);  // what the earlier report says is not forgotten
  }
  try {
    const auto labels = io::read_labels(labels_path(item.name));
    outcome.millilitres = volumes_of(labels, regions_);
    if (options_.page) reports_->show(outcome, labels, images_of_kept(item, labels, outcome));
  } catch (const std::exception& error) {
    return take_failure(item.name, 0,
                        concat(message_of(error), "; remove the file to have it segmented again"));
  }
  take(outcome);
}

// Those of which the label map is; none, with a note in `outcome`, where they are no longer so.
std::vector<io::Image> Run::images_of_kept(const data::Case& item, const io::LabelMap& labels,
                                           CaseOutcome& outcome) const {
  std::string why;
  try {
    auto images = images_of(read_raw(item));
    why = io::geometry_difference(labels.geometry, images.front().geometry);
    if (why.empty()) return images;
  } catch (const std::exception& error) {
    why = message_of(error);
  }
  outcome.notes.push_back("shown without its images: " + why);
  return {};
}

// Returns whether all cases were reached.
bool Run::compute_all() {
  // Without overlap the work of a future is done by its get().
  const auto policy = options_.overlap_files ? std::launch::async : std::launch::deferred;
  const auto start_reading = [&](std::size_t place) {
    return std::async(policy, [this, place] { return read(*todo_[place]); });
  };
  std::future<ReadCase> reading;
  std::future<CaseOutcome> writing;
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
      prediction = predictor_.predict(item->prepared, {.probabilities = options_.probabilities,
                                                       .uncertainty = options_.uncertainty,
                                                       .on_progress =
                                                           [&](double share) {
                                                             if (progress_.on_share)
                                                               progress_.on_share(name, share);
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
  for (const auto* item : kept_) take_kept(*item);
  if (!compute_all()) summary_.interrupted = true;
  reports_->write(summary_);
  return summary_;
}

}  // namespace

InferenceSummary run_inference(const Predictor& predictor, const data::DatasetSurvey& survey,
                               const InferenceRunOptions& options,
                               const InferenceProgress& progress) {
  return Run(predictor, survey, options, progress).run();
}

}  // namespace segmamba::engine
