#include "segmamba/engine/run_history.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using ::testing::ElementsAre;

class RunHistoryTest : public ::testing::Test {
 protected:
  RunHistory read(const std::string& text) {
    write_file_atomically(path(), text);
    return read_history(path());
  }
  std::filesystem::path path() const { return folder_.path() / "metrics.csv"; }
  test::TemporaryFolder folder_;
};

TEST_F(RunHistoryTest, ReadsColumnsByNameAndPassesOverEmptyCells) {
  const auto history = read(
      "loss,iteration,dice_wt\r\n"
      "0.5,1,\r\n"
      ",1,0.25\r\n"
      "nan,2,\r\n"
      "\r\n"
      "-1.5e-3,3,\r\n");
  EXPECT_THAT(history["loss"].recent(), ElementsAre(0.5, ::testing::IsNan(), -1.5e-3));
  EXPECT_THAT(history["loss"].means().iterations, ElementsAre(1, 3));
  EXPECT_THAT(history["loss"].means().values, ElementsAre(0.5, -1.5e-3));
  EXPECT_THAT(history["dice_wt"].extremes().iterations, ElementsAre(1));
  EXPECT_THAT(history["dice_wt"].extremes().values, ElementsAre(0.25));
  EXPECT_TRUE(history["hd95_wt"].empty());
  EXPECT_EQ(history.iterations(), 3);
}

// A hundred times as many values as points: each point is exact, and no outlier is lost.
TEST(Column, CondensesALongRun) {
  const auto value_at = [](std::int64_t i) {
    return i == 77'777 ? -70.0 : i == 123'456 ? 50.0 : std::sin(static_cast<double>(i));
  };
  constexpr std::int64_t kValues = 400'000;
  Column column("loss");
  double sum = 0;
  for (std::int64_t i = 1; i <= kValues; ++i) {
    column.add(static_cast<double>(i), value_at(i));
    sum += value_at(i);
  }
  EXPECT_EQ(column.size(), kValues);
  EXPECT_EQ(column.last_iteration(), kValues);
  EXPECT_EQ(column.sum(), sum);
  ASSERT_EQ(column.recent().size(), Column::kRecent);
  EXPECT_EQ(column.recent().back(), value_at(kValues));

  const std::int64_t width = 128;  // the least power of two for which the points suffice
  const Series means = column.means(), extremes = column.extremes();
  ASSERT_EQ(means.size(), static_cast<std::size_t>((kValues + width - 1) / width));
  ASSERT_LE(means.size(), Column::kMostPoints);
  ASSERT_EQ(extremes.size(), 2 * means.size());
  EXPECT_TRUE(std::is_sorted(extremes.iterations.begin(), extremes.iterations.end()));
  for (std::size_t p = 0; p < means.size(); ++p) {
    const auto first = static_cast<std::int64_t>(p) * width + 1;
    const auto end = std::min(first + width, kValues + 1);
    double mean = 0, least = 1e9, greatest = -1e9;
    for (auto i = first; i < end; ++i) {
      mean += value_at(i) / static_cast<double>(end - first);
      least = std::min(least, value_at(i));
      greatest = std::max(greatest, value_at(i));
    }
    EXPECT_NEAR(means.values[p], mean, 1e-12) << p;
    EXPECT_EQ(means.iterations[p], static_cast<double>(first + end - 1) / 2) << p;
    EXPECT_EQ(std::min(extremes.values[2 * p], extremes.values[2 * p + 1]), least) << p;
    EXPECT_EQ(std::max(extremes.values[2 * p], extremes.values[2 * p + 1]), greatest) << p;
    for (const std::size_t i : {2 * p, 2 * p + 1}) {
      EXPECT_EQ(value_at(static_cast<std::int64_t>(extremes.iterations[i])), extremes.values[i]);
    }
  }
}

TEST(Column, IsExactWhileItIsShort) {
  Column column("dice_mean");
  EXPECT_TRUE(column.empty());
  EXPECT_TRUE(column.means().empty());
  EXPECT_TRUE(column.extremes().empty());
  for (std::size_t i = 1; i <= Column::kMostPoints; ++i) column.add(static_cast<double>(i), 2.0);
  EXPECT_EQ(column.extremes().size(), Column::kMostPoints);
  EXPECT_EQ(column.means().iterations, column.extremes().iterations);
}

TEST_F(RunHistoryTest, PassesOverALineThatIsStillBeingWritten) {
  for (const char* half : {"", "2", "2,0.", "2,0.25"}) {
    const auto history = read(concat("iteration,loss\n1,0.5\n", half));
    EXPECT_THAT(history["loss"].recent(), ElementsAre(0.5)) << half;
  }
  EXPECT_EQ(read("iteration,lo").iterations(), 0);
  EXPECT_EQ(read("").iterations(), 0);
  EXPECT_EQ(read_history(folder_.path() / "none.csv").iterations(), 0);
}

TEST_F(RunHistoryTest, NamesTheLineThatIsDamaged) {
  const std::string place = path().string();
  EXPECT_EQ(test::error_of([&] { read("iteration,loss\n1,2\n2,x\n"); }),
            place + ":3: 'x' in column loss is no number");
  EXPECT_EQ(test::error_of([&] { read("iteration,loss\n1,2\n2\n"); }),
            place + ":3: has 1 fields where the header has 2");
  EXPECT_EQ(test::error_of([&] { read("iteration,loss\n1,2,3\n"); }),
            place + ":2: has 3 fields where the header has 2");
  EXPECT_EQ(test::error_of([&] { read("step,loss\n1,2\n"); }),
            place + ":1: has no column 'iteration'");
}

TEST_F(RunHistoryTest, ATableHasNotAnyNumberOfColumns) {
  std::string header = "iteration";
  for (int i = 1; i < 4096; ++i) header += concat(",", i);
  EXPECT_EQ(read(header + "\n").columns.size(), 4095u);
  EXPECT_EQ(test::error_of([&] { read(header + ",4096\n"); }),
            path().string() + ":1: has more than 4096 columns");
}

TEST_F(RunHistoryTest, Summarises) {
  const auto history = read(
      "iteration,loss,seconds,data_seconds,skipped,dice_mean,hd95_mean\n"
      "1,4,1,0.25,0,,\n"
      "2,nan,1,0.25,1,,\n"
      "2,,,,,0.5,nan\n"
      "3,2,2,0.5,0,,\n"
      "3,,,,,0.75,8\n"
      "4,,,,,0.75,9\n");
  const auto by_dice = summarise(history, {{"training.iterations", "10"}});
  EXPECT_EQ(by_dice.iterations, 4);
  EXPECT_EQ(by_dice.total_iterations, 10);
  EXPECT_EQ(by_dice.best_metric, "dice_mean");
  EXPECT_EQ(by_dice.best, 0.75);
  EXPECT_EQ(by_dice.best_iteration, 3);  // the first of equals
  EXPECT_EQ(by_dice.loss, 3);
  EXPECT_EQ(by_dice.step_seconds, 4);
  EXPECT_EQ(by_dice.data_seconds, 1);
  EXPECT_EQ(by_dice.iterations_per_second, 0.75);
  EXPECT_EQ(by_dice.skipped_steps, 1);

  const auto by_distance = summarise(history, {{"training.epochs", "7"},
                                               {"training.iterations_per_epoch", "3"},
                                               {"training.iterations", "0"},
                                               {"validation.best_metric", "hd95_mean"}});
  EXPECT_EQ(by_distance.total_iterations, 21);
  EXPECT_EQ(by_distance.best, 8);
  EXPECT_EQ(by_distance.best_iteration, 3);

  const auto none = summarise({}, {});
  EXPECT_TRUE(std::isnan(none.best));
  EXPECT_TRUE(std::isnan(none.loss));
  EXPECT_TRUE(std::isnan(none.iterations_per_second));
}

TEST_F(RunHistoryTest, TheLossIsThatOfTheLastHundredSteps) {
  std::string text = "iteration,loss\n";
  for (int i = 1; i <= 300; ++i) text += concat(i, ",", i <= 200 ? 1000 : i, "\n");
  EXPECT_EQ(summarise(read(text), {}).loss, 250.5);
}

TEST_F(RunHistoryTest, NumbersBeyondIntegersAreCut) {
  const auto history = read("iteration,loss,seconds,skipped,dice_mean\n1e300,1,1,inf,0.5\n");
  EXPECT_EQ(history.iterations(), std::int64_t{1} << 53);
  const auto summary = summarise(history, {{"training.epochs", "9223372036854775807"},
                                           {"training.iterations_per_epoch", "2"}});
  EXPECT_EQ(summary.best_iteration, std::int64_t{1} << 53);
  EXPECT_EQ(summary.skipped_steps, std::int64_t{1} << 53);
  EXPECT_EQ(summary.total_iterations, std::int64_t{1} << 53);
}

}  // namespace
}  // namespace segmamba::engine
