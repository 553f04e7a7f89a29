#include "segmamba/engine/out_of_memory.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <new>

#include "segmamba/core/error.h"

namespace segmamba::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TrainConfig config_of_upstream() {
  TrainConfig config;
  config.data.memory_gb = 40;
  config.training.workers = 4;
  return config;
}

TEST(OutOfMemory, OfTheGpuNamesWhatToLower) {
  const c10::OutOfMemoryError error(
      {__func__, __FILE__, __LINE__},
      "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 7.79 GiB");
  EXPECT_EQ(out_of_memory_advice(error, config_of_upstream(), {torch::kCUDA, 0}),
            "the GPU cuda:0 is out of memory (1.50 GiB more were asked for): set "
            "training.micro_batch_size from 0 to 1, or training.recompute from [] to [all], or "
            "training.precision from fp32 to bf16, or data.patch_size from [128, 128, 128] to "
            "[96, 96, 96]");
}

TEST(OutOfMemory, LeavesOutWhatIsAsLowAsItGets) {
  auto config = config_of_upstream();
  config.training.micro_batch_size = 1;
  config.training.recompute = {"all"};
  config.training.precision = "fp16";
  config.data.patch_size = {16, 64, 16};
  const std::runtime_error error("cuDNN error: CUDNN_STATUS_ALLOC_FAILED");
  EXPECT_EQ(out_of_memory_advice(error, config, {torch::kCUDA, 1}),
            "the GPU cuda:1 is out of memory: set data.patch_size from [16, 64, 16] to [16, 48, "
            "16]");
  config.data.patch_size = {16, 32, 16};  // [16, 16, 16] would be one voxel at the bottom
  EXPECT_EQ(out_of_memory_advice(error, config, {torch::kCUDA, 1}),
            "the GPU cuda:1 is out of memory: set the model to fewer channels or layers");
}

TEST(OutOfMemory, HalvesThePassOfARank) {
  auto config = config_of_upstream();
  config.training.batch_size = 8;
  const std::runtime_error error("CUDA out of memory");
  EXPECT_THAT(*out_of_memory_advice(error, config, {torch::kCUDA, 1}, /*ranks=*/2),
              HasSubstr("training.micro_batch_size from 0 to 2"));
  EXPECT_THAT(*out_of_memory_advice(error, config, {torch::kCUDA, 1}, /*ranks=*/8),
              Not(HasSubstr("micro_batch_size")));
}

TEST(OutOfMemory, OfTheHostBesideAGpuIsTheData) {
  EXPECT_EQ(out_of_memory_advice(std::bad_alloc(), config_of_upstream(), {torch::kCUDA, 0}),
            "this machine is out of memory: set data.memory_gb from 40 to 20, or data.cache to a "
            "folder that segmamba-data prepare makes, or training.workers from 4 to 2");
}

// A real one: more than any address space has.
TEST(OutOfMemory, OfAnAbsurdTensorOnTheCpu) {
  try {
    torch::empty({std::int64_t{1} << 50});
    FAIL() << "4 petabytes were given";
  } catch (const std::exception& error) {
    const auto advice = out_of_memory_advice(error, config_of_upstream(), torch::kCPU);
    ASSERT_TRUE(advice) << error.what();
    EXPECT_THAT(*advice, HasSubstr("this machine is out of memory (4.0 PiB more were asked for)"));
    EXPECT_THAT(*advice, HasSubstr("training.micro_batch_size from 0 to 1"));
    EXPECT_THAT(*advice, HasSubstr("data.memory_gb from 40 to 20"));
    EXPECT_THAT(*advice, Not(HasSubstr("\n")));
  }
}

TEST(OutOfMemory, IsNotSeenInOtherErrors) {
  const TrainConfig config;
  EXPECT_FALSE(out_of_memory_advice(Error("no such file"), config, torch::kCPU));
  try {
    torch::ones({2}).add_(torch::ones({3}));
    FAIL();
  } catch (const std::exception& error) {
    EXPECT_FALSE(out_of_memory_advice(error, config, torch::kCPU)) << error.what();
  }
}

}  // namespace
}  // namespace segmamba::engine
