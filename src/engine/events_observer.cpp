#include "segmamba/engine/events_observer.h"

#include "segmamba/core/version.h"
#include "segmamba/engine/environment.h"

namespace segmamba::engine {
namespace {

// {"WT": 0.9, ..., "mean": 0.8}
Json by_region(const std::vector<std::string>& regions, const std::vector<double>& values,
               double mean) {
  Json object = Json::object();
  for (std::size_t i = 0; i < values.size(); ++i) object[regions[i]] = json_number(values[i]);
  object["mean"] = json_number(mean);
  return object;
}

void add_scores(Json& object, const RegionScores& scores) {
  object["dice"] = by_region(scores.regions, scores.dice, scores.mean_dice());
  if (scores.hd95.empty()) return;
  object["hd95"] = by_region(scores.regions, scores.hd95, scores.mean_hd95());
}

}  // namespace

EventsObserver::EventsObserver(const std::filesystem::path& path) : file_(path) {
  file_.drop_half_line();
}

void EventsObserver::on_start(const RunStarted& event) {
  iteration_ = event.first_iteration;
  Json config = Json::object();
  for (const auto& [key, value] : event.config) config[key] = value;
  write("start", event.first_iteration,
        {{"total_iterations", event.total_iterations},
         {"iterations_per_epoch", event.iterations_per_epoch},
         {"version", version()},
         {"device", event.device},
         {"ranks", event.ranks},
         {"batch_size", event.batch_size},
         {"parameters", event.parameters},
         {"training_cases", event.training_cases},
         {"validation_cases", event.validation_cases},
         {"regions", event.regions},
         {"best_metric", event.best_metric},
         {"config", config}});
}

void EventsObserver::on_step(const StepDone& event) {
  iteration_ = event.iteration;
  if (!event.skipped) return;
  write("skipped_step", event.iteration,
        {{"loss", json_number(event.loss)},
         {"gradient_norm", json_number(event.gradient_norm)},
         {"not_finite_first", event.culprit},
         {"loss_scale", json_number(event.loss_scale)}});
}

void EventsObserver::on_patch_validation(const PatchValidationDone& event) {
  Json fields = {{"patches", event.patches}, {"seconds", event.seconds}};
  add_scores(fields, event.scores);
  write("patch_validation", event.iteration, fields);
}

void EventsObserver::on_validation(const ValidationDone& event) {
  Json fields = {{"metric", json_number(event.metric)},
                 {"is_best", event.is_best},
                 {"seconds", event.seconds}};
  add_scores(fields, event.mean);
  fields["cases"] = Json::array();
  for (const auto& scored : event.cases) {
    Json entry = {{"name", scored.name}};
    add_scores(entry, scored.scores);
    fields["cases"].push_back(entry);
  }
  write("validation", event.iteration, fields);
}

void EventsObserver::on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) {
  write("checkpoint", iteration, {{"path", path.string()}});
}

void EventsObserver::on_notice(const std::string& message) {
  write("notice", iteration_, {{"message", message}});
}

void EventsObserver::on_end(RunEnd end, std::int64_t iteration) {
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
  write("end", iteration,
        {{"result", end == RunEnd::kComplete ? "complete" : "interrupted"},
         {"seconds", seconds.count()}});
}

void EventsObserver::on_failure(const std::string& message, std::int64_t iteration) {
  write("failure", iteration, {{"message", message}});
}

void EventsObserver::write(const std::string& name, std::int64_t iteration, const Json& fields) {
  Json line = {{"time", now_utc()}, {"event", name}, {"iteration", iteration}};
  line.update(fields);
  file_.write(json_text(line) + "\n");
}

}  // namespace segmamba::engine
