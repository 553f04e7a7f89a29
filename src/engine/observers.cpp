#include "segmamba/engine/observers.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/run_history.h"

namespace segmamba::engine {
namespace {

constexpr const char* kStepColumns =
    "iteration,learning_rate,loss,gradient_norm,seconds,data_seconds,loss_scale,skipped";
constexpr std::size_t kStepColumnCount = 8;

std::string three_digits(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.3g", value);
  return buffer;
}

// "Dice WT 0.912 TC 0.871 mean 0.892".
std::string shown(const std::string& name, const std::vector<std::string>& regions,
                  const std::vector<double>& values, double mean, int digits) {
  std::string text = name;
  for (std::size_t i = 0; i < values.size(); ++i) {
    text += concat(" ", regions[i], " ", format_fixed(values[i], digits));
  }
  return concat(text, " mean ", format_fixed(mean, digits));
}

std::string shown(const RegionScores& scores) {
  auto text = shown("Dice", scores.regions, scores.dice, scores.mean_dice(), 3);
  if (!scores.hd95.empty()) {
    text += shown(", HD95", scores.regions, scores.hd95, scores.mean_hd95(), 1) + " mm";
  }
  return text;
}

std::string shown_worst(const std::vector<CaseScores>& cases) {
  if (cases.size() < 2) return "";
  const auto worst = std::min_element(cases.begin(), cases.end(), [](const auto& a, const auto& b) {
    return a.scores.mean_dice() < b.scores.mean_dice();
  });
  return concat(", worst case ", worst->name, " with ", format_fixed(worst->scores.mean_dice(), 3));
}

std::string cell(double value) { return std::isnan(value) ? "" : format_double(value); }

// The columns of `regions` regions and their mean; all empty where there are no values.
std::string cells(const std::vector<double>& values, double mean, std::size_t regions) {
  std::string text;
  for (std::size_t i = 0; i < regions; ++i) {
    text += ',';
    if (i < values.size()) text += cell(values[i]);
  }
  return concat(text, ",", cell(mean));
}

std::string header(const std::vector<std::string>& regions) {
  std::string columns = kStepColumns;
  for (const char* score : {"patch_dice_", "dice_", "hd95_"}) {
    for (const auto& region : regions) columns += concat(",", score, to_lower(region));
    columns += concat(",", score, "mean");
  }
  return columns;
}

// Of the values that are numbers; nan where there is none.
double mean_of(const std::vector<double>& values) {
  double sum = 0;
  std::int64_t count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return sum / static_cast<double>(count);
}

}  // namespace

double RegionScores::mean_dice() const { return mean_of(dice); }
double RegionScores::mean_hd95() const { return mean_of(hd95); }

void Observers::on_start(const RunStarted& event) {
  for (auto* observer : observers_) observer->on_start(event);
}
void Observers::on_step(const StepDone& event) {
  for (auto* observer : observers_) observer->on_step(event);
}
void Observers::on_patch_validation(const PatchValidationDone& event) {
  for (auto* observer : observers_) observer->on_patch_validation(event);
}
void Observers::on_validation_case(std::int64_t done, std::int64_t total) {
  for (auto* observer : observers_) observer->on_validation_case(done, total);
}
void Observers::on_validation(const ValidationDone& event) {
  for (auto* observer : observers_) observer->on_validation(event);
}
void Observers::on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) {
  for (auto* observer : observers_) observer->on_checkpoint(path, iteration);
}
void Observers::on_notice(const std::string& message) {
  for (auto* observer : observers_) observer->on_notice(message);
}
void Observers::on_end(RunEnd end, std::int64_t iteration) {
  for (auto* observer : observers_) observer->on_end(end, iteration);
}

void Observers::on_failure(const std::string& message, std::int64_t iteration) {
  for (auto* observer : observers_) {
    try {
      observer->on_failure(message, iteration);
    } catch (const std::exception& error) {
      log_debug(error.what());
    }
  }
}

void RunningMean::add(double value) {
  ++count_;
  value_ += std::max(weight_, 1 / static_cast<double>(count_)) * (value - value_);
}

void TimeLeft::on_start(const RunStarted& event) {
  iteration_ = event.first_iteration;
  total_ = event.total_iterations;
  if (event.validation_cases == 0) return;
  validation_every_ = integer_at(event.config, "validation.every");
  patches_every_ = integer_at(event.config, "validation.patches_every");
}

void TimeLeft::on_step(const StepDone& event) {
  iteration_ = event.iteration;
  step_seconds_.add(event.seconds);
}

std::int64_t TimeLeft::marks_left(std::int64_t every) const {
  return every == 0 ? 0 : total_ / every - std::max<std::int64_t>(iteration_ - 1, 0) / every;
}

// The end of the run is a mark of whole validations, too.
std::int64_t TimeLeft::validations_left() const {
  if (validation_every_ == 0) return 0;
  return marks_left(validation_every_) + (total_ % validation_every_ != 0 ? 1 : 0);
}

// There are none where a whole validation is due.
std::int64_t TimeLeft::patch_validations_left() const {
  if (patches_every_ == 0 || validation_every_ == 0) return marks_left(patches_every_);
  const bool last_is_whole = total_ % patches_every_ == 0 && total_ % validation_every_ != 0;
  return marks_left(patches_every_) - marks_left(std::lcm(patches_every_, validation_every_)) -
         (last_is_whole ? 1 : 0);
}

double TimeLeft::seconds() const {
  if (step_seconds_.empty()) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(total_ - iteration_) * step_seconds_.value() +
         static_cast<double>(validations_left()) * validation_seconds_ +
         static_cast<double>(patch_validations_left()) * patch_seconds_;
}

void ConsoleObserver::on_start(const RunStarted& event) {
  log_info(concat("training on ", event.device,
                  event.ranks > 1 ? concat(" (rank 0 of ", event.ranks, ")") : "", ": ",
                  event.parameters, " parameters, ", event.training_cases, " cases to train on, ",
                  event.validation_cases, " to validate on"));
  log_info(concat(event.total_iterations, " iterations of ", event.batch_size, " patches"));
  if (event.first_iteration > 0) {
    log_info(concat("resumed after iteration ", event.first_iteration));
  }
  last_step_.iteration = event.first_iteration;
  time_left_.on_start(event);
  progress_ = std::make_unique<Progress>("train", event.total_iterations, line_seconds_);
}

void ConsoleObserver::on_step(const StepDone& event) {
  last_step_ = event;
  time_left_.on_step(event);
  if (event.skipped) {
    log_warning(
        concat("iteration ", event.iteration, " was skipped, nothing was updated: loss ",
               three_digits(event.loss), ", gradient norm ", three_digits(event.gradient_norm),
               event.loss_scale != 1 ? ", loss scale " + format_double(event.loss_scale) : "",
               "; not finite first: ", event.culprit));
  } else {
    loss_.add(event.loss);
  }
  progress_->update(event.iteration, note(), time_left_.seconds());
}

std::string ConsoleObserver::note() const {
  auto text = "loss " + format_fixed(loss_.value(), 3);
  if (!last_dice_.empty()) text += "  " + last_dice_;
  text += concat("  learning rate ", three_digits(last_step_.learning_rate), "  ",
                 three_digits(1 / time_left_.seconds_per_step()), " it/s");
  if (last_step_.device_bytes > 0) {
    constexpr double kGiB = 1 << 30;
    const double gib = static_cast<double>(last_step_.device_bytes) / kGiB;
    text += concat("  ", format_fixed(gib, 1), " GiB");
  }
  return text + note_on_time();
}

std::string ConsoleObserver::note_on_time() const {
  const bool has_time = !std::isnan(time_left_.seconds());
  return has_time && !time_left_.knows_validation() ? "  (ETA without validation)" : "";
}

void ConsoleObserver::on_patch_validation(const PatchValidationDone& event) {
  time_left_.on_patch_validation(event);
  last_dice_ = "patch Dice " + format_fixed(event.scores.mean_dice(), 3);
  log_debug(concat("after ", event.iteration, " iterations: patch ", shown(event.scores), " (",
                   event.patches, " patches in ", format_duration(event.seconds), ")"));
}

void ConsoleObserver::on_validation_case(std::int64_t done, std::int64_t total) {
  progress_->update(last_step_.iteration,
                    concat("validated ", done, " of ", total, " cases", note_on_time()),
                    time_left_.seconds());
}

void ConsoleObserver::on_validation(const ValidationDone& event) {
  time_left_.on_validation(event);
  last_dice_ = "Dice " + format_fixed(event.mean.mean_dice(), 3);
  log_info(concat("validation after ", event.iteration, " iterations: ", shown(event.mean), " (",
                  event.cases.size(), " cases in ", format_duration(event.seconds),
                  shown_worst(event.cases), ")", event.is_best ? ", the best so far" : ""));
}

void ConsoleObserver::on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) {
  log_debug(concat("wrote ", path.string(), " at iteration ", iteration));
}

// Whatever the run tells a person apart from its course is worth their attention.
void ConsoleObserver::on_notice(const std::string& message) { log_warning(message); }

void ConsoleObserver::on_end(RunEnd end, std::int64_t iteration) {
  progress_.reset();
  log_info(end == RunEnd::kComplete
               ? concat("finished after ", iteration, " iterations")
               : concat("stopped and saved after ", iteration,
                        " iterations; the same command with --resume goes on"));
}

// The program prints the message itself.
void ConsoleObserver::on_failure(const std::string& message, std::int64_t iteration) {
  progress_.reset();
  log_debug(concat("failed after ", iteration, " iterations: ", message));
}

CsvObserver::CsvObserver(std::filesystem::path path) : path_(std::move(path)) {}

void CsvObserver::on_start(const RunStarted& event) {
  regions_ = event.regions.size();
  const std::size_t column_count = kStepColumnCount + 3 * (regions_ + 1);
  const std::string columns = header(event.regions);
  write_file_atomically(path_, [&](OutputFile& file) {
    file.write(columns + "\n");
    if (event.first_iteration == 0 || !std::filesystem::exists(path_)) return;
    bool is_first = true;
    read_whole_lines(path_, [&](std::string_view line) {
      if (std::exchange(is_first, false)) {
        if (line == columns) return;
        throw Error(concat(path_.string(), ":1: has other columns than this run writes (", columns,
                           "): move the file away, and the run goes on with a new one"));
      }
      const auto fields = split(std::string(line), ',');
      const auto iteration = to_integer(fields.front());
      // A machine that lost its power may leave other bytes than those of rows.
      if (fields.size() != column_count || !iteration || *iteration > event.first_iteration) return;
      file.write(line);
      file.write("\n");
      // Means of Dice are there in rows of their kind only.
      if (!fields[kStepColumnCount + regions_].empty()) patches_validated_ = *iteration;
      if (!fields[kStepColumnCount + 2 * regions_ + 1].empty()) validated_ = *iteration;
    });
  });
  file_.emplace(path_);
}

void CsvObserver::on_step(const StepDone& event) {
  const std::string no_scores(3 * (regions_ + 1), ',');
  file_->write(concat(event.iteration, ",", cell(event.learning_rate), ",", cell(event.loss), ",",
                      cell(event.gradient_norm), ",", format_fixed(event.seconds, 4), ",",
                      format_fixed(event.data_seconds, 4), ",", cell(event.loss_scale), ",",
                      event.skipped ? 1 : 0, no_scores, "\n"));
}

void CsvObserver::on_patch_validation(const PatchValidationDone& event) {
  if (event.iteration <= patches_validated_) return;
  const std::string no_step(kStepColumnCount - 1, ','), no_scores(2 * (regions_ + 1), ',');
  file_->write(concat(event.iteration, no_step,
                      cells(event.scores.dice, event.scores.mean_dice(), regions_), no_scores,
                      "\n"));
}

void CsvObserver::on_validation(const ValidationDone& event) {
  if (event.iteration <= validated_) return;
  const std::string no_step(kStepColumnCount - 1, ','), no_patches(regions_ + 1, ',');
  file_->write(concat(event.iteration, no_step, no_patches,
                      cells(event.mean.dice, event.mean.mean_dice(), regions_),
                      cells(event.mean.hd95, event.mean.mean_hd95(), regions_), "\n"));
}

}  // namespace segmamba::engine
