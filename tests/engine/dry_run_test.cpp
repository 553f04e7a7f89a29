#include "segmamba/engine/dry_run.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <sstream>
#include <utility>

#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/data/phantom.h"
#include "segmamba/engine/memory_plan.h"
#include "segmamba/nn/cost.h"
#include "support/error_of.h"
#include "support/limited_memory.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
constexpr std::int64_t kMegabyte = 1 << 20;

TrainConfig tiny_config() {
  TrainConfig config;
  config.model.segmamba.dims = {4, 8};
  config.model.segmamba.depths = {1, 1};
  config.model.segmamba.hidden_size = 12;
  config.data.patch_size = {16, 16, 16};
  config.training.epochs = 3;
  config.training.iterations_per_epoch = 20;
  config.training.workers = 1;
  config.validation.every = 25;
  return config;
}

TEST(MemoryPlan, AddsUpWhatTrainingKeeps) {
  auto config = tiny_config();
  const auto parameters = nn::parameter_count(*nn::make_model(config.model));
  const auto plan = plan_memory(config, parameters, torch::kCPU);
  EXPECT_EQ(plan.weights, 4 * parameters);
  EXPECT_EQ(plan.gradients, 4 * parameters);
  EXPECT_EQ(plan.optimizer, 4 * parameters);
  EXPECT_EQ(plan.average, 0);
  EXPECT_EQ(plan.total(), 12 * parameters + plan.activations);

  config.optimizer.name = "adamw";
  config.training.ema_decay = 0.999;
  EXPECT_EQ(plan_memory(config, parameters, torch::kCPU).optimizer, 8 * parameters);
  EXPECT_EQ(plan_memory(config, parameters, torch::kCPU).average, 4 * parameters);
}

TEST(MemoryPlan, CountsEveryLoss) {
  auto config = tiny_config();
  config.data.classes = {"background", "necrosis", "oedema"};
  for (const std::vector<std::string>& regions :
       {std::vector<std::string>{}, {"tumour=necrosis+oedema", "oedema=oedema"}}) {
    config.data.regions = regions;
    config.model.out_channels = regions.empty() ? 3 : 2;
    config.loss.class_weights.assign(regions.empty() ? 3 : 2, 0.5);
    for (const bool deep : {false, true}) {
      config.model.deep_supervision = deep;
      std::map<std::string, std::int64_t> activations;
      for (const char* loss :
           {"cross_entropy", "dice", "dice_cross_entropy", "focal", "dice_focal"}) {
        config.loss.name = loss;
        activations[loss] = plan_memory(config, 0, torch::kCUDA).activations;
      }
      EXPECT_GT(activations["cross_entropy"], 0);
      EXPECT_GE(activations["dice_cross_entropy"], activations["cross_entropy"]);
      EXPECT_GE(activations["dice_focal"], activations["focal"]);
    }
  }
}

TEST(MemoryPlan, IsOfTheShareOfARank) {
  auto config = tiny_config();
  const auto alone = plan_memory(config, 1000, torch::kCUDA);
  config.training.batch_size = 8;
  const auto of_four = plan_memory(config, 1000, torch::kCUDA, 4);
  EXPECT_EQ(of_four.total(), alone.total());
  EXPECT_EQ(patches_per_pass(config.training), 8);
  EXPECT_EQ(patches_per_pass(config.training, 4), 2);
  config.training.micro_batch_size = 3;
  EXPECT_EQ(patches_per_pass(config.training, 2), 3);
  EXPECT_EQ(patches_per_pass(config.training, 4), 2);
}

TEST(MemoryPlan, FallsWithEveryKeyThatIsAdvised) {
  const auto config = tiny_config();
  const auto activations = [](const TrainConfig& c) {
    return plan_memory(c, 0, torch::kCUDA).activations;
  };
  const auto all = activations(config);
  auto lower = config;
  lower.training.micro_batch_size = 1;
  EXPECT_LT(activations(lower), 0.6 * all);
  lower = config;
  lower.training.recompute = {"all"};
  EXPECT_LT(activations(lower), 0.8 * all);
  for (const char* precision : {"bf16", "fp16"}) {
    lower = config;
    lower.training.precision = precision;
    EXPECT_LT(activations(lower), 0.8 * all);
  }
  lower = config;
  lower.data.patch_size = {12, 12, 12};
  EXPECT_LT(activations(lower), 0.6 * all);
}

// The table of its comment, in GiB: of 8, CUDA, cuDNN and the desktop may take almost half.
TEST(MemoryPlan, SmallGpuTakesWhatTheRecipeStates) {
  auto config = load_config<TrainConfig>(
      std::filesystem::path(SEGMAMBA_SOURCE_DIR) / "configs/small-gpu.yaml", {});
  const auto parameters = nn::parameter_count(*nn::make_model(config.model));
  struct Row {
    std::vector<std::string> recompute;
    double fp32, bf16;
  };
  for (const Row& row :
       {Row{{}, 7.3, 4.4}, Row{config.training.recompute, 5.8, 3.5}, Row{{"all"}, 4.9, 2.8}}) {
    config.training.recompute = row.recompute;
    for (const auto& [precision, expected] :
         {std::pair{"fp32", row.fp32}, std::pair{"bf16", row.bf16}}) {
      config.training.precision = precision;
      const auto bytes = plan_memory(config, parameters, torch::kCUDA).total();
      EXPECT_NEAR(static_cast<double>(bytes) / (1 << 30), expected, 0.02 * expected)
          << precision << ", recompute [" << join(row.recompute, ", ") << "]";
    }
  }
}

class DryRunTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    data_ = new test::TemporaryFolder;
    data::write_phantoms(data_->path(), {.cases = 5, .size = {32, 32, 32}, .seed = 3});
  }
  static void TearDownTestSuite() {
    delete data_;
    data_ = nullptr;
  }
  static std::string printed(TrainConfig config, bool every_key = false, std::int64_t ranks = 1) {
    config.data.root = data_->path().string();
    std::ostringstream out;
    dry_run(config, "cpu", every_key, out, ranks);
    return out.str();
  }
  static test::TemporaryFolder* data_;
};
test::TemporaryFolder* DryRunTest::data_ = nullptr;

TEST_F(DryRunTest, SaysWhatTheRunWouldBe) {
  const auto text = printed(tiny_config());
  EXPECT_THAT(text, AllOf(HasSubstr("cases                           5 (brats) in "),
                          HasSubstr("3, 1, 1 (70/10/20 by patient, seed 0)"),
                          HasSubstr("t1n, t1c, t2w, t2f"),
                          ContainsRegex("necrosis [0-9.]+ ml, oedema [0-9.]+ ml")));
  EXPECT_THAT(text, AllOf(HasSubstr("training.epochs                 3\n"),
                          Not(HasSubstr("training.batch_size"))));
  EXPECT_THAT(text, AllOf(ContainsRegex("together +[0-9.]+ [KM]iB of [0-9.]+ GiB"),
                          HasSubstr("(3 batches of ")));
  EXPECT_THAT(text,
              AllOf(ContainsRegex("computing a step +[0-9.]+ s \\(2 of 2 patches\\)\n"),
                    ContainsRegex("loading a batch +[0-9.]+ s \\(2 of 2 patches, 1 workers\\)"),
                    ContainsRegex("an epoch .*\\(20 steps, 40 patches\\)"),
                    ContainsRegex("all steps .*\\(60 steps\\)"),
                    ContainsRegex("a validation .*\\(3 in the run\\)")));
  EXPECT_THAT(printed(tiny_config(), /*every_key=*/true),
              HasSubstr("training.batch_size             2\n"));
}

TEST_F(DryRunTest, IsOfTheShareOfARank) {
  auto config = tiny_config();
  config.training.batch_size = 4;
  config.data.memory_gb = 6;
  const auto text = printed(config, /*every_key=*/false, /*ranks=*/4);
  EXPECT_THAT(text, AllOf(HasSubstr("Memory of cpu, predicted, one of 4 ranks\n"),
                          HasSubstr("(1 patches a pass, fp32)"),
                          HasSubstr("Memory of the host, predicted, one of 4 ranks\n"),
                          HasSubstr("data.memory_gb allows 1.5 GiB)"),
                          HasSubstr("(4 batches of 68 KiB)")));  // 16^3 * (4 channels * 4 + 1)
  EXPECT_THAT(text, AllOf(HasSubstr("Time, measured on cpu, one of 4 ranks that runs alone\n"),
                          ContainsRegex("computing a step .*\\(1 of 4 patches\\)"),
                          ContainsRegex("loading a batch .*\\(1 of 4 patches, 1 workers\\)"),
                          ContainsRegex("an epoch .*\\(20 steps, 80 patches\\)")));
  EXPECT_THAT(test::error_of([&] { printed(config, false, 3); }),
              HasSubstr("training.batch_size is 4: the batch of all GPUs together cannot be shared "
                        "evenly by 3; take a multiple of 3, or fewer GPUs"));
}

TEST_F(DryRunTest, FailsAsTheRunWould) {
  auto config = tiny_config();
  config.data.patch_size = {16, 18, 16};
  EXPECT_THAT(test::error_of([&] { printed(config); }), HasSubstr("data.patch_size"));
  config = tiny_config();
  config.training.recompute = {"stage9"};
  EXPECT_THAT(test::error_of([&] { printed(config); }), HasSubstr("training.recompute"));
  config = tiny_config();
  config.validation.best_metric = "dice_foo";
  EXPECT_THAT(test::error_of([&] { printed(config); }), HasSubstr("validation.best_metric"));
  config = tiny_config();
  config.model.deep_supervision = true;
  config.loss.deep_supervision_weights = {1, 0.5, 0.25, 0.125, 0};
  EXPECT_THAT(test::error_of([&] { printed(config); }),
              HasSubstr("loss.deep_supervision_weights lists 5 numbers"));
}

// The sanitizers take terabytes of addresses.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

TEST_F(DryRunTest, TellsWhatToLowerWhereMemoryRunsOut) {
  auto config = tiny_config();
  config.data.patch_size = {512, 512, 512};
  const test::LimitedMemory limit(1024 * kMegabyte);
  EXPECT_THAT(test::error_of([&] { printed(config); }),
              AllOf(HasSubstr("this machine is out of memory"),
                    HasSubstr("data.patch_size from [512, 512, 512] to [384, 384, 384]")));
}

#endif

}  // namespace
}  // namespace segmamba::engine
