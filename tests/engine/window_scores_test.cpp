#include "window_scores.h"

#include <gmock/gmock.h>

#include <cmath>

#include "models.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/classes.h"

namespace segmamba::engine {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using torch::Tensor;

const std::function<void()> kNothing = [] {};

std::vector<double> values(const Tensor& tensor) {
  const auto flat = tensor.to(torch::kDouble).flatten().contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

WindowScores scores_of(WindowScores::Models models, const std::vector<std::int64_t>& axes = {}) {
  return {std::move(models), axes, std::nullopt, torch::kCPU, /*weights_change=*/true};
}

TEST(Mirrorings, AreEverySubsetOfTheAxes) {
  using Axes = std::vector<std::int64_t>;
  EXPECT_THAT(mirrorings({0, 2}), ElementsAre(Axes{}, Axes{2}, Axes{4}, Axes{2, 4}));
  EXPECT_EQ(mirrorings({0, 1, 2}).size(), 8U);
}

// A ramp and its mirror image average to its middle, on the mirrored axis only.
TEST(WindowScores, MirrorsThereAndBack) {
  const auto ramp = std::make_shared<test::RampModel>();
  const auto windows = torch::zeros({2, 1, 4, 4, 6});
  const auto along_x = scores_of({ramp}, {2})(windows, {}, kNothing);
  EXPECT_TRUE(torch::equal(along_x, torch::full({2, 1, 4, 4, 6}, 2.5)));
  const auto along_others = scores_of({ramp}, {0, 1})(windows, {}, kNothing);
  EXPECT_TRUE(torch::equal(along_others, ramp->forward(windows)));
  // A model that is the identity gives back what it sees, mirrored or not.
  torch::manual_seed(1);
  const auto image = torch::randn({2, 3, 4, 4, 6});
  const auto same = scores_of({std::make_shared<test::IdentityModel>()}, {0, 1, 2});
  EXPECT_TRUE(torch::allclose(same(image, {}, kNothing), image, /*rtol=*/1e-6, /*atol=*/0));
}

TEST(WindowScores, AsksBeforeEachPass) {
  const auto model = std::make_shared<test::IdentityModel>();
  const auto scores = scores_of({model, model}, {0, 1, 2});
  EXPECT_EQ(scores.passes(), 16);
  int passes = 0;
  scores(torch::zeros({1, 1, 4, 4, 4}), {}, [&] { ++passes; });
  EXPECT_EQ(passes, 16);
}

// Two members with logits (ln 9, 0) and (0, ln 4): probabilities (0.9, 0.1) and (0.2, 0.8).
WindowScores::Models two_members() {
  return {std::make_shared<test::ConstantModel>(std::vector{std::log(9.F), 0.F}),
          std::make_shared<test::ConstantModel>(std::vector{0.F, std::log(4.F)})};
}
double entropy(const std::vector<double>& p) {
  double sum = 0;
  for (const double value : p) sum -= value * std::log(value);
  return sum;
}

TEST(WindowScores, AveragesLogitsOrProbabilitiesOfModels) {
  const auto windows = torch::zeros({1, 1, 1, 1, 1});
  const auto scores = scores_of(two_members());
  EXPECT_THAT(values(scores(windows, {}, kNothing)),
              ElementsAre(DoubleNear(std::log(9) / 2, 1e-6), DoubleNear(std::log(4) / 2, 1e-6)));
  EXPECT_THAT(values(scores(windows, {.is_probability = true}, kNothing)),
              ElementsAre(DoubleNear(0.55, 1e-6), DoubleNear(0.45, 1e-6)));
}

TEST(WindowScores, UncertaintyIsMutualInformation) {
  const auto scores = scores_of(two_members());
  const auto windows = torch::zeros({1, 1, 2, 1, 1});
  const double expected = entropy({0.55, 0.45}) - (entropy({0.9, 0.1}) + entropy({0.2, 0.8})) / 2;
  for (const bool is_probability : {false, true}) {
    const ScoreKind kind{.is_probability = is_probability, .with_uncertainty = true};
    const auto result = scores(windows, kind, kNothing)[0];
    ASSERT_EQ(result.size(0), kind.channels(2));
    EXPECT_NEAR(kind.probabilities(result)[0][1][0][0].item<double>(), 0.55, 1e-6);
    EXPECT_NEAR(kind.entropy(kind.probabilities(result))[0][1][0][0].item<double>(),
                entropy({0.55, 0.45}), 1e-6);
    kind.finish_uncertainty(result);
    EXPECT_NEAR(result[-1][1][0][0].item<double>(), expected, 1e-6) << is_probability;
  }
}

TEST(WindowScores, UncertaintyOfRegionsIsTheMeanOfTheirBinaryOnes) {
  const auto scores = scores_of(two_members());
  const ScoreKind kind{.is_regions = true, .is_probability = true, .with_uncertainty = true};
  const auto result = scores(torch::zeros({1, 1, 1, 1, 1}), kind, kNothing)[0];
  kind.finish_uncertainty(result);
  const auto binary = [](double p) { return entropy({p, 1 - p}); };
  // Sigmoids: 0.9 and 0.5 of the first region, 0.5 and 0.8 of the second.
  const double first = binary(0.7) - (binary(0.9) + binary(0.5)) / 2;
  const double second = binary(0.65) - (binary(0.5) + binary(0.8)) / 2;
  EXPECT_NEAR(result[-1][0][0][0].item<double>(), (first + second) / 2, 1e-6);
}

TEST(WindowScores, CertainAndEqualMembersDoNotDisagree) {
  const auto model = std::make_shared<test::ConstantModel>(std::vector{200.F, -200.F, 0.F});
  for (const bool is_regions : {false, true}) {
    const ScoreKind kind{.is_regions = is_regions, .with_uncertainty = true};
    const auto result =
        scores_of({model, model}, {0})(torch::zeros({1, 1, 2, 2, 2}), kind, kNothing)[0];
    kind.finish_uncertainty(result);
    EXPECT_EQ(result[-1].abs().max().item<float>(), 0);
  }
}

TEST(ClassesOf, IsTheGreatestScore) {
  torch::manual_seed(2);
  const auto scores = torch::randn({2, 5, 3, 4, 6});
  EXPECT_TRUE(torch::equal(classes_of(scores, {}, 0), scores.argmax(1).to(torch::kUInt8)));
  EXPECT_EQ(classes_of(torch::ones({3, 1, 1, 2}), {}, 0).sum().item<std::int64_t>(), 0);
}

TEST(ClassesOf, TheLastRegionAboveTheThresholdPaints) {
  const auto regions = data::parse_regions({"WT", "TC", "ET"}, data::kBratsClasses);
  // A batch of two, one voxel a column: none, WT, WT and TC, all, ET alone, exactly at threshold.
  const auto scores =
      torch::tensor({{-1, 1, 1, 1, -1, 0}, {-1, -1, 1, 1, -1, 0}, {-1, -1, -1, 1, 1, 0}},
                    torch::kFloat)
          .view({1, 3, 1, 1, 6})
          .repeat({2, 1, 1, 1, 1});
  const auto expected = torch::tensor({0, 2, 1, 3, 3, 0}, torch::kUInt8).expand({2, 1, 1, 6});
  EXPECT_TRUE(torch::equal(classes_of(scores, regions, 0), expected));
  EXPECT_TRUE(torch::equal(classes_of(scores + 0.5, regions, 0.5), expected));
}

}  // namespace
}  // namespace segmamba::engine
