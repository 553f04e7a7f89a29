#include "segmamba/engine/training_report.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <numeric>
#include <utility>

#include "chart.h"
#include "segmamba/core/files.h"
#include "segmamba/core/html.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/core/yaml.h"
#include "segmamba/engine/environment.h"
#include "segmamba/engine/run_history.h"
#include "segmamba/engine/train_config.h"

namespace segmamba::engine {
namespace {

constexpr char kStyle[] = R"css(
.bar { height: 6px; border-radius: 3px; background: var(--line); margin: 14px 0; overflow: hidden; }
.bar i { display: block; height: 100%; background: #2f7fd1; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 10px; }
.fact { background: var(--raised); border-radius: 6px; padding: 8px 12px; break-inside: avoid; }
.fact span { color: var(--faint); font-size: 13px; display: block; overflow-wrap: anywhere; }
.fact b { font-size: 18px; overflow-wrap: anywhere; }
.cases { max-height: 560px; overflow-y: auto; }
.cases thead th { position: sticky; top: 0; background: var(--ground); }
.montage figure { margin-bottom: 16px; }
.montage img { width: 100%; display: block; margin-top: 6px; }
td:nth-child(2) { overflow-wrap: anywhere; }
@media print { .cases { max-height: none; } }
)css";

// A state of the run; such a one may have ended early, and does not go on.
constexpr const char* kFinished = "finished";

// They frame what a resumed run takes over. No text of a case can look like them: < is escaped.
constexpr const char* kValidationBegin = "<!-- last validation -->\n";
constexpr const char* kValidationEnd = "<!-- end of last validation -->\n";

// "12,500".
std::string counted(std::int64_t number) {
  std::string digits = concat(number);
  for (auto place = std::ssize(digits) - 3; place > 0; place -= 3) {
    digits.insert(static_cast<std::size_t>(place), 1, ',');
  }
  return digits;
}

std::string percent(double share) { return format_fixed(100 * share, 1) + " %"; }

std::string fact(const std::string& name, const std::string& value, const std::string& more) {
  return concat("<div class=\"fact\"><span>", escape_html(name), "</span><b>", escape_html(value),
                "</b><span>", escape_html(more), "</span></div>\n");
}

std::string column(const std::string& score, const std::string& region) {
  return concat(score, "_", to_lower(region));
}

// Over the last steps: what the run does now, whatever a warm-up or another machine did.
double recent_iterations_per_second(const RunHistory& history) {
  const auto& seconds = history["seconds"].recent();
  const double sum = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  return sum > 0 ? static_cast<double>(seconds.size()) / sum : 0;
}

std::string header(const RunFolder& run, const RunStarted& started, const std::string& state,
                   const Json& start) {
  return concat("<header><h1>Training: ", escape_html(state), "</h1>\n<p><span class=\"path\">",
                escape_html(std::filesystem::absolute(run.path).lexically_normal().string()),
                "</span></p>\n<p>", counted(started.parameters), " parameters; ",
                counted(started.training_cases), " cases to train on, ",
                counted(started.validation_cases), " to validate on; ", started.batch_size,
                " patches an update; segmamba-train ", escape_html(version_text(start)),
                "; written ", now_utc(), "</p></header>\n");
}

std::string facts(const RunHistory& history, const RunSummary& summary, const RunStarted& started,
                  const Json& start, std::int64_t device_bytes, bool goes_on) {
  const auto done = summary.iterations, total = started.total_iterations;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  std::string epochs;
  if (started.iterations_per_epoch > 0) {
    const auto in_epochs = [&](std::int64_t iterations) {
      return format_fixed(
          static_cast<double>(iterations) / static_cast<double>(started.iterations_per_epoch), 1);
    };
    epochs = concat(", ", in_epochs(done), " of ", in_epochs(total), " epochs");
  }
  std::string tiles =
      fact("Iterations", concat(counted(done), " of ", counted(total)), percent(share) + epochs);

  if (std::isnan(summary.best)) {
    tiles += fact("Best " + summary.best_metric, "-", "no validation yet");
  } else {
    tiles += fact("Best " + summary.best_metric, format_fixed(summary.best, 4),
                  concat("after ", counted(summary.best_iteration), " iterations"));
  }
  std::vector<std::string> last;
  for (const auto& region : started.regions) {
    const auto& dice = history[column("dice", region)];
    if (!dice.empty()) last.push_back(concat(region, " ", format_fixed(dice.recent().back(), 4)));
  }
  const auto& mean = history["dice_mean"];
  if (!mean.empty()) {
    tiles += fact("Last Dice", format_fixed(mean.recent().back(), 4), join(last, ", "));
  }
  if (!std::isnan(summary.loss)) {
    tiles += fact("Loss", format_fixed(summary.loss, 4),
                  concat("mean of the last ", std::min(RunSummary::kLossSteps, done), " steps"));
  }

  const double speed = recent_iterations_per_second(history);
  if (speed > 0) {
    tiles += fact("Speed", concat(format_fixed(speed, speed < 10 ? 2 : 1), " iterations/s"),
                  concat(percent(summary.data_seconds / summary.step_seconds),
                         " of the time waiting for data"));
    tiles += fact("Time of all steps", format_duration(summary.step_seconds),
                  goes_on && done < total
                      ? concat("about ", format_duration(static_cast<double>(total - done) / speed),
                               " more, without validations")
                      : "without validations");
  }
  std::string device_more = concat(started.ranks, started.ranks == 1 ? " process" : " processes");
  if (device_bytes > 0) {
    device_more += concat(", at most ", format_bytes(static_cast<std::uint64_t>(device_bytes)),
                          " of its memory");
  }
  const std::string device = device_text(start);
  tiles += fact("Device", device.empty() ? started.device : device, device_more);
  tiles += fact("Skipped steps", counted(summary.skipped_steps),
                "whose loss or gradients were not finite");
  return concat("<div class=\"bar\"><i style=\"width:", format_fixed(100 * share, 1),
                "%\"></i></div>\n<div class=\"facts\">\n", tiles, "</div>\n");
}

// Scores of the regions and their mean, with the best value marked where it is one of them.
Chart score_chart(const std::string& title, const std::string& unit, const std::string& score,
                  const RunHistory& history, const RunSummary& summary,
                  const std::vector<std::string>& regions) {
  Chart chart{.title = title, .unit = unit};
  const auto add = [&](const std::string& name, const std::string& region, std::size_t colour,
                       ChartLine::Look look) {
    chart.lines.push_back({name, history[column(score, region)].extremes(), colour, look});
    if (score != "dice") return;
    Series patches = history[column("patch_dice", region)].extremes();
    if (!patches.empty()) chart.title = title + "; faint: of patches";
    chart.lines.push_back({"", std::move(patches), colour, ChartLine::Look::kFaint});
  };
  chart.is_linear = score == "dice";  // a share
  for (std::size_t i = 0; i < regions.size(); ++i) {
    add(regions[i], regions[i], i, ChartLine::Look::kPlain);
  }
  // Of one region the mean is the region's.
  if (regions.size() != 1) add("mean", "mean", regions.size(), ChartLine::Look::kBold);
  if (starts_with(summary.best_metric, score + "_") && std::isfinite(summary.best)) {
    chart.mark =
        ChartMark{static_cast<double>(summary.best_iteration), summary.best,
                  concat("best ", summary.best_metric, " ", format_fixed(summary.best, 4))};
  }
  return chart;
}

std::string curves(const RunHistory& history, const RunSummary& summary,
                   const std::vector<std::string>& regions) {
  constexpr std::size_t kPoints = 600;
  // Means of 20 steps and more, over at most 200 points.
  const auto raw_and_mean = [&](const std::string& title, const std::string& name,
                                std::size_t colour) {
    const Column& values = history[name];
    const auto points = std::clamp<std::int64_t>(values.size() / 20, 1, 200);
    return Chart{.title = title,
                 .lines = {{"every step", values.extremes(), colour, ChartLine::Look::kFaint},
                           {concat("mean of ", values.size() / points, " steps"),
                            means(values.means(), static_cast<std::size_t>(points)), colour}}};
  };
  // Means, both cut where a few steps (the first ones, a stalled disk) would flatten all others.
  Chart time{.title = "Time of an iteration", .unit = "s", .include = 0};
  Series seconds = means(history["seconds"].means(), kPoints);
  Series waiting = means(history["data_seconds"].means(), kPoints);
  if (!seconds.empty()) {
    std::vector<double> sorted = seconds.values;
    std::sort(sorted.begin(), sorted.end());
    const double most = 3 * sorted[(sorted.size() - 1) * 95 / 100];
    if (sorted.back() > most) {
      time.title += concat(", cut at ", format_fixed(most, 3), " s");
      for (auto* series : {&seconds, &waiting}) {
        for (double& value : series->values) value = std::min(value, most);
      }
    }
  }
  time.lines = {{"whole", seconds, 0}, {"waiting for data", waiting, 1}};

  std::vector<Chart> charts = {
      raw_and_mean("Loss", "loss", 0),
      score_chart("Dice of validation cases", "", "dice", history, summary, regions),
      score_chart("HD95 of validation cases", "mm", "hd95", history, summary, regions),
      raw_and_mean("Norm of the gradient, before clipping", "gradient_norm", 2),
      Chart{.title = "Learning rate",
            .lines = {{"learning rate", history["learning_rate"].extremes(), 0}},
            .include = 0},
      std::move(time)};
  Series scale = history["loss_scale"].extremes();
  if (std::any_of(scale.values.begin(), scale.values.end(),
                  [](double value) { return value != 1; })) {
    charts.push_back(
        {.title = "Scale of the loss (fp16)", .lines = {{"scale", std::move(scale), 3}}});
  }
  std::string figures;
  for (const auto& chart : charts) {
    figures += to_html(chart, static_cast<double>(summary.iterations));
  }
  return figures.empty() ? "" : concat("<div class=\"panels\">\n", figures, "</div>\n");
}

std::string montage(const ValidationDone& event) {
  std::string figures;
  for (const auto& picture : event.pictures) {
    figures += concat("<figure><figcaption>", escape_html(picture.role), ": ",
                      escape_html(picture.name), ", Dice ", format_fixed(picture.dice, 4),
                      "</figcaption><img alt=\"", escape_html(picture.name),
                      "\" src=\"data:image/png;base64,", base64(picture.png), "\"></figure>\n");
  }
  if (figures.empty()) return "";
  return concat(
      "<p class=\"hint\">Image, reference, prediction and difference; in the difference"
      "<span class=\"swatch\" style=\"background:#3c78fa\"></span>missed"
      "<span class=\"swatch\" style=\"background:#fa8c1e\"></span>added"
      "<span class=\"swatch\" style=\"background:#b450d2\"></span>other label</p>\n"
      "<div class=\"montage\">\n",
      figures, "</div>\n");
}

std::string case_table(const ValidationDone& event) {
  std::vector<const CaseScores*> cases;
  for (const auto& item : event.cases) cases.push_back(&item);
  std::stable_sort(cases.begin(), cases.end(), [](const CaseScores* a, const CaseScores* b) {
    const auto key = [](const CaseScores* item) {
      const double dice = item->scores.mean_dice();
      return std::isnan(dice) ? -1 : dice;
    };
    return key(a) < key(b);
  });
  const bool with_hd95 = !event.mean.hd95.empty();
  HtmlTable table;
  table.header = {"case"};
  for (const auto& region : event.mean.regions) table.header.push_back("Dice " + region);
  table.header.emplace_back("mean");
  if (with_hd95) {
    for (const auto& region : event.mean.regions) {
      table.header.push_back(concat("HD95 ", region, ", mm"));
    }
    table.header.emplace_back("mean");
  }
  const auto add = [&](const std::string& name, const RegionScores& scores) {
    std::vector<std::string> row = {name};
    for (const double value : scores.dice) row.push_back(format_fixed(value, 4));
    row.push_back(format_fixed(scores.mean_dice(), 4));
    for (const double value : scores.hd95) row.push_back(format_fixed(value, 2));
    if (with_hd95) row.push_back(format_fixed(scores.mean_hd95(), 2));
    row.resize(table.header.size());
    table.rows.push_back(std::move(row));
  };
  for (const auto* item : cases) add(item->name, item->scores);
  add("mean of all", event.mean);
  return concat("<div class=\"cases\">", to_html(table), "</div>\n",
                with_hd95 ? "<p class=\"note\">HD95 is 0 where a region is empty in reference and "
                            "prediction, the diagonal of the grid where it is empty in one.</p>\n"
                          : "");
}

std::string validation_html(const ValidationDone& event) {
  const std::string after = concat(" after ", counted(event.iteration), " iterations");
  return html_section("pictures", "Best, median and worst case" + after, montage(event)) +
         html_section("cases", concat("Cases", after, ", worst first"), case_table(event));
}

std::string config_html(const RunFolder& run, const ConfigValues& config) {
  const ConfigValues defaults = yaml_values(config_to_yaml(TrainConfig{}), "the defaults");
  HtmlTable table{.header = {"key", "value", "default"}, .rows = {}, .text_columns = 3};
  for (const auto& [key, value] : config) {
    const auto usual =
        std::find_if(defaults.begin(), defaults.end(),
                     [&, &name = key](const auto& item) { return item.first == name; });
    if (usual == defaults.end()) {
      table.rows.push_back({key, value, "no key of this version"});
    } else if (usual->second != value) {
      table.rows.push_back({key, value, usual->second});
    }
  }
  return concat(table.rows.empty() ? "<p>All keys have their defaults.</p>\n" : to_html(table),
                "<details><summary>The whole config</summary><pre>",
                escape_html(read_file(run.config())), "</pre></details>\n");
}

// Nested values as rows of "cpu threads" and "8".
void add_rows(HtmlTable& table, const std::string& name, const Json& value) {
  const bool is_list_of_values =
      value.is_array() && std::none_of(value.begin(), value.end(),
                                       [](const Json& item) { return item.is_structured(); });
  if (is_list_of_values) {
    std::vector<std::string> items;
    for (const auto& item : value) {
      items.push_back(item.is_string() ? item.get<std::string>() : item.dump());
    }
    if (!items.empty()) table.rows.push_back({name, join(items, " ")});
  } else if (value.is_structured()) {
    for (const auto& [key, item] : value.items()) {
      add_rows(table, name.empty() ? key : concat(name, " ", key), item);
    }
  } else {
    table.rows.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
  }
}

std::string environment_html(const Json& start) {
  if (start.is_null()) return "";
  HtmlTable table{.header = {"", ""}, .rows = {}, .text_columns = 2};
  add_rows(table, "", start);
  for (auto& row : table.rows) std::replace(row[0].begin(), row[0].end(), '_', ' ');
  return to_html(table);
}

}  // namespace

ReportObserver::ReportObserver(RunFolder run) : run_(std::move(run)) {}

void ReportObserver::on_start(const RunStarted& event) {
  started_ = event;
  std::string page;
  try {
    if (event.first_iteration == 0 || !std::filesystem::exists(run_.report())) return;
    page = read_file(run_.report());
  } catch (const std::exception& error) {
    log_warning(concat("the report shows no validation until the next one: ", error.what()));
    return;
  }
  const auto begin = page.find(kValidationBegin), end = page.find(kValidationEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) return;
  const auto first = begin + std::string(kValidationBegin).size();
  validation_ = page.substr(first, end - first);
}

void ReportObserver::on_step(const StepDone& event) { device_bytes_ = event.device_bytes; }

void ReportObserver::on_validation(const ValidationDone& event) {
  validation_ = validation_html(event);
  write("running");
}

void ReportObserver::on_end(RunEnd end, std::int64_t) {
  write(end == RunEnd::kComplete ? kFinished : "stopped");
}

void ReportObserver::on_failure(const std::string& message, std::int64_t) {
  // The run ends with what failed; that the report then cannot be written either is no news.
  try {
    write_page("failed: " + message);
  } catch (const std::exception& error) {
    log_debug(concat("no report: ", error.what()));
  }
}

void ReportObserver::write(const std::string& state) {
  try {
    write_page(state);
  } catch (const std::exception& error) {
    log_warning(concat("no report: ", error.what()));
  }
}

void ReportObserver::write_page(const std::string& state) const {
  const RunHistory history = read_history(run_.metrics());
  const ConfigValues config = read_config_values(run_);
  const RunSummary summary = summarise(history, config);
  const Json start = last_start(run_.environment());
  const std::string body =
      header(run_, started_, state, start) +
      facts(history, summary, started_, start, device_bytes_, state != kFinished) +
      html_section("curves", "Curves", curves(history, summary, started_.regions)) +
      kValidationBegin + validation_ + kValidationEnd +
      html_section("config", "Config: keys that differ from their defaults",
                   config_html(run_, config)) +
      html_section("environment", "Environment", environment_html(start));
  write_file_atomically(run_.report(), html_page(concat("Training ", run_.path.filename().string()),
                                                 concat(kChartStyle, kStyle), body));
}

}  // namespace segmamba::engine
