#include "segmamba/engine/inference_run.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <set>
#include <utility>

#include "case_files.h"
#include "inference_report.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/data/preprocess.h"
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
      : predictor_(predictor),
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
  io::ViewerOptions viewer_options() const;

  ReadCase read(const data::Case& item) const;
  Volumes volumes_of(const io::LabelMap& labels) const;
  WrittenCase write(Prediction prediction, ReadCase read, double computing) const;

  // What work() gives; nothing where it fails, which is then told.
  template <class Work>
  auto attempt(const std::string& name, Work work) -> std::optional<decltype(work())>;
  bool compute_all();
  void take(const WrittenCase& written);
  void take_failure(const std::string& name, double seconds, const std::string& error);
  void take_kept();
  void record(const CaseOutcome& outcome);

  const Predictor& predictor_;
  const data::DatasetSurvey& survey_;
  const InferenceRunOptions& options_;
  const InferenceProgress& progress_;
  const std::vector<metrics::Region> regions_;
  std::vector<const data::Case*> todo_;
  std::vector<std::string> kept_;
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
      kept_.push_back(item.name);
    } else {
      todo_.push_back(&item);
    }
  }
  if (options_.existing != Existing::kSkip) return;
  // What an earlier run had beside these.
  for (const auto& name : report_.earlier_cases()) {
    if (!names.contains(name) && fs::exists(files_.labels_path(name))) kept_.push_back(name);
  }
  std::sort(kept_.begin(), kept_.end());
}

void Run::check_replacing() const {
  for (const auto* item : todo_) {
    if (is_input(files_.labels_path(item->name), *item)) {
      throw Error(concat(files_.labels_path(item->name).string(),
                         " is a file of the case itself: choose another folder for the results"));
    }
  }
  if (options_.existing != Existing::kRefuse) return;
  const auto refuse = [](const fs::path& path) {
    throw Error(concat(path.string(),
                       " exists: add --overwrite, or --skip-existing to go on with what is there"));
  };
  for (const auto* item : todo_) {
    if (fs::exists(files_.labels_path(item->name))) refuse(files_.labels_path(item->name));
  }
  if (const auto report = report_.worth_keeping(); !report.empty()) refuse(report);
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

Volumes Run::volumes_of(const io::LabelMap& labels) const {
  Volumes volumes;
  for (const auto& region :
       metrics::region_volumes(labels.voxels, labels.geometry.spacing, regions_)) {
    volumes.emplace_back(region.name, region.ml);
  }
  return volumes;
}

WrittenCase Run::write(Prediction prediction, ReadCase read, double computing) const {
  const auto start = Clock::now();
  CaseOutcome outcome{.name = prediction.name,
                      .reading = read.seconds,
                      .computing = computing,
                      .notes = prediction.notes};
  auto& labels = prediction.labels;
  outcome.changes = post::postprocess(labels.voxels, grid_of(labels.geometry), options_.rules);
  outcome.millilitres = volumes_of(labels);
  files_.write(prediction, read.images);
  outcome.writing = seconds_since(start);
  return {std::move(outcome), std::move(labels), std::move(read.images)};
}

void Run::record(const CaseOutcome& outcome) {
  if (progress_.on_case) progress_.on_case(outcome);
  report_.write_if_due(summary_);
}

void Run::take(const WrittenCase& written) {
  ++summary_.done;
  std::vector<io::ViewerChannel> channels;
  for (std::size_t c = 0; c < written.images.size(); ++c) {
    channels.push_back({survey_.dataset.channels[c], &written.images[c]});
  }
  report_.add_done(written.outcome, written.labels, channels);
  record(written.outcome);
}

void Run::take_failure(const std::string& name, double seconds, const std::string& error) {
  ++summary_.failed;
  const auto prefix = concat("case ", name, ": ");  // is said beside it
  const CaseOutcome outcome{
      .name = name,
      .state = CaseState::kFailed,
      .error = starts_with(error, prefix) ? error.substr(prefix.size()) : error};
  report_.add_failed(outcome, seconds);
  record(outcome);
}

void Run::take_kept() {
  for (const auto& name : kept_) {
    CaseOutcome outcome{.name = name, .state = CaseState::kKept};
    if (!report_.knows(name)) {  // the earlier run was killed before it has told
      const auto labels = attempt(name, [&] { return io::read_labels(files_.labels_path(name)); });
      if (!labels) continue;
      outcome.millilitres = volumes_of(*labels);
    }
    ++summary_.kept;
    report_.add_kept(outcome);
    record(outcome);
  }
}

template <class Work>
auto Run::attempt(const std::string& name, Work work) -> std::optional<decltype(work())> {
  const auto start = Clock::now();
  try {
    return work();
  } catch (const std::exception& error) {
    take_failure(name, seconds_since(start), message_of(error));
    return std::nullopt;
  }
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
  report_.write(summary_);  // a folder that cannot be written to shows before the work
  summary_.interrupted = !compute_all();
  report_.write(summary_);
  summary_.report = report_.files().front();
  return summary_;
}

}  // namespace

InferenceSummary run_inference(const Predictor& predictor, const data::DatasetSurvey& survey,
                               const InferenceRunOptions& options,
                               const InferenceProgress& progress) {
  return Run(predictor, survey, options, progress).run();
}

}  // namespace segmamba::engine
