#include "segmamba/engine/tensorboard_observer.h"

#include <utility>
#include <vector>

#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

using Scalars = std::vector<std::pair<std::string, double>>;

void add_regions(Scalars& scalars, const std::string& group,
                 const std::vector<std::string>& regions, const std::vector<double>& values,
                 double mean) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    scalars.emplace_back(concat(group, "/", to_lower(regions[i])), values[i]);
  }
  scalars.emplace_back(group + "/mean", mean);
}

// Markdown shows indented lines as they stand.
std::string as_markdown(const std::vector<std::pair<std::string, std::string>>& config) {
  std::string text;
  for (const auto& [key, value] : config) text += concat("    ", key, ": ", value, "\n");
  return text;
}

}  // namespace

TensorBoardObserver::TensorBoardObserver(std::filesystem::path folder)
    : folder_(std::move(folder)) {}

template <class Work>
void TensorBoardObserver::attempt(const Work& work) {
  if (!writer_) return;
  try {
    work(*writer_);
  } catch (const WriteError& error) {
    give_up(error);
  }
}

void TensorBoardObserver::give_up(const WriteError& error) {
  log_warning(concat("no more for TensorBoard: ", error.what()));
  writer_.reset();
}

void TensorBoardObserver::on_start(const RunStarted& event) {
  best_tag_ = "best/" + event.best_metric;
  try {
    // Also where it starts at 0: it may have been killed before its first checkpoint.
    writer_.emplace(folder_, event.first_iteration + 1);
  } catch (const WriteError& error) {
    give_up(error);
  }
  attempt([&](TensorBoardWriter& writer) {
    writer.add_hyper_parameters(event.config, best_tag_);
    writer.add_text(event.first_iteration, "config", as_markdown(event.config));
  });
}

void TensorBoardObserver::on_step(const StepDone& event) {
  Scalars scalars = {{"train/loss", event.loss},
                     {"train/learning_rate", event.learning_rate},
                     {"train/gradient_norm", event.gradient_norm},
                     {"train/iterations_per_second", 1 / event.seconds}};
  if (event.device_bytes > 0) {
    constexpr double kGiB = 1 << 30;
    scalars.emplace_back("train/device_gib", static_cast<double>(event.device_bytes) / kGiB);
  }
  attempt([&](TensorBoardWriter& writer) { writer.add_scalars(event.iteration, scalars); });
}

void TensorBoardObserver::on_patch_validation(const PatchValidationDone& event) {
  Scalars scalars;
  add_regions(scalars, "patch_dice", event.scores.regions, event.scores.dice,
              event.scores.mean_dice());
  attempt([&](TensorBoardWriter& writer) { writer.add_scalars(event.iteration, scalars); });
}

void TensorBoardObserver::on_validation(const ValidationDone& event) {
  Scalars scalars;
  add_regions(scalars, "dice", event.mean.regions, event.mean.dice, event.mean.mean_dice());
  add_regions(scalars, "hd95", event.mean.regions, event.mean.hd95, event.mean.mean_hd95());
  if (event.is_best) scalars.emplace_back(best_tag_, event.metric);
  attempt([&](TensorBoardWriter& writer) {
    writer.add_scalars(event.iteration, scalars);
    for (const auto& picture : event.pictures) {
      writer.add_image(event.iteration, "validation/" + picture.role, picture.png);
    }
  });
}

void TensorBoardObserver::on_end(RunEnd end, std::int64_t) {
  if (end != RunEnd::kComplete) return;
  attempt([](TensorBoardWriter& writer) { writer.add_completion(); });
}

}  // namespace segmamba::engine
