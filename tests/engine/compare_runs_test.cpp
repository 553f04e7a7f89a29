#include "segmamba/engine/compare_runs.h"

#include <gmock/gmock.h>

#include "segmamba/core/config.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/run_folder.h"
#include "segmamba/engine/train_config.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

class CompareRuns : public ::testing::Test {
 protected:
  CompareRuns() : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(folder_.path());  // short names in the tables
  }
  ~CompareRuns() override { std::filesystem::current_path(before_); }

  static void write(const std::string& name, const std::string& config, const std::string& metrics,
                    const std::string& device = "") {
    const RunFolder run{name};
    std::filesystem::create_directories(run.path);
    write_file_atomically(run.config(), config);
    if (!metrics.empty()) write_file_atomically(run.metrics(), metrics);
    if (device.empty()) return;
    write_json(run.environment(),
               {{"starts",
                 {{{"device", device}, {"program", {{"version", "0.1.0"}, {"commit", "abc"}}}}}}});
  }

  test::TemporaryFolder folder_;
  std::filesystem::path before_;
};

TEST_F(CompareRuns, Tabulates) {
  write("a",
        "optimizer:\n  learning_rate: 0.01\n  betas: [0.9, 0.999]\n"
        "training:\n  iterations: 2\n",
        "iteration,loss,seconds,skipped,dice_wt,dice_mean,hd95_mean\n"
        "1,1,1800,0,,,\n"
        "1,,,,0.5,0.25,7\n"
        "2,2,1800,1,,,\n"
        "2,,,,0.75,0.125,6.5\n",
        "cpu");
  // Going on, without validation, of a version with other keys.
  write("b é", "training:\n  iterations: 100\n  warp: 9\noptimizer:\n  betas: [0.9, 0.999]\n",
        "iteration,loss,seconds\n1,0.5,0.25\n2,0.5");
  EXPECT_EQ(compare_runs({"a", "b é"}),
            "|                            | a                     | b é      |\n"
            "|----------------------------|-----------------------|----------|\n"
            "| iterations                 | 2 of 2                | 1 of 100 |\n"
            "| best                       | dice_mean 0.2500 at 1 | -        |\n"
            "| last dice_wt               | 0.7500                | -        |\n"
            "| last dice_mean             | 0.1250                | -        |\n"
            "| last hd95_mean, mm         | 6.50                  | -        |\n"
            "| loss, last 100 steps       | 1.5000                | 0.5000   |\n"
            "| iterations/s               | 0.00                  | 4.00     |\n"
            "| hours, without validations | 1.00                  | 0.00     |\n"
            "| skipped steps              | 1                     | 0        |\n"
            "| device                     | cpu                   | -        |\n"
            "| version                    | 0.1.0 (abc)           | -        |\n"
            "\n"
            "| config                  | a    | b é |\n"
            "|-------------------------|------|-----|\n"
            "| optimizer.learning_rate | 0.01 | -   |\n"
            "| training.iterations     | 2    | 100 |\n"
            "| training.warp           | -    | 9   |\n");
}

TEST_F(CompareRuns, DescribesOneRunByWhatDiffersFromTheDefaults) {
  TrainConfig config;
  write("plain", config_to_yaml(config), "");
  EXPECT_THAT(compare_runs({"plain"}),
              ::testing::EndsWith("\nAll config keys have their defaults.\n"));
  config.training.seed = 7;
  write("run", config_to_yaml(config), "");
  EXPECT_THAT(compare_runs({"run"}), ::testing::EndsWith("\n"
                                                         "| config        | run | default |\n"
                                                         "|---------------|-----|---------|\n"
                                                         "| training.seed | 7   | 0       |\n"));
  EXPECT_THAT(compare_runs({"run", "run"}), ::testing::EndsWith("\nThe configs are the same.\n"));
}

TEST_F(CompareRuns, NamesWhatIsNoRun) {
  std::filesystem::create_directories("empty");
  EXPECT_EQ(test::error_of([] { compare_runs({"empty"}); }),
            "empty is no run folder: it holds no config.yaml");
  EXPECT_EQ(test::error_of([] { compare_runs({"nowhere"}); }),
            "nowhere is no run folder: it holds no config.yaml");
  write("broken", "training: [\n", "");
  EXPECT_THAT(test::error_of([] { compare_runs({"broken"}); }),
              ::testing::StartsWith("broken/config.yaml:"));
  write("list", "- a\n- b\n", "");
  EXPECT_EQ(test::error_of([] { compare_runs({"list"}); }),
            "list/config.yaml:1: must be a mapping of keys to values");
}

}  // namespace
}  // namespace segmamba::engine
