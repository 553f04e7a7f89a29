// What each rank of the tests in distributed_test.cpp does: every test here runs in several
// processes at once. `--launch N` as first argument starts them by launch_ranks.
#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/launch.h"
#include "segmamba/engine/losses.h"
#include "segmamba/nn/model.h"
#include "support/error_of.h"

namespace segmamba::engine {
namespace {

using std::chrono::milliseconds;
using test::error_of;
using torch::Tensor;

std::unique_ptr<Ranks> join() {
  const char* meeting = std::getenv("TEST_MEETING");
  const char* silence = std::getenv("TEST_SILENCE");
  RankTimeouts timeouts;
  if (meeting != nullptr) timeouts.meeting = milliseconds(std::atoi(meeting));
  if (silence != nullptr) timeouts.silence = milliseconds(std::atoi(silence));
  torch::set_num_threads(1);
  return join_ranks(rank_from_environment(), torch::kCPU, timeouts);
}

[[noreturn]] void leave_as_killed() {
  ::kill(::getpid(), SIGKILL);
  std::abort();
}

// Tells the test that this rank has come so far; the text is there at once or not at all.
void tell_ready(const std::string& text) {
  const std::string ready = std::getenv("TEST_READY");
  std::ofstream(ready + ".new") << text << std::flush;
  std::rename((ready + ".new").c_str(), ready.c_str());
}

TEST(Scenario, SumsAreTakenInTheOrderOfRanks) {
  const auto ranks = join();
  // In any other order, and with any other start, the 1 is lost or the result is 0.
  const std::vector<double> parts = {1e16, -1e16, 1};
  const auto r = static_cast<std::size_t>(ranks->rank());
  ASSERT_EQ(ranks->size(), 3);
  EXPECT_EQ(ranks->sum(std::vector<double>{parts[r], 0.5}), (std::vector<double>{1, 1.5}));
  EXPECT_EQ(ranks->sum(std::vector<double>{}), std::vector<double>{});

  const auto sum = ranks->sum(torch::tensor(parts[r], torch::kFloat64));
  EXPECT_EQ(sum.item<double>(), 1);
  EXPECT_EQ(ranks->sum(torch::full({2, 3}, ranks->rank() + 1)).sum().item<std::int64_t>(), 36);

  // Long enough to fill the buffers of a connection; float32, so that the order shows in the bits.
  torch::manual_seed(ranks->rank());
  const auto mine = torch::randn({3'000'000});
  const auto total = ranks->sum(mine);
  auto expected = torch::zeros_like(mine);
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    torch::manual_seed(rank);
    expected = rank == 0 ? torch::randn({3'000'000}) : expected + torch::randn({3'000'000});
  }
  EXPECT_TRUE(torch::equal(total, expected));
}

TEST(Scenario, GathersBytesOfAnyLength) {
  const auto ranks = join();
  const auto part = [](std::int64_t rank) { return std::string(rank * 1'000'000, 'a' + rank); };
  EXPECT_EQ(ranks->gather(part(ranks->rank())), (std::vector<std::string>{part(0), part(1)}));
  ranks->barrier();
  EXPECT_EQ(ranks->gather({"\0x", 2}), (std::vector<std::string>(2, {"\0x", 2})));
}

TEST(Scenario, BroadcastsTheFirstRanksTensors) {
  const auto ranks = join();
  const auto r = ranks->rank();
  const std::vector<Tensor> tensors = {
      torch::full({2, 3}, 1.5 + static_cast<double>(r), torch::kFloat32).set_requires_grad(true),
      torch::full({4}, 7 + r, torch::kLong), torch::full({1}, r == 0, torch::kBool),
      torch::arange(6, torch::kFloat64).view({2, 3}).t() * (1.0 - static_cast<double>(r))};
  ranks->broadcast(tensors);
  EXPECT_TRUE(torch::equal(tensors[0], torch::full({2, 3}, 1.5)));
  EXPECT_TRUE(torch::equal(tensors[1], torch::full({4}, 7, torch::kLong)));
  EXPECT_TRUE(tensors[2].item<bool>());
  EXPECT_TRUE(torch::equal(tensors[3], torch::arange(6, torch::kFloat64).view({2, 3}).t()));
}

// d/dx of f(sum x) is f'(sum x), summed over the ranks that all compute f.
TEST(Scenario, TheSumIsDifferentiable) {
  const auto ranks = join();
  const double mine = ranks->rank() == 0 ? 3 : 4;
  const auto x = torch::tensor({mine}, torch::kFloat64).set_requires_grad(true);
  const auto y = ranks->sum(x).square().sum();
  y.backward();
  EXPECT_EQ(y.item<double>(), 49);
  EXPECT_EQ(x.grad().item<double>(), 2 * (2 * 7.0));
}

// A network with every kind of layer, small enough for a second.
std::shared_ptr<nn::SegmentationModel> tiny_model() {
  torch::manual_seed(5);
  nn::ModelConfig config;
  config.in_channels = 2;
  config.segmamba.dims = {4, 4, 6};
  config.segmamba.depths = {1, 1, 1};
  config.segmamba.hidden_size = 8;
  const auto model = nn::make_model(config);
  model->to(torch::kFloat64);
  return model;
}

struct Batch {
  Tensor images, labels;
};

Batch batch_of(std::int64_t patches) {
  torch::manual_seed(11);
  return {torch::randn({patches, 2, 16, 16, 16}, torch::kFloat64),
          torch::randint(0, 4, {patches, 16, 16, 16}, torch::kLong)};
}

using Loss = std::function<Tensor(const Tensor& logits, const Tensor& labels)>;

std::map<std::string, Tensor> gradients_of(const torch::nn::Module& model) {
  std::map<std::string, Tensor> gradients;
  for (const auto& item : model.named_parameters()) gradients[item.key()] = item.value().grad();
  return gradients;
}

// Bits cannot agree: a convolution sums the gradient of a batch in another order than the ranks
// add theirs. In float64 the difference is of rounding, 1e-12 of the largest entry.
void expect_equal_gradients(const torch::nn::Module& model, const torch::nn::Module& reference) {
  const auto expected = gradients_of(reference);
  double largest = 0;
  for (const auto& [name, gradient] : expected) {
    largest = std::max(largest, gradient.abs().max().item<double>());
  }
  ASSERT_GT(largest, 0);
  for (const auto& [name, gradient] : gradients_of(model)) {
    EXPECT_LT((gradient - expected.at(name)).abs().max().item<double>(), 1e-12 * largest) << name;
  }
}

void drop_gradients(const torch::nn::Module& model) {
  for (const auto& parameter : model.parameters()) parameter.mutable_grad() = Tensor();
}

// `of_rank` on each rank's patches, `micro_batches` times one patch, against `of_batch` on all.
void expect_gradients_of_the_batch(Ranks& ranks, std::int64_t micro_batches, const Loss& of_rank,
                                   const Loss& of_batch) {
  const auto model = tiny_model(), reference = tiny_model();
  const auto batch = batch_of(ranks.size() * micro_batches);
  of_batch(reference->forward(batch.images), batch.labels).backward();

  GradientAverager averager(ranks, *model);
  for (int update = 0; update < 3; ++update) {  // the second one orders the buckets anew
    drop_gradients(*model);
    for (std::int64_t i = 0; i < micro_batches; ++i) {
      const bool is_last = i + 1 == micro_batches;
      const auto at = ranks.rank() * micro_batches + i;
      if (is_last) averager.before_forward();
      const auto logits = model->forward(batch.images.narrow(0, at, 1));
      const auto loss = of_rank(logits, batch.labels.narrow(0, at, 1));
      if (is_last) averager.before_backward();
      (loss / static_cast<double>(micro_batches)).backward();
      if (is_last) averager.after_backward();
    }
    expect_equal_gradients(*model, *reference);
  }
}

Tensor cross_entropy(const Tensor& logits, const Tensor& labels) {
  return segmentation_loss({}, logits, labels);
}

TEST(Scenario, GradientsOfCrossEntropy) {
  const auto ranks = join();
  expect_gradients_of_the_batch(*ranks, 1, cross_entropy, cross_entropy);
}

TEST(Scenario, GradientsAccumulateOverMicroBatches) {
  const auto ranks = join();
  expect_gradients_of_the_batch(*ranks, 3, cross_entropy, cross_entropy);
}

// Soft Dice over the whole batch needs the sums of all ranks.
TEST(Scenario, GradientsOfDiceOverTheWholeBatch) {
  const auto ranks = join();
  LossConfig dice;
  dice.name = "dice_cross_entropy";
  dice.batch_dice = true;
  expect_gradients_of_the_batch(
      *ranks, 1,
      [&](const Tensor& logits, const Tensor& labels) {
        return segmentation_loss(dice, logits, labels, {},
                                 [&](const Tensor& sums) { return ranks->sum(sums); });
      },
      [&](const Tensor& logits, const Tensor& labels) {
        return segmentation_loss(dice, logits, labels);
      });
}

struct TwoLayers : torch::nn::Module {
  explicit TwoLayers(std::int64_t hidden) {
    used = register_module("used", torch::nn::Linear(3, hidden));
    unused = register_module("unused", torch::nn::Linear(3, hidden));
  }
  torch::nn::Linear used{nullptr}, unused{nullptr};
};

TEST(Scenario, AnUnreachedParameterIsNamed) {
  const auto ranks = join();
  const TwoLayers model(2);
  GradientAverager averager(*ranks, model);
  averager.before_forward();
  const auto loss = const_cast<TwoLayers&>(model).used->forward(torch::ones({1, 3})).sum();
  averager.before_backward();
  loss.backward();
  EXPECT_THAT(error_of([&] { averager.after_backward(); }),
              ::testing::HasSubstr("the loss does not depend on unused.weight, unused.bias"));
}

TEST(Scenario, OtherModelsAreRefused) {
  const auto ranks = join();
  const TwoLayers model(ranks->rank() == 0 ? 2 : 3);
  EXPECT_THAT(error_of([&] { GradientAverager(*ranks, model); }),
              ::testing::HasSubstr("rank 1 has another model than rank 0"));
}

TEST(Scenario, OtherCallsFail) {
  const auto ranks = join();
  if (ranks->rank() == 0) {
    EXPECT_THAT(error_of([&] { ranks->sum(std::vector<double>{1}); }),
                ::testing::HasSubstr("the ranks are out of step: rank 1 wants a broadcast of 8 "
                                     "bytes (its call number 0) where rank 0 wants a sum of 8"));
  } else {
    EXPECT_NE(error_of([&] { ranks->broadcast({torch::ones({2})}); }), "");
  }
}

TEST(Scenario, OneRankLeavesEarlier) {
  const auto ranks = join();
  ranks->barrier();
  if (ranks->rank() == std::atoi(std::getenv("TEST_LEAVER"))) return;
  // Longer than the silence that counts as death.
  std::this_thread::sleep_for(milliseconds(std::atoi(std::getenv("TEST_SILENCE")) + 500));
  EXPECT_THAT(error_of([&] { ranks->barrier(); }),
              ::testing::HasSubstr("one has ended its part of the run"));
}

bool is_victim(const Ranks& ranks) { return ranks.rank() == std::atoi(std::getenv("TEST_VICTIM")); }

TEST(Scenario, KilledWhileSumsTravel) {
  const auto ranks = join();
  std::thread killer;
  if (is_victim(*ranks)) {
    killer = std::thread([] {
      std::this_thread::sleep_for(milliseconds(300));
      tell_ready("dies");
      leave_as_killed();
    });
  }
  const auto tensor = torch::ones({1'000'000});
  for (;;) ranks->sum(tensor);
}

TEST(Scenario, KilledWhileOthersCompute) {
  const auto ranks = join();
  ranks->barrier();
  if (is_victim(*ranks)) {
    tell_ready("dies");
    leave_as_killed();
  }
  for (auto x = torch::ones({64, 64});;) x = x.mm(x).clamp(-1, 1);
}

TEST(Scenario, StoppedWhileOthersWait) {
  const auto ranks = join();
  ranks->barrier();
  if (is_victim(*ranks)) {
    tell_ready("stops");
    ::raise(SIGSTOP);
  }
  ranks->barrier();
}

TEST(Scenario, FailsWhileOthersWait) {
  const auto ranks = join();
  ranks->barrier();
  if (is_victim(*ranks)) {
    tell_ready("fails");
    throw Error("the disk is full");  // GoogleTest reports it
  }
  ranks->barrier();
}

// The error comes behind the meeting, when the others take this rank for one of them.
TEST(Scenario, HasNoSuchGpu) {
  const auto info = rank_from_environment();
  if (info.rank == std::atoi(std::getenv("TEST_VICTIM"))) {
    tell_ready("fails");
    join_ranks(info, {torch::kCUDA, 99});
  }
  join()->barrier();
}

// --- by launch_ranks -----------------------------------------------------------------------------

TEST(Scenario, SaysHello) {
  const auto ranks = join();
  std::cerr << concat("hello from ", ranks->rank(), "\n");
}

TEST(Scenario, ExitsWithSeven) {
  const auto ranks = join();
  ranks->barrier();
  if (ranks->rank() == 1) ::_exit(7);
  ranks->barrier();
}

std::atomic<int> signals_seen = 0;

// All ranks, once a SIGINT has come.
std::unique_ptr<Ranks> join_until_interrupted() {
  std::signal(SIGINT, [](int) { ++signals_seen; });
  auto ranks = join();
  ranks->barrier();
  if (ranks->is_first()) tell_ready("ready");
  while (signals_seen == 0) std::this_thread::sleep_for(milliseconds(10));
  return ranks;
}

TEST(Scenario, CountsSignals) {
  auto ranks = join_until_interrupted();
  // Rank 1 ends at once, and that must not end rank 0, which still saves.
  if (ranks->is_first()) {
    std::this_thread::sleep_for(milliseconds(1000));
    tell_ready("saved");
  }
  ranks.reset();
  ::_exit(signals_seen == 1 ? 128 + SIGINT : 1);
}

TEST(Scenario, FailsWhenStopped) {
  auto ranks = join_until_interrupted();
  const bool is_first = ranks->is_first();
  if (!is_first) std::this_thread::sleep_for(milliseconds(500));  // the launcher sees rank 0 first
  ranks.reset();
  ::_exit(is_first ? 128 + SIGINT : 7);
}

TEST(Scenario, WaitsForEver) {
  const auto ranks = join();
  const auto processes = ranks->gather(concat(::getpid()));
  if (ranks->is_first()) tell_ready(processes[0] + " " + processes[1]);
  std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace
}  // namespace segmamba::engine

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  if (argc > 2 && arguments[1] == "--launch" && !segmamba::engine::is_launched_rank()) {
    if (std::getenv("TEST_IGNORES_CHILDREN") != nullptr) std::signal(SIGCHLD, SIG_IGN);
    return segmamba::engine::launch_ranks(std::stoi(arguments[2]), "cpu", arguments);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
