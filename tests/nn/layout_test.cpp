// No pass through SegMamba copies a volume only to lay it out in another way.

#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <torch/torch.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "segmamba/core/text.h"
#include "segmamba/nn/inference.h"
#include "segmamba/nn/model.h"

namespace segmamba::nn {
namespace {

using ::testing::ElementsAre;

// As large as what stage 2 makes.
constexpr std::int64_t kVolume = 2 * 24 * 8 * 8 * 8;

// The operators that copied a volume, each with those around it:
// "aten::conv3d > aten::contiguous". LibTorch takes plain functions as callbacks.
struct Copies {
  std::vector<std::string> around, found;
};
Copies* copies = nullptr;

// Not weights, which have a few taps a side.
bool is_volume(const torch::Tensor& tensor) {
  return tensor.numel() >= kVolume && tensor.size(-1) > 7;
}

std::vector<std::string> copies_of(const std::function<void()>& work) {
  Copies all;
  copies = &all;
  const auto callback = at::addThreadLocalCallback(
      at::RecordFunctionCallback(
          [](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
            const std::string name = function.name();
            if (name == "aten::copy_" && is_volume(function.inputs()[0].toTensor())) {
              std::string path;
              for (const auto& outer : copies->around) path += (path.empty() ? "" : " > ") + outer;
              copies->found.push_back(path);
            }
            copies->around.push_back(name);
            return nullptr;
          },
          [](const at::RecordFunction&, at::ObserverContext*) { copies->around.pop_back(); })
          .needsInputs(true));
  work();
  at::removeCallback(callback);
  return all.found;
}

ModelConfig small_config() {
  ModelConfig config;
  config.segmamba.dims = {16, 24, 32, 48};
  config.segmamba.depths = {1, 1, 1, 1};
  config.segmamba.hidden_size = 32;
  return config;
}

// Single items of this size LibTorch hands to a convolution of its own, which copies.
torch::Tensor small_input() { return torch::randn({2, 4, 32, 32, 32}); }

// Those which do not end in one of `known`.
std::vector<std::string> others(std::vector<std::string> found,
                                const std::vector<std::string>& known) {
  std::erase_if(found, [&](const std::string& path) {
    return std::any_of(known.begin(), known.end(),
                       [&](const std::string& end) { return ends_with(path, end); });
  });
  return found;
}

TEST(Layout, InferenceCopiesInputsSkipsAndLogits) {
  const auto model = make_model(small_config());
  prepare_for_inference(*model, torch::kFloat32);
  const auto input = small_input();
  const c10::InferenceMode inference;
  const auto found = copies_of([&] { model->forward(input); });
  // The skip and what goes up, slice by slice, are put beside one another.
  EXPECT_THAT(others(found, {"segmamba::up_convolution_beside"}),
              ElementsAre("aten::to > aten::_to_copy", "aten::contiguous > aten::clone"));
}

TEST(Layout, TrainingCopiesInputsAndWhatGoesUp) {
  const auto model = make_model(small_config());
  const auto input = small_input();
  torch::Tensor loss;
  const auto found = copies_of([&] {
    const auto logits = model->forward(input);
    loss = (logits * logits.detach()).sum();
  });
  EXPECT_THAT(
      found, ElementsAre("aten::contiguous > aten::clone", "decoder4 > aten::reshape > aten::clone",
                         "decoder3 > aten::reshape > aten::clone",
                         "decoder2 > aten::reshape > aten::clone"));
  // In each of the three decoders what goes up is formed again, its gradient laid out in rows, and
  // the skip's taken out of that of both; in stages 1 and 2 the gradients of the scan's data and of
  // its gate are put beside one another.
  const auto of_gradients = copies_of([&] { loss.backward(); });
  EXPECT_THAT(others(of_gradients, {"aten::reshape > aten::clone",
                                    "segmamba::_instance_norm_backward > aten::contiguous > "
                                    "aten::clone",
                                    "segmamba::_mamba_inner_backward"}),
              ElementsAre());
  EXPECT_EQ(of_gradients.size(), 3 * 3 + 2 * 2) << join(of_gradients, "\n");
}

}  // namespace
}  // namespace segmamba::nn
