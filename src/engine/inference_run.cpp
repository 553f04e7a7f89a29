#include "segmamba/engine/inference_run.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "case_files.h"
#include "inference_report.h"
#include "segmamba/core/error.h"
#include "segmamba/core/file_lock.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/log.h"
#include "segmamba/core/mapped_file.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/engine/inference_memory.h"
#include "segmamba/engine/out_of_memory.h"
#include "segmamba/engine/validation.h"
#include "segmamba/metrics/region_volumes.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Volumes = decltype(CaseOutcome::millilitres);

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What the reports show beside the labels: the channels as the files have them.
std::vector<io::Image> images_of(data::RawCase raw) {
  std::vector<io::Image> images;
  for (auto& channel : raw.channels) images.push_back({raw.geometry, std::move(channel)});
  return images;
}

// The least that `copies` of the images of a case take, by the headers of their files; 0 of a DICOM
// series, whose headers are as many as its slices. What is brought into the grid of one channel is
// held as it was read for a moment only.
std::int64_t least_image_bytes(const data::Case& item, std::int64_t copies, bool resamples) {
  std::vector<std::int64_t> voxels;
  for (const auto& image : item.images) {
    if (!fs::is_regular_file(image.path)) return 0;
    voxels.push_back(io::read_geometry(image.path, image.volume).voxel_count());
  }
  if (voxels.empty()) return 0;
  const auto [smallest, largest] = std::minmax_element(voxels.begin(), voxels.end());
  const std::int64_t least =
      resamples ? std::max(*largest, copies * std::ssize(voxels) * *smallest)
                : copies * std::accumulate(voxels.begin(), voxels.end(), std::int64_t{0});
  return least * static_cast<std::int64_t>(sizeof(float));
}

struct ReadCase {
  data::PreparedCase prepared;
  std::vector<io::Image> images;  // where a picture or the page is asked for
  double seconds = 0;
};

struct KeptCase {
  std::string name;
  const data::Case* item;  // null: of an earlier run only
};

metrics::Grid grid_of(const io::Geometry& geometry) { return {geometry.size, geometry.spacing}; }

std::string message_of(const std::exception& error) {
  if (exhausted_memory(error) == Memory::kHost) return "this machine is out of memory";
  // The first line: LibTorch's messages go on with a stack.
  const std::string message = error.what();
  return message.substr(0, message.find('\n'));
}

bool is_input(const fs::path& path, const data::Case& item) {
  const auto is_path = [&](const fs::path& input) {
    std::error_code ignored;  // of what does not exist
    return fs::equivalent(path, input, ignored);
  };
  return is_path(item.labels) ||
         std::any_of(item.images.begin(), item.images.end(),
                     [&](const data::ChannelFile& file) { return is_path(file.path); });
}

class Run {
 public:
  Run(const Predictor& predictor, const data::DatasetSurvey& survey,
      const InferenceRunOptions& options, const InferenceProgress& progress)
      : lock_(options.folder, options.part),
        predictor_(predictor),
        survey_(survey),
        options_(options),
        progress_(progress),
        regions_(validation_regions(predictor.config().data)),
        files_(options, regions_, predictor.config().data.classes),
        report_(options) {
    choose_cases();
    check_replacing();
    files_.make_folders();
    if (options_.page) report_.open_page(viewer_options());
  }

  InferenceSummary run();

 private:
  bool cancelled() const { return progress_.cancelled && progress_.cancelled(); }

  // Into todo_ and kept_.
  void choose_cases();
  void check_replacing() const;
  void check_going_on() const;
  io::ViewerOptions viewer_options() const;
  Volumes volumes_of(const io::LabelMap& labels) const;

  // Throws Error where `copies` of the images would not keep the limit of memory.
  data::RawCase read_raw(const data::Case& item, std::int64_t copies) const;
  ReadCase read(const data::Case& item) const;
  CaseOutcome write(Prediction prediction, ReadCase read, double computing);

  // What work() gives; nothing where it fails, which is then told.
  template <class Work>
  auto attempt(const std::string& name, Work work) -> std::optional<decltype(work())>;
  bool compute_all();
  void show(const CaseOutcome& outcome, const io::LabelMap& labels,
            const std::vector<io::Image>& images);
  void take_kept(const KeptCase& kept);
  std::vector<io::Image> images_of_kept(const data::Case* item, const io::LabelMap& labels,
                                        CaseOutcome& outcome) const;
  void report_what_is_done();
  void take_failure(const std::string& name, double seconds, const std::string& error);
  void take(const CaseOutcome& outcome);

  const FolderLock lock_;  // before anything is looked for in the folder
  const Predictor& predictor_;
  const data::DatasetSurvey& survey_;
  const InferenceRunOptions& options_;
  const InferenceProgress& progress_;
  const std::vector<metrics::Region> regions_;
  std::vector<const data::Case*> todo_;
  std::vector<KeptCase> kept_;
  InferenceSummary summary_;
  const CaseFiles files_;
  InferenceReport report_;
};

void Run::choose_cases() {
  std::set<std::string> names;
  for (const auto& problem : survey_.missing) names.insert(problem.case_name);
  for (const auto& item : survey_.dataset.cases) {
    if (!names.insert(item.name).second) continue;  // of the missing ones
    if (options_.existing == Existing::kSkip && fs::exists(files_.labels_path(item.name))) {
      kept_.push_back({item.name, &item});
    } else {
      todo_.push_back(&item);
    }
  }
  if (options_.existing != Existing::kSkip) return;
  // What an earlier run had beside these. A report may be of another program, and hold any text.
  for (const auto& name : report_.earlier_cases()) {
    if (!names.contains(name) && data::is_case_name(name) && fs::exists(files_.labels_path(name))) {
      kept_.push_back({name, nullptr});
    }
  }
  std::sort(kept_.begin(), kept_.end(),
            [](const KeptCase& a, const KeptCase& b) { return a.name < b.name; });
}

void Run::check_replacing() const {
  for (const auto* item : todo_) {
    if (is_input(files_.labels_path(item->name), *item)) {
      throw Error(concat(files_.labels_path(item->name).string(),
                         " is a file of the case itself: choose another folder for the results"));
    }
  }
  if (options_.existing == Existing::kSkip) check_going_on();
  if (options_.existing != Existing::kRefuse) return;
  const auto refuse = [](const fs::path& path) {
    throw Error(concat(path.string(),
                       " exists: add --overwrite, or --skip-existing to go on with what is there"));
  };
  for (const auto* item : todo_) {
    const auto path = files_.labels_path(item->name);
    if (would_be_replaced(path)) refuse(path);
  }
  if (const auto report = report_.worth_keeping(); !report.empty()) refuse(report);
}

// What is kept must be of the same weights, and all that is asked for.
void Run::check_going_on() const {
  if (kept_.empty()) return;
  if (const auto difference = report_.difference_of_weights(); !difference.empty()) {
    throw Error(difference);
  }
  for (const KeptCase& kept : kept_) {
    const auto missing = kept.item == nullptr ? fs::path() : files_.missing_file(kept.name);
    if (missing.empty()) continue;
    throw Error(concat(files_.labels_path(kept.name).string(), " exists without ", missing.string(),
                       ", and is kept by --skip-existing: do without those "
                       "files, add --overwrite, or choose another folder for the results"));
  }
}

io::ViewerOptions Run::viewer_options() const {
  io::ViewerOptions viewer;
  viewer.description =
      concat(predictor_.model_count(), " model", predictor_.model_count() == 1 ? "" : "s", ", ",
             predictor_.precision(), " on ", predictor_.device());
  const auto& classes = predictor_.config().data.classes;
  for (std::size_t i = 1; i < classes.size(); ++i) {
    viewer.labels.push_back({static_cast<std::uint8_t>(i), classes[i]});
  }
  for (const auto& region : regions_) viewer.regions.push_back({region.name, region.labels});
  viewer.expected_cases = std::max<std::int64_t>(
      1, std::ssize(todo_) + std::ssize(kept_) + std::ssize(survey_.missing));
  return viewer;
}

Volumes Run::volumes_of(const io::LabelMap& labels) const {
  Volumes volumes;
  for (const auto& region :
       metrics::region_volumes(labels.voxels, labels.geometry.spacing, regions_)) {
    volumes.emplace_back(region.name, region.ml);
  }
  return volumes;
}

data::RawCase Run::read_raw(const data::Case& item, std::int64_t copies) const {
  if (const auto& limits = predictor_.limits(); limits.host > 0) {
    check_images_fit(limits, least_image_bytes(item, copies, !options_.resample_to.empty()));
  }
  auto unlabelled = item;  // labels may be there, and damaged: they are not needed
  unlabelled.labels.clear();
  return data::read_case(survey_.dataset, unlabelled, {.resample_to = options_.resample_to});
}

ReadCase Run::read(const data::Case& item) const {
  const auto start = Clock::now();
  const bool keeps_images = options_.pictures || options_.page;
  auto raw = read_raw(item, keeps_images ? 2 : 1);
  ReadCase result;
  if (keeps_images) result.images = images_of(raw);
  result.prepared = data::prepare_case(std::move(raw), predictor_.config().preprocess);
  result.seconds = seconds_since(start);
  return result;
}

void Run::show(const CaseOutcome& outcome, const io::LabelMap& labels,
               const std::vector<io::Image>& images) {
  std::vector<io::ViewerChannel> channels;
  const auto& names = survey_.dataset.channels;
  for (const std::size_t place : data::viewing_order(names)) {
    if (!images.empty()) channels.push_back({names[place], &images.at(place)});
  }
  report_.show(outcome, labels, channels);
}

// Takes the images to free them when they are written, not with the thread that does it.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
CaseOutcome Run::write(Prediction prediction, ReadCase read, double computing) {
  const auto start = Clock::now();
  CaseOutcome outcome{.name = prediction.name,
                      .reading = read.seconds,
                      .computing = computing,
                      .notes = prediction.notes};
  auto& labels = prediction.labels;
  outcome.changes = post::postprocess(labels.voxels, grid_of(labels.geometry), options_.rules);
  outcome.millilitres = volumes_of(labels);
  files_.write(prediction, read.images);
  show(outcome, labels, read.images);
  outcome.writing = seconds_since(start);
  return outcome;
}

void Run::take(const CaseOutcome& outcome) {
  ++(outcome.state == CaseState::kDone   ? summary_.done
     : outcome.state == CaseState::kKept ? summary_.kept
                                         : summary_.failed);
  report_.add(outcome);
  if (progress_.on_case) progress_.on_case(outcome);
  report_.write_if_due(summary_);
}

void Run::take_failure(const std::string& name, double seconds, const std::string& error) {
  const auto prefix = concat("case ", name, ": ");  // is said beside it
  take({.name = name,
        .state = CaseState::kFailed,
        .error = starts_with(error, prefix) ? error.substr(prefix.size()) : error,
        .computing = seconds});
}

// A case of an earlier run: its label map counts as it stands now.
void Run::take_kept(const KeptCase& kept) {
  CaseOutcome outcome{.name = kept.name,
                      .state = CaseState::kKept,
                      .computing = report_.earlier_seconds(kept.name)};
  if (cancelled()) {
    summary_.interrupted = true;
    return take(outcome);  // what the earlier report says is not forgotten
  }
  try {
    const auto labels = io::read_labels(files_.labels_path(kept.name));
    outcome.millilitres = volumes_of(labels);
    if (options_.page) show(outcome, labels, images_of_kept(kept.item, labels, outcome));
  } catch (const std::exception& error) {
    return take_failure(kept.name, 0,
                        concat(message_of(error), "; remove it to have the case segmented again"));
  }
  take(outcome);
}

// Those of which the label map is; none, with a note in `outcome`, where there are none.
std::vector<io::Image> Run::images_of_kept(const data::Case* item, const io::LabelMap& labels,
                                           CaseOutcome& outcome) const {
  std::string why = "the case is not in the input of this run";
  if (item != nullptr) {
    try {
      auto images = images_of(read_raw(*item, 1));
      why = io::geometry_difference(labels.geometry, images.front().geometry);
      if (why.empty()) return images;
    } catch (const std::exception& error) {
      why = message_of(error);
    }
  }
  outcome.notes.push_back("shown without its images: " + why);
  return {};
}

template <class Work>
auto Run::attempt(const std::string& name, Work work) -> std::optional<decltype(work())> {
  const auto start = Clock::now();
  try {
    return work();
  } catch (const WriteError&) {
    throw;  // no fault of the case: the next one could not be written either
  } catch (const std::exception& error) {
    take_failure(name, seconds_since(start), message_of(error));
    return std::nullopt;
  }
}

// Returns whether all cases were reached.
bool Run::compute_all() {
  // Without overlap, or where the system has no more threads, the work of a future is done by its
  // get().
  const auto policy =
      options_.overlap_files ? std::launch::async | std::launch::deferred : std::launch::deferred;
  const auto start_reading = [&](std::size_t place) {
    return std::async(policy, [this, place] { return read(*todo_[place]); });
  };
  std::future<ReadCase> reading;
  std::future<CaseOutcome> writing;
  std::string writing_name;
  const auto finish_writing = [&] {
    if (!writing.valid()) return;
    if (const auto written = attempt(writing_name, [&] { return writing.get(); })) take(*written);
  };

  bool complete = true;
  if (!todo_.empty()) reading = start_reading(0);
  for (std::size_t i = 0; i < todo_.size(); ++i) {
    if (cancelled()) {
      complete = false;
      break;
    }
    const auto& name = todo_[i]->name;
    auto item = attempt(name, [&] { return reading.get(); });
    if (i + 1 < todo_.size()) reading = start_reading(i + 1);
    if (!item) continue;

    const PredictionRequest request{.probabilities = options_.probabilities,
                                    .uncertainty = options_.uncertainty,
                                    .on_progress =
                                        [&](double share) {
                                          if (progress_.on_share) progress_.on_share(name, share);
                                        },
                                    .cancelled = progress_.cancelled};
    const auto start = Clock::now();
    std::optional<Prediction> prediction;
    try {
      prediction = attempt(name, [&] { return predictor_.predict(item->prepared, request); });
    } catch (const Interrupted&) {
      complete = false;
      break;
    }
    if (!prediction) continue;
    const double seconds = seconds_since(start);
    finish_writing();
    writing_name = name;
    item->prepared = {};
    const auto done =
        std::make_shared<std::pair<Prediction, ReadCase>>(std::move(*prediction), std::move(*item));
    const auto write_it = [this, seconds, done] {
      return write(std::move(done->first), std::move(done->second), seconds);
    };
    writing = std::async(policy, write_it);  // copied: a thread that fails to start takes it along
    if (!options_.overlap_files) finish_writing();
  }
  finish_writing();
  return complete;
}

// Where it can be done on what may be a full disk.
void Run::report_what_is_done() {
  summary_.interrupted = true;
  try {
    report_.write(summary_);
  } catch (const WriteError& error) {
    log_debug(error.what());
  }
}

InferenceSummary Run::run() {
  for (const auto& problem : survey_.missing) {
    if (!problem.case_name.empty()) take_failure(problem.case_name, 0, problem.message);
  }
  for (const auto& kept : kept_) take_kept(kept);
  report_.write(summary_);  // a folder that cannot be written to shows before the work
  try {
    if (!compute_all()) summary_.interrupted = true;
  } catch (const WriteError&) {
    report_what_is_done();
    throw;
  }
  report_.write(summary_);
  summary_.report = report_.files().front();
  return summary_;
}

}  // namespace

WeightsRecord weights_record(const std::vector<std::string>& checkpoints,
                             const std::string& choice) {
  WeightsRecord record{.checkpoints = checkpoints, .choice = choice};
  for (const auto& path : checkpoints) {
    const MappedFile file(path);
    record.hashes.push_back(hash_bytes(file.bytes().data(), file.bytes().size()).to_string());
  }
  return record;
}

InferenceSummary run_inference(const Predictor& predictor, const data::DatasetSurvey& survey,
                               const InferenceRunOptions& options,
                               const InferenceProgress& progress) {
  return Run(predictor, survey, options, progress).run();
}

}  // namespace segmamba::engine
