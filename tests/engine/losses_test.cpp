#include "segmamba/engine/losses.h"

#include <ATen/autocast_mode.h>
#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <torch/torch.h>

#include <cmath>

#include "segmamba/data/dataset.h"
#include "support/error_of.h"
#include "support/gradcheck.h"

namespace segmamba::engine {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;
using torch::Tensor;

LossConfig config_of(const std::string& name) {
  LossConfig config;
  config.name = name;
  return config;
}

const std::vector<data::Region>& brats_regions() {
  static const auto regions = data::parse_regions({"WT", "TC", "ET"}, data::kBratsClasses);
  return regions;
}

Tensor example_logits(std::int64_t batch, std::int64_t outputs) {
  const auto n = batch * outputs * 2 * 3 * 2;
  return torch::sin(torch::arange(n, torch::kDouble) * 1.7).view({batch, outputs, 2, 3, 2}) * 2;
}

Tensor example_labels(std::int64_t batch, std::int64_t classes) {
  return (torch::arange(batch * 12, torch::kLong) * 5 % classes).view({batch, 2, 3, 2});
}

double loss_of(const LossConfig& config, const Tensor& logits, const Tensor& labels,
               const std::vector<data::Region>& regions = {}) {
  return segmentation_loss(config, logits, labels, regions).item<double>();
}

// Logits [1, K, 1, 1, voxels] from a row of probabilities an output: softmax gives them back.
Tensor logits_of(const std::vector<std::vector<double>>& probabilities) {
  std::vector<Tensor> rows;
  for (const auto& row : probabilities) rows.push_back(torch::tensor(row, torch::kDouble).log());
  return torch::stack(rows).view({1, std::ssize(probabilities), 1, 1, -1});
}
// The same for sigmoid.
Tensor binary_logits_of(const std::vector<std::vector<double>>& probabilities) {
  std::vector<Tensor> rows;
  for (const auto& row : probabilities) rows.push_back(torch::tensor(row, torch::kDouble));
  return torch::stack(rows).logit().view({1, std::ssize(probabilities), 1, 1, -1});
}

Tensor labels_of(const std::vector<std::int64_t>& labels) {
  return torch::tensor(labels, torch::kLong).view({1, 1, 1, -1});
}

// Three voxels, of the classes 0, 1 and 2; the probabilities of these are 0.5, 0.6 and 0.2.
const std::vector<std::vector<double>> kProbabilities = {
    {0.5, 0.3, 0.1}, {0.3, 0.6, 0.7}, {0.2, 0.1, 0.2}};
const std::vector<std::int64_t> kLabels = {0, 1, 2};

// Labels 0, 2 (WT), 1 (WT, TC), 3 (all); a row a region.
const std::vector<std::int64_t> kRegionLabels = {0, 2, 1, 3};
const std::vector<std::vector<double>> kRegionProbabilities = {
    {0.1, 0.8, 0.6, 0.9}, {0.2, 0.3, 0.4, 0.7}, {0.4, 0.1, 0.5, 0.3}};

TEST(Losses, CrossEntropyOfClasses) {
  EXPECT_NEAR(loss_of(config_of("cross_entropy"), logits_of(kProbabilities), labels_of(kLabels)),
              -(std::log(0.5) + std::log(0.6) + std::log(0.2)) / 3, 1e-12);
  EXPECT_NEAR(loss_of(config_of("cross_entropy"), torch::full({2, 4, 2, 3, 2}, 0.7, torch::kDouble),
                      example_labels(2, 4)),
              std::log(4.0), 1e-12);
}

TEST(Losses, CrossEntropyOfClassesIsTorchsWithWeightsToo) {
  const auto logits = example_logits(2, 4);
  const auto labels = example_labels(2, 4);
  auto config = config_of("cross_entropy");
  namespace F = torch::nn::functional;
  EXPECT_NEAR(loss_of(config, logits, labels), F::cross_entropy(logits, labels).item<double>(),
              1e-12);
  config.class_weights = {0.5, 2, 0, 1};
  const auto options =
      F::CrossEntropyFuncOptions().weight(torch::tensor(config.class_weights, torch::kDouble));
  EXPECT_NEAR(loss_of(config, logits, labels),
              F::cross_entropy(logits, labels, options).item<double>(), 1e-12);
  // Nothing but voxels of a class without weight.
  EXPECT_EQ(loss_of(config, logits, torch::full_like(labels, 2)), 0);
}

TEST(Losses, CrossEntropyOfRegions) {
  const auto logits = binary_logits_of(kRegionProbabilities);
  const auto labels = labels_of(kRegionLabels);
  const double whole = -std::log(0.9 * 0.8 * 0.6 * 0.9) / 4;
  const double core = -std::log(0.8 * 0.7 * 0.4 * 0.7) / 4;
  const double enhancing = -std::log(0.6 * 0.9 * 0.5 * 0.3) / 4;
  auto config = config_of("cross_entropy");
  EXPECT_NEAR(loss_of(config, logits, labels, brats_regions()), (whole + core + enhancing) / 3,
              1e-12);
  config.class_weights = {1, 0.5, 3};
  EXPECT_NEAR(loss_of(config, logits, labels, brats_regions()),
              (whole + 0.5 * core + 3 * enhancing) / 4.5, 1e-12);
}

TEST(Losses, FocalOfClasses) {
  const auto logits = logits_of(kProbabilities);
  const auto labels = labels_of(kLabels);
  auto config = config_of("focal");
  const double first = 0.5 * 0.5 * -std::log(0.5), second = 0.4 * 0.4 * -std::log(0.6),
               third = 0.8 * 0.8 * -std::log(0.2);
  EXPECT_NEAR(loss_of(config, logits, labels), (first + second + third) / 3, 1e-12);
  config.class_weights = {1, 2, 5};
  EXPECT_NEAR(loss_of(config, logits, labels), (first + 2 * second + 5 * third) / 8, 1e-12);
  config.focal_gamma = 0;
  auto entropy = config_of("cross_entropy");
  entropy.class_weights = config.class_weights;
  EXPECT_NEAR(loss_of(config, logits, labels), loss_of(entropy, logits, labels), 1e-12);
}

TEST(Losses, FocalOfRegions) {
  auto config = config_of("focal");
  config.focal_gamma = 1;
  // Of WT alone: the others have no weight.
  config.class_weights = {2, 0, 0};
  EXPECT_NEAR(
      loss_of(config, binary_logits_of(kRegionProbabilities), labels_of(kRegionLabels),
              brats_regions()),
      -(0.1 * std::log(0.9) + 0.2 * std::log(0.8) + 0.4 * std::log(0.6) + 0.1 * std::log(0.9)) / 4,
      1e-12);
}

TEST(Losses, DiceOfClasses) {
  auto config = config_of("dice");
  config.smooth = 0.5;
  const auto logits = logits_of(kProbabilities);
  const auto labels = labels_of(kLabels);
  // Sums of each row of probabilities: 0.9, 1.6, 0.5; one voxel of each class.
  const double zero = 1.5 / 2.4, one = 1.7 / 3.1, two = 0.9 / 2;
  EXPECT_NEAR(loss_of(config, logits, labels), 1 - (one + two) / 2, 1e-12);
  config.class_weights = {7, 1, 3};
  EXPECT_NEAR(loss_of(config, logits, labels), 1 - (one + 3 * two) / 4, 1e-12);
  config.include_background = true;
  EXPECT_NEAR(loss_of(config, logits, labels), 1 - (7 * zero + one + 3 * two) / 11, 1e-12);
}

TEST(Losses, DiceOfRegionsCountsEveryRegion) {
  auto config = config_of("dice");
  config.smooth = 0;
  const double whole = 2 * 2.3 / (2.4 + 3), core = 2 * 1.1 / (1.6 + 2),
               enhancing = 2 * 0.3 / (1.3 + 1);
  EXPECT_NEAR(loss_of(config, binary_logits_of(kRegionProbabilities), labels_of(kRegionLabels),
                      brats_regions()),
              1 - (whole + core + enhancing) / 3, 1e-12);
}

TEST(Losses, DiceOfWhatIsRightAndWhatIsNowhere) {
  const auto labels = example_labels(1, 3);
  const auto logits = (labels.unsqueeze(1) == torch::arange(4).view({1, 4, 1, 1, 1})) * 200.0;
  auto config = config_of("dice");
  config.include_background = true;
  // Class 3 is absent from both: (0 + smooth) / (0 + smooth) = 1.
  EXPECT_NEAR(loss_of(config, logits, labels), 0, 1e-9);
  // Without `smooth` it has Dice 0, as in nnU-Net, and no nan.
  config.smooth = 0;
  EXPECT_NEAR(loss_of(config, logits, labels), 0.25, 1e-6);
}

// One patch all of class 1 and predicted so, one patch all of class 0 and predicted as class 1:
// over the batch 2 * 12 / (24 + 12); patch by patch the mean of 1 and 0.
TEST(Losses, DiceOfBatchAndPatch) {
  const auto labels = torch::cat(
      {torch::ones({1, 2, 3, 2}, torch::kLong), torch::zeros({1, 2, 3, 2}, torch::kLong)});
  auto logits = torch::zeros({2, 2, 2, 3, 2}, torch::kDouble);
  logits.select(1, 1).fill_(500);
  auto config = config_of("dice");
  config.smooth = 0;
  EXPECT_NEAR(loss_of(config, logits, labels), 1 - 2.0 / 3, 1e-12);
  config.batch_dice = false;
  EXPECT_NEAR(loss_of(config, logits, labels), 0.5, 1e-12);
}

TEST(Losses, SumsAreWeighted) {
  for (const bool of_regions : {false, true}) {
    const auto regions = of_regions ? brats_regions() : std::vector<data::Region>{};
    const auto logits = example_logits(2, of_regions ? 3 : 4);
    const auto labels = example_labels(2, 4);
    const auto alone = [&](const char* name) {
      return loss_of(config_of(name), logits, labels, regions);
    };
    auto config = config_of("dice_cross_entropy");
    config.cross_entropy_weight = 0.5;
    config.focal_weight = 3;
    config.dice_weight = 2;
    EXPECT_NEAR(loss_of(config, logits, labels, regions),
                0.5 * alone("cross_entropy") + 2 * alone("dice"), 1e-12);
    config.name = "dice_focal";
    EXPECT_NEAR(loss_of(config, logits, labels, regions), 3 * alone("focal") + 2 * alone("dice"),
                1e-12);
  }
}

TEST(Losses, Gradients) {
  const auto labels = example_labels(2, 4);
  for (const bool of_regions : {false, true}) {
    const auto regions = of_regions ? brats_regions() : std::vector<data::Region>{};
    const auto logits = example_logits(2, of_regions ? 3 : 4).requires_grad_();
    for (const char* name :
         {"cross_entropy", "dice", "focal", "dice_cross_entropy", "dice_focal"}) {
      for (const bool plain : {true, false}) {
        auto config = config_of(name);
        if (!plain) {
          config.class_weights = {0.5, 2, 1};
          if (!of_regions) config.class_weights.push_back(3);
          config.include_background = true;
          config.batch_dice = false;
          config.focal_gamma = 0.5;
        }
        EXPECT_TRUE(testing::gradcheck(
            [&](const std::vector<Tensor>& inputs) {
              return segmentation_loss(config, inputs[0], labels, regions);
            },
            {logits}))
            << name << (of_regions ? ", regions" : ", classes") << (plain ? "" : ", weights");
      }
    }
  }
}

// Logits so far from 0 that probabilities are exactly 0 or 1: costs grow linearly, and neither
// values nor gradients turn into nan.
TEST(Losses, HugeLogits) {
  const auto labels = labels_of({3, 0});
  for (const bool of_regions : {false, true}) {
    const auto regions = of_regions ? brats_regions() : std::vector<data::Region>{};
    auto logits = torch::zeros({1, of_regions ? 3 : 4, 1, 1, 2}, torch::kFloat);
    logits.select(1, of_regions ? 0 : 3)
        .fill_(1000);  // right in the first voxel, not in the second
    logits.requires_grad_();
    // Regions: the other two outputs are undecided, log 2 each.
    const double entropy = of_regions ? (1000 + 4 * std::log(2)) / 6 : 500;
    EXPECT_NEAR(loss_of(config_of("cross_entropy"), logits, labels, regions), entropy, 1e-3);
    for (const double gamma : {0.0, 0.5, 1.0, 2.0}) {
      auto config = config_of("dice_focal");
      config.focal_gamma = gamma;
      const auto loss = segmentation_loss(config, logits, labels, regions);
      EXPECT_GT(loss.item<double>(), 1000.0 / 6);
      const auto gradient = torch::autograd::grad({loss}, {logits})[0];
      EXPECT_TRUE(gradient.isfinite().all().item<bool>()) << gamma;
    }
  }
}

TEST(Losses, AreComputedInFloat32) {
  const auto logits = (example_logits(2, 4) * 5).to(torch::kBFloat16);
  const auto labels = example_labels(2, 4);
  for (const bool of_regions : {false, true}) {
    const auto regions = of_regions ? brats_regions() : std::vector<data::Region>{};
    const auto used = logits.narrow(1, 0, of_regions ? 3 : 4);
    for (const char* name : {"dice_cross_entropy", "dice_focal"}) {
      auto config = config_of(name);
      config.class_weights = std::vector<double>(of_regions ? 3 : 4, 0.3);
      const double exact = loss_of(config, used.to(torch::kDouble), labels, regions);
      const auto loss = segmentation_loss(config, used, labels, regions);
      EXPECT_EQ(loss.scalar_type(), torch::kFloat);
      EXPECT_NEAR(loss.item<double>(), exact, 1e-6 * exact);  // bfloat16 has errors of 4e-3

      at::autocast::set_autocast_enabled(at::kCPU, true);
      const auto mixed = segmentation_loss(config, used, labels, regions);
      at::autocast::set_autocast_enabled(at::kCPU, false);
      EXPECT_TRUE(torch::equal(mixed, loss));
    }
  }
}

// Two ranks, one after the other: the sum of one of them is known to the other.
TEST(Losses, RanksTogetherHaveTheLossOfTheWholeBatch) {
  const auto labels = example_labels(2, 4);
  for (const bool of_regions : {false, true}) {
    const auto regions = of_regions ? brats_regions() : std::vector<data::Region>{};
    auto config = config_of("dice_cross_entropy");
    config.class_weights = {1, 2, 0.5};
    if (!of_regions) config.class_weights.push_back(4);
    const auto logits = example_logits(2, of_regions ? 3 : 4);
    const double whole = loss_of(config, logits, labels, regions);
    std::vector<Tensor> of_first;
    segmentation_loss(config, logits.narrow(0, 0, 1), labels.narrow(0, 0, 1), regions,
                      [&](const Tensor& values) {
                        of_first.push_back(values);
                        return values;
                      });
    std::size_t call = 0;
    const auto second =
        segmentation_loss(config, logits.narrow(0, 1, 1), labels.narrow(0, 1, 1), regions,
                          [&](const Tensor& values) { return values + of_first.at(call++); });
    EXPECT_EQ(call, of_first.size());
    auto entropy = config;
    entropy.name = "cross_entropy";
    // Binary cross-entropy is left to each rank: the mean over ranks is that of the batch.
    const double own =
        of_regions ? loss_of(entropy, logits.narrow(0, 1, 1), labels.narrow(0, 1, 1), regions) -
                         loss_of(entropy, logits, labels, regions)
                   : 0;
    EXPECT_NEAR(second.item<double>() - own, whole, 1e-12);

    config.batch_dice = false;
    config.class_weights.clear();
    segmentation_loss(config, logits, labels, regions, [](const Tensor& values) -> Tensor {
      ADD_FAILURE() << "nothing needs a sum";
      return values;
    });
  }
}

TEST(DeepSupervision, WeightsOfNnunet) {
  EXPECT_THAT(deep_supervision_weights({}, 1, false), ElementsAre(1));
  EXPECT_THAT(deep_supervision_weights({}, 2, false), ElementsAre(1, 0));
  EXPECT_THAT(deep_supervision_weights({}, 2, /*trains_coarsest=*/true),
              ElementsAre(2.0 / 3, 1.0 / 3));
  EXPECT_THAT(deep_supervision_weights({}, 4, false),
              Pointwise(DoubleNear(1e-12), {4.0 / 7, 2.0 / 7, 1.0 / 7, 0.0}));
  LossConfig config;
  config.deep_supervision_weights = {1, 0.25};
  EXPECT_THAT(deep_supervision_weights(config, 2, false), ElementsAre(1, 0.25));
  EXPECT_EQ(test::error_of([&] { deep_supervision_weights(config, 3, false); }),
            "loss.deep_supervision_weights lists 2 numbers, but the model has 3 outputs");
}

TEST(DeepSupervision, LabelsAreThoseNearestToTheCentres) {
  const auto labels = torch::arange(2 * 4 * 6 * 9).view({2, 4, 6, 9});
  EXPECT_TRUE(torch::equal(resize_labels(labels, {4, 6, 9}), labels));
  const auto small = resize_labels(labels, {2, 2, 4});
  ASSERT_EQ(small.sizes(), (std::vector<std::int64_t>{2, 2, 2, 4}));
  EXPECT_EQ(small.scalar_type(), torch::kLong);
  // Steps of 2, 3 and 2.25: floor(0.5 * 2.25) = 1, floor(1.5 * 2.25) = 3, 5, 7.
  for (int z = 0; z < 2; ++z) {
    for (int y = 0; y < 2; ++y) {
      for (int x = 0; x < 4; ++x) {
        EXPECT_EQ(small[1][z][y][x].item<int>(), ((4 + 2 * z + 1) * 6 + 3 * y + 1) * 9 + 2 * x + 1);
      }
    }
  }
  const auto options = torch::nn::functional::InterpolateFuncOptions()
                           .size(std::vector<std::int64_t>{2, 2, 4})
                           .mode(torch::kNearestExact);
  EXPECT_TRUE(torch::equal(
      torch::nn::functional::interpolate(labels.unsqueeze(1).to(torch::kFloat), options)
          .squeeze(1)
          .to(torch::kLong),
      small));
}

TEST(DeepSupervision, IsTheWeightedSumOverResolutions) {
  const auto labels = (torch::arange(2 * 4 * 4 * 4) * 5 % 7 % 4).view({2, 4, 4, 4});
  const auto logits = [](std::int64_t size) {
    const auto n = 2 * 3 * size * size * size;
    return torch::sin(torch::arange(n, torch::kDouble)).view({2, 3, size, size, size});
  };
  auto config = config_of("dice_cross_entropy");
  const std::vector<Tensor> outputs = {logits(4), logits(2).requires_grad_(),
                                       logits(1).requires_grad_()};
  const auto loss = deep_supervision_loss(config, deep_supervision_weights(config, 3, false),
                                          outputs, labels, brats_regions());
  EXPECT_NEAR(
      loss.item<double>(),
      2.0 / 3 * loss_of(config, outputs[0], labels, brats_regions()) +
          1.0 / 3 * loss_of(config, outputs[1], resize_labels(labels, {2, 2, 2}), brats_regions()),
      1e-12);
  // The coarsest output has no weight, but a gradient all the same.
  loss.backward();
  EXPECT_GT(outputs[1].grad().abs().min().item<double>(), 0);
  EXPECT_TRUE(torch::equal(outputs[2].grad(), torch::zeros_like(outputs[2])));

  const auto one = deep_supervision_loss(config, {1}, {outputs[0]}, labels, brats_regions());
  EXPECT_EQ(one.item<double>(), loss_of(config, outputs[0], labels, brats_regions()));

  EXPECT_TRUE(testing::gradcheck(
      [&](const std::vector<Tensor>& inputs) {
        return deep_supervision_loss(config, {1, 0.5, 2}, inputs, labels, brats_regions());
      },
      outputs));
}

// Bytes of CPU tensors, those alive and the most at once.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    auto* block = new Block{inner_->allocate(bytes), bytes, this};
    live_ += static_cast<std::int64_t>(bytes);
    peak_ = std::max(peak_, live_);
    return {block->memory.get(), block, &release, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* target, const void* source, std::size_t count) const override {
    inner_->copy_data(target, source, count);
  }
  std::int64_t peak() const { return peak_; }

 private:
  struct Block {
    c10::DataPtr memory;
    std::size_t bytes;
    CountingAllocator* owner;
  };
  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    block->owner->live_ -= static_cast<std::int64_t>(block->bytes);
    delete block;
  }

  c10::Allocator* inner_ = c10::GetDefaultCPUAllocator();
  std::int64_t live_ = 0, peak_ = 0;
};

// Most bytes at once of forward and backward, over those of float32 logits; these not counted.
double relative_peak(const LossConfig& config, const std::vector<data::Region>& regions) {
  constexpr std::int64_t kSize = 32;
  const std::int64_t outputs = regions.empty() ? 4 : 3;
  const auto logits = torch::randn({2, outputs, kSize, kSize, kSize}).requires_grad_();
  const auto labels = torch::randint(4, {2, kSize, kSize, kSize}, torch::kLong);
  static CountingAllocator allocator;  // tensors may outlive the test
  auto* const before = c10::GetCPUAllocator();
  allocator = CountingAllocator();
  c10::SetCPUAllocator(&allocator, /*priority=*/100);
  torch::autograd::grad({segmentation_loss(config, logits, labels, regions)}, {logits});
  c10::SetCPUAllocator(before, /*priority=*/100);
  return static_cast<double>(allocator.peak()) / static_cast<double>(logits.nbytes());
}

// On two patches of 4 x 128^3, whose logits are 64 MB, Dice with cross-entropy takes 288 MB.
TEST(Losses, MemoryBesideTheLogits) {
  const auto expect_peak = [](const char* name, double of_classes, double of_regions) {
    EXPECT_LE(relative_peak(config_of(name), {}), of_classes + 0.01) << name;
    EXPECT_LE(relative_peak(config_of(name), brats_regions()), of_regions + 0.01) << name;
  };
  expect_peak("cross_entropy", 3, 4.25);
  expect_peak("dice_cross_entropy", 4.5, 6.25);
  expect_peak("dice_focal", 4.5, 8.25);
}

}  // namespace
}  // namespace segmamba::engine
