#include "segmamba/engine/inference_memory.h"

#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdlib>

#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using test::error_of;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A whole-body volume on a GPU.
InferenceTask large_task() {
  return {.window = {128, 128, 128},
          .prepared = {600, 512, 512},
          .crop = {600, 512, 512},
          .grid = {600, 512, 512},
          .channels = 1,
          .outputs = 2,
          .score_channels = 2,
          .on_gpu = true,
          .pass_bytes = 1'000'000'000};
}
constexpr std::int64_t kSums = std::int64_t{128} * 512 * 512 * 3 * 4;

TEST(InferenceBytes, CountSumsOfAWindowsDepth) {
  const auto task = large_task();
  const auto there = inference_bytes(task, 1, false), on_host = inference_bytes(task, 1, true);
  EXPECT_GT(there.device - on_host.device, kSums);
  EXPECT_LT(there.device - on_host.device, 1.2 * kSums);
  EXPECT_GT(on_host.host - there.host, kSums);
  // Each further window takes its pass.
  EXPECT_GT(inference_bytes(task, 2, false).device - there.device, task.pass_bytes);
  auto small = task;
  small.prepared = small.crop = small.grid = {40, 50, 60};  // padded to the window
  EXPECT_GE(inference_bytes(small, 1, false).device,
            task.pass_bytes + std::int64_t{128} * 128 * 128 * 3 * 4);
}

TEST(InferenceBytes, OfASmallVolumeAreFew) {
  auto task = large_task();
  task.on_gpu = false;
  task.pass_bytes = 0;
  task.window = {16, 16, 16};
  task.prepared = task.crop = task.grid = {16, 16, 16};
  EXPECT_LT(inference_bytes(task, 1, true).host, 4096 * 100);
  task.prepared = task.crop = task.grid = {1, 1, 1};
  EXPECT_LT(inference_bytes(task, 1, true).host, 4096 * 100);
}

TEST(InferenceBytes, CountTheMapsAskedFor) {
  auto task = large_task();
  const std::int64_t voxels = 600 * 512 * 512;
  const auto labels = inference_bytes(task, 1, false).host;
  EXPECT_GE(labels, voxels);
  task.probabilities = true;
  EXPECT_EQ(inference_bytes(task, 1, false).host - labels, voxels * 2 * 2);
  task.uncertainty = true;
  EXPECT_EQ(inference_bytes(task, 1, false).host - labels, voxels * (2 * 2 + 2 * 2));
}

TEST(CheckImagesFit, CountsWhatIsHeld) {
  const auto held = resident_bytes();
  const std::int64_t limit = held + (256 << 20);
  check_images_fit({}, std::int64_t{1} << 50);
  check_images_fit({.host = limit}, 64 << 20);
  EXPECT_THAT(
      error_of([&] { check_images_fit({.host = limit}, 512 << 20); }),
      AllOf(StartsWith("to read its images takes at least "),
            EndsWith(concat(", and the limit is ", format_bytes(limit), ": raise the limit"))));
}

TEST(PlanInference, TakesTheLargestBatchThatFits) {
  const auto task = large_task();
  const auto plan = [&](std::int64_t gib) {
    return plan_inference(task, {.device = gib << 30}, {.device = 1 << 30}, 8);
  };
  EXPECT_EQ(plan_inference(task, {}, {}, 8).window_batch, 8);
  EXPECT_EQ(plan(40).window_batch, 8);
  EXPECT_FALSE(plan(40).sums_on_host);
  EXPECT_EQ(plan(6).window_batch, 4);
  EXPECT_EQ(plan(4).window_batch, 2);
  for (const std::int64_t limit : {40, 12, 9, 6, 4, 3}) {
    EXPECT_LE(plan(limit).bytes.device + (1 << 30), limit << 30);
  }
}

TEST(PlanInference, PutsSumsOnTheHostRatherThanHalvingTheBatch) {
  const auto task = large_task();
  const auto whole = inference_bytes(task, 4, false).device;
  const auto plan = plan_inference(task, {.device = whole - 1}, {}, 4);
  EXPECT_EQ(plan.window_batch, 4);
  EXPECT_TRUE(plan.sums_on_host);
  // Unless the host has no room for them.
  const auto host = inference_bytes(task, 4, false).host;
  const auto other = plan_inference(task, {.host = host + kSums / 2, .device = whole - 1}, {}, 4);
  EXPECT_EQ(other.window_batch, 2);
  EXPECT_FALSE(other.sums_on_host);
}

TEST(PlanInference, SaysTheLeastThatWouldDo) {
  auto task = large_task();
  EXPECT_EQ(error_of([&] { plan_inference(task, {.device = 1 << 30}, {.device = 512 << 20}, 4); }),
            concat("segmenting takes at least ",
                   format_bytes((512 << 20) + inference_bytes(task, 1, true).device),
                   " of the GPU's memory (512 MiB of it before it starts), and the limit is 1.0 "
                   "GiB: raise the limit, ask for fewer maps, or take a smaller window "
                   "(data.patch_size is [128, 128, 128])"));
  task.on_gpu = false;
  EXPECT_THAT(error_of([&] { plan_inference(task, {.host = 1 << 30}, {.host = 5 << 20}, 1); }),
              HasSubstr(" of this machine's memory (5.0 MiB of it before it starts)"));
}

// The sanitizers take memory of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

// predict_within as a process: what it prints, as JSON, or the Error in it.
Json predict_within(const std::string& arguments) {
  const test::TemporaryFolder folder;
  const auto out = folder.path() / "out.json";
  const std::string command =
      concat("'", SEGMAMBA_PREDICT_WITHIN, "' ", arguments, " > '", out.string(), "' 2>&1");
  const int status = std::system(command.c_str());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << read_file(out);
  return Json::parse(read_file(out));
}

// Sizes [D, H, W], channels, outputs, window, hard limit in MB (its own among them), maps, and the
// limit that the predictor is told, in MB.
TEST(HardLimit, ACaseOfBratsFitsInTwoGigabytes) {
  const auto result = predict_within("155 240 240 4 4 128 2000 maps 0");
  EXPECT_EQ(result.at("wrong_voxels"), 0);
  EXPECT_LT(result.at("peak_mb"), 2000);
}

TEST(HardLimit, AWholeBodyFitsInSixGigabytes) {
  const auto result = predict_within("600 512 512 1 2 192 6000 maps 0");
  EXPECT_EQ(result.at("wrong_voxels"), 0);
  EXPECT_LT(result.at("peak_mb"), 6000);
}

TEST(HardLimit, IsReallyThere) {
  const auto result = predict_within("155 240 240 4 4 128 300 maps 0");
  EXPECT_THAT(result.at("error").get<std::string>(), HasSubstr("this machine is out of memory"));
}

TEST(MemoryLimit, IsKeptBySmallerBatches) {
  const auto free = predict_within("128 200 200 4 4 64 4000 labels 0");
  const auto limited = predict_within("128 200 200 4 4 64 4000 labels 250");
  EXPECT_EQ(limited.at("wrong_voxels"), 0);
  EXPECT_LT(limited.at("peak_mb"), 250);
  EXPECT_LT(limited.at("peak_mb"), free.at("peak_mb"));
  EXPECT_THAT(predict_within("128 200 200 4 4 64 4000 labels 50").at("error").get<std::string>(),
              HasSubstr("segmenting takes at least "));
}

#endif

}  // namespace
}  // namespace segmamba::engine
