#include "segmamba/engine/training_report.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "segmamba/core/config.h"
#include "segmamba/core/files.h"
#include "segmamba/core/html.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/environment.h"
#include "segmamba/engine/train_config.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kHeader =
    "iteration,learning_rate,loss,gradient_norm,seconds,data_seconds,loss_scale,skipped,"
    "patch_dice_wt,patch_dice_tc,patch_dice_mean,dice_wt,dice_tc,dice_mean,"
    "hd95_wt,hd95_tc,hd95_mean\n";

class TrainingReport : public ::testing::Test {
 protected:
  TrainingReport() { write_file_atomically(run_.config(), config_to_yaml(config_)); }

  static RunStarted started(std::int64_t first_iteration, std::int64_t total) {
    RunStarted event;
    event.first_iteration = first_iteration;
    event.total_iterations = total;
    event.iterations_per_epoch = 10;
    event.training_cases = 1251;
    event.device = "cpu";
    event.regions = {"WT", "TC"};
    event.best_metric = "dice_mean";
    return event;
  }
  static ValidationDone validation(const std::vector<CaseScores>& cases) {
    ValidationDone event;
    event.iteration = 20;
    event.mean = {{"WT", "TC"}, {0.5, 0.5}, {4, 5}};
    event.cases = cases;
    return event;
  }
  void write_metrics(const std::string& rows) {
    write_file_atomically(run_.metrics(), kHeader + rows);
  }
  std::string page() const { return read_file(run_.report()); }

  test::TemporaryFolder folder_;
  RunFolder run_{folder_.path()};
  TrainConfig config_;
};

TEST_F(TrainingReport, ShowsWhereTheRunStands) {
  config_.training.seed = 1234;
  write_file_atomically(run_.config(), config_to_yaml(config_));
  write_metrics(
      "19,0.01,2,1,0.5,0.125,1,0,,,,,,,,,\n"
      "20,0.01,3,1,0.5,0.125,1,1,,,,,,,,,\n"
      "20,,,,,,,,0.5,0.25,0.375,,,,,,\n"
      "20,,,,,,,,,,,0.75,0.5,0.625,4,5,4.5\n"
      "21,0.01,");
  record_start(run_.environment(), {.command_line = {"segmamba-train"}, .device = "cpu"});
  ReportObserver report(run_);
  report.on_start(started(0, 40));
  report.on_validation(validation({}));
  const std::string running = page();
  for (const char* part :
       {"Training: running", "<b>20 of 40</b>", "50.0 %, 2.0 of 4.0 epochs", "<b>0.6250</b>",
        "after 20 iterations", "WT 0.7500, TC 0.5000", "<b>2.5000</b>", "<b>2.00 iterations/s</b>",
        "25.0 % of the time waiting for data", "<b>0:01</b>", "about 0:10 more", "1,251 cases",
        "best dice_mean 0.6250", "<td>training.seed</td><td>1234</td><td>0</td>",
        "<td>command line</td><td>segmamba-train</td>"}) {
    EXPECT_THAT(running, HasSubstr(part));
  }
  report.on_end(RunEnd::kInterrupted, 20);
  EXPECT_THAT(page(), HasSubstr("Training: stopped"));
  EXPECT_THAT(page(), HasSubstr("more, without validations"));
  report.on_end(RunEnd::kComplete, 20);
  EXPECT_THAT(page(), HasSubstr("Training: finished"));
  EXPECT_THAT(page(), Not(HasSubstr("more, without validations")));  // it ended early
}

TEST_F(TrainingReport, NeedsNothingButTheConfig) {
  ReportObserver report(run_);
  report.on_start(started(0, 40));
  report.on_end(RunEnd::kInterrupted, 0);
  EXPECT_THAT(page(), HasSubstr("<b>0 of 40</b>"));
  EXPECT_THAT(page(), HasSubstr("All keys have their defaults"));
  EXPECT_THAT(page(), Not(HasSubstr("<svg")));
  EXPECT_THAT(page(), Not(HasSubstr("<table")));
}

TEST_F(TrainingReport, ListsCasesWorstFirst) {
  ReportObserver report(run_);
  report.on_start(started(0, 40));
  report.on_validation(validation({{"fair", {{"WT", "TC"}, {0.5, 0.5}, {1, 2}}},
                                   {"good", {{"WT", "TC"}, {0.9, 0.9}, {1, 2}}},
                                   {"poor", {{"WT", "TC"}, {0.1, 0.3}, {kNan, 2}}}}));
  const std::string html = page();
  const auto place = [&](const std::string& name) { return html.find("<td>" + name + "</td>"); };
  EXPECT_LT(place("poor"), place("fair"));
  EXPECT_LT(place("fair"), place("good"));
  EXPECT_THAT(html, HasSubstr("<td>poor</td><td class=\"number\">0.1000</td>"
                              "<td class=\"number\">0.3000</td><td class=\"number\">0.2000</td>"
                              "<td class=\"number\">nan</td><td class=\"number\">2.00</td>"
                              "<td class=\"number\">2.00</td>"));
  EXPECT_THAT(html, HasSubstr("HD95 is 0 where a region is empty in reference and"));
}

TEST_F(TrainingReport, EscapesHostileNames) {
  const std::string evil = "<script>alert('x')</script>&\"\xff";
  config_.data.root = evil;
  write_file_atomically(run_.config(), config_to_yaml(config_));
  record_start(run_.environment(), {.command_line = {evil}, .device = evil});
  auto event = validation({{evil, {{evil}, {0.5}, {1}}}});
  event.mean.regions = {evil};
  event.pictures = {{"best", evil, 0.5, "PNG"}};
  auto start = started(0, 40);
  start.regions = {evil};
  start.device = evil;
  ReportObserver report(run_);
  report.on_start(start);
  report.on_validation(event);
  EXPECT_THAT(page(), Not(HasSubstr("<script")));
  EXPECT_THAT(page(), Not(HasSubstr("\xff")));
  EXPECT_THAT(page(), HasSubstr("&lt;script&gt;alert(&#39;x&#39;)"));
}

TEST_F(TrainingReport, AResumedRunKeepsTheLastValidation) {
  auto event = validation({{"case-1", {{"WT", "TC"}, {0.5, 0.5}, {1, 2}}}});
  event.pictures = {{"worst", "case-1", 0.5, "bytes of a picture"}};
  {
    ReportObserver report(run_);
    report.on_start(started(0, 40));
    report.on_validation(event);
  }
  const std::string picture = base64("bytes of a picture");
  for (int round = 0; round < 2; ++round) {
    ReportObserver report(run_);
    report.on_start(started(20 + round, 40));
    report.on_end(RunEnd::kInterrupted, 20 + round);
    EXPECT_THAT(page(), HasSubstr(picture));
    EXPECT_THAT(page(), HasSubstr("<td>case-1</td>"));
  }
  ReportObserver fresh(run_);
  fresh.on_start(started(0, 40));
  fresh.on_end(RunEnd::kInterrupted, 1);
  EXPECT_THAT(page(), Not(HasSubstr(picture)));
}

TEST_F(TrainingReport, ALongRunGivesASmallPageWithItsOutliers) {
  std::ofstream rows(run_.metrics());
  rows << kHeader;
  for (int i = 1; i <= 250'000; ++i) {
    const double loss = i == 123'456 ? 98'765 : 1 + (i * 7919 % 1000) / 1000.0;
    rows << i << ",0.01," << loss << "," << 2 * loss << ",0.25,0.01,1,0,,,,,,,,,\n";
    if (i % 500 == 0) rows << i << ",,,,,,,,0.5,0.4,0.45,,,,,,\n";
    if (i % 2500 == 0) rows << i << ",,,,,,,,,,,0.5,0.4,0.45,9,8,8.5\n";
  }
  rows.close();
  ReportObserver report(run_);
  report.on_start(started(0, 250'000));
  report.on_end(RunEnd::kComplete, 250'000);
  EXPECT_LT(std::filesystem::file_size(run_.report()), 200'000u);
  // Logarithmic for the outlier's sake: from 1 to 1e5, where it stands at 52 + 496 * 123456 /
  // 250000 and 226 - 204 * log10(98765) / 5.
  EXPECT_THAT(page(), HasSubstr("296.9 22.2"));
  EXPECT_THAT(page(), HasSubstr("(log)"));
}

TEST_F(TrainingReport, CutsAStalledDiskOffTheTimes) {
  std::string rows;
  for (int i = 1; i <= 100; ++i) {
    const bool stalled = i == 50;
    rows += concat(i, ",0.01,1,1,", stalled ? 500 : 0.25, ",", stalled ? 499 : 0.125,
                   ",1,0,,,,,,,,,\n");
  }
  write_metrics(rows);
  ReportObserver report(run_);
  report.on_start(started(0, 100));
  report.on_end(RunEnd::kComplete, 100);
  const std::string html = page();
  const auto begin = html.find("Time of an iteration");
  const std::string figure = html.substr(begin, html.find("</figure>", begin) - begin);
  EXPECT_THAT(figure, HasSubstr("Time of an iteration, cut at 0.750 s"));
  // The axis ends at 0.8, 204 above 0 at 226: 0.75 stands at 34.8.
  EXPECT_THAT(figure, HasSubstr("y=\"26.0\" text-anchor=\"end\">0.8</text>"));
  EXPECT_THAT(figure, HasSubstr("295.0 162.2 300.0 34.8 305.0 162.2"));
  EXPECT_THAT(figure, HasSubstr("295.0 194.1 300.0 34.8 305.0 194.1"));
}

TEST_F(TrainingReport, AnUnreadablePageDoesNotEndTheRun) {
  std::filesystem::create_directory(run_.report());
  ReportObserver report(run_);
  EXPECT_NO_THROW(report.on_start(started(20, 40)));
  EXPECT_NO_THROW(report.on_end(RunEnd::kComplete, 40));
}

TEST_F(TrainingReport, ADamagedFileDoesNotEndTheRun) {
  write_metrics("1,x,,,,,,,,,,,,,,,\n");
  ReportObserver report(run_);
  report.on_start(started(0, 40));
  EXPECT_NO_THROW(report.on_end(RunEnd::kComplete, 40));
  EXPECT_FALSE(std::filesystem::exists(run_.report()));
}

}  // namespace
}  // namespace segmamba::engine
