#include "segmamba/engine/observers.h"

#include <charconv>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

constexpr const char* kStepColumns = "iteration,learning_rate,loss,gradient_norm,seconds";

std::string shown(const RegionDice& scores) {
  std::string text = "Dice";
  for (std::size_t i = 0; i < scores.regions.size(); ++i) {
    text += concat(" ", scores.regions[i], " ", format_fixed(scores.dice[i], 3));
  }
  return concat(text, " mean ", format_fixed(scores.mean(), 3));
}

// The whole lines of `text` whose iteration is at most `last`.
std::string rows_up_to(const std::string& text, std::int64_t last) {
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = text.find('\n', begin);
    if (end == std::string::npos) break;
    std::int64_t iteration = 0;
    const auto number = std::from_chars(text.data() + begin, text.data() + end, iteration);
    if (number.ec == std::errc() && iteration <= last) kept += text.substr(begin, end + 1 - begin);
    begin = end + 1;
  }
  return kept;
}

}  // namespace

double RegionDice::mean() const {
  double sum = 0;
  for (const double value : dice) sum += value;
  return dice.empty() ? 0 : sum / static_cast<double>(dice.size());
}

void Observers::on_start(const RunStarted& event) {
  for (auto* observer : observers_) observer->on_start(event);
}
void Observers::on_step(const StepDone& event) {
  for (auto* observer : observers_) observer->on_step(event);
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

void ConsoleObserver::on_start(const RunStarted& event) {
  log_info(concat("training on ", event.device, ": ", event.parameters, " parameters, ",
                  event.training_cases, " cases to train on, ", event.validation_cases,
                  " to validate on"));
  if (event.first_iteration > 0) {
    log_info(concat("resumed after iteration ", event.first_iteration));
  }
  progress_ = std::make_unique<Progress>("train", event.total_iterations);
}

void ConsoleObserver::on_step(const StepDone& event) {
  mean_loss_ = mean_loss_ == 0 ? event.loss : 0.95 * mean_loss_ + 0.05 * event.loss;
  std::string note = "loss " + format_fixed(mean_loss_, 3);
  if (last_dice_ >= 0) note += "  Dice " + format_fixed(last_dice_, 3);
  progress_->update(event.iteration, note);
  log_debug(concat("iteration ", event.iteration, ": loss ", format_fixed(event.loss, 5),
                   ", gradient norm ", format_fixed(event.gradient_norm, 4), ", learning rate ",
                   format_double(event.learning_rate), ", ", format_fixed(event.seconds, 3), " s"));
}

void ConsoleObserver::on_validation_case(std::int64_t done, std::int64_t total) {
  log_debug(concat("validated case ", done, " of ", total));
}

void ConsoleObserver::on_validation(const ValidationDone& event) {
  last_dice_ = event.dice.mean();
  log_info(concat("validation after ", event.iteration, " iterations: ", shown(event.dice), " (",
                  event.cases, " cases in ", format_duration(event.seconds), ")",
                  event.is_best ? ", the best so far" : ""));
}

void ConsoleObserver::on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) {
  log_debug(concat("wrote ", path.string(), " at iteration ", iteration));
}

void ConsoleObserver::on_notice(const std::string& message) { log_info(message); }

void ConsoleObserver::on_end(RunEnd end, std::int64_t iteration) {
  progress_.reset();
  log_info(end == RunEnd::kComplete
               ? concat("finished after ", iteration, " iterations")
               : concat("stopped and saved after ", iteration,
                        " iterations; the same command with --resume goes on"));
}

CsvObserver::CsvObserver(std::filesystem::path path) : path_(std::move(path)) {}

void CsvObserver::on_start(const RunStarted& event) {
  std::string kept;
  if (event.first_iteration > 0 && std::filesystem::exists(path_)) {
    kept = rows_up_to(read_file(path_), event.first_iteration);
  }
  std::string columns = kStepColumns;
  for (const auto& region : event.regions) columns += ",dice_" + to_lower(region);
  write_file_atomically(path_, concat(columns, ",dice_mean\n", kept));
  regions_ = event.regions.size();
  file_.open(path_, std::ios::app);
}

void CsvObserver::on_step(const StepDone& event) {
  write(concat(event.iteration, ",", format_double(event.learning_rate), ",",
               format_double(event.loss), ",", format_double(event.gradient_norm), ",",
               format_fixed(event.seconds, 4), std::string(regions_ + 1, ',')));
}

void CsvObserver::on_validation(const ValidationDone& event) {
  std::string scores;
  for (const double value : event.dice.dice) scores += format_double(value) + ",";
  write(concat(event.iteration, ",,,,,", scores, format_double(event.dice.mean())));
}

void CsvObserver::write(const std::string& row) {
  file_ << row << "\n" << std::flush;
  if (!file_) throw Error(concat("cannot write ", path_.string(), ": is the disk full?"));
}

}  // namespace segmamba::engine
