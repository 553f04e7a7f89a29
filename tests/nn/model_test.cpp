// What every network of the framework keeps to, whatever its architecture.

#include "segmamba/nn/model.h"

#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "golden.h"
#include "segmamba/nn/cost.h"
#include "segmamba/nn/inference.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/weights.h"
#include "small_models.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

using test::error_of;
using test::near;
using test::SmallModel;
using ::testing::HasSubstr;

class EveryModel : public ::testing::TestWithParam<SmallModel> {
 protected:
  void SetUp() override {
    torch::manual_seed(7);
    at::set_num_threads(1);  // networks this small only lose by more
  }
  void TearDown() override { at::set_num_threads(threads_); }
  std::shared_ptr<SegmentationModel> make() const { return make_model(GetParam().config()); }

 private:
  int threads_ = at::get_num_threads();
};

TEST(ModelNames, EachHasASmallConfigHere) {
  std::set<std::string> names;
  for (const auto& model : test::small_models()) names.insert(model.config().name);
  for (const auto& name : model_names()) EXPECT_TRUE(names.contains(name)) << name;
}

TEST_P(EveryModel, GivesLogitsOfTheInputsSize) {
  const auto model = make();
  const auto input = GetParam().input(2);
  const auto outputs = model->forward_deep(input);
  ASSERT_EQ(outputs.size(), model->deep_output_count());
  for (const auto& output : outputs) {
    ASSERT_EQ(output.dim(), 5);
    EXPECT_EQ(output.size(0), 2);
    EXPECT_EQ(output.size(1), 3);
  }
  EXPECT_EQ(outputs[0].sizes().slice(2), input.sizes().slice(2));
  for (std::size_t i = 1; i < outputs.size(); ++i) {
    EXPECT_LT(outputs[i].numel(), outputs[i - 1].numel()) << "finest first";
  }
  model->eval();
  const torch::NoGradGuard no_grad;
  const auto logits = model->forward(input);
  EXPECT_TRUE(torch::equal(logits, model->forward_deep(input)[0]));
  // No item of a batch sees another one.
  EXPECT_TRUE(near(model->forward(input.narrow(0, 1, 1)), logits.narrow(0, 1, 1), 1e-4));
}

TEST_P(EveryModel, RefusesWhatDoesNotFit) {
  const auto model = make();
  auto sizes = GetParam().input().sizes().vec();
  ++sizes[4];
  EXPECT_THAT(error_of([&] { model->forward(torch::zeros(sizes)); }), HasSubstr("does not fit: "));
  --sizes[4];
  sizes[1] = 3;
  EXPECT_THAT(error_of([&] { model->forward(torch::zeros(sizes)); }), HasSubstr("[B, 2, D, H, W]"));
}

// Each parameter that can be trained is.
TEST_P(EveryModel, GradientsReachEveryParameter) {
  const auto model = make();
  torch::Tensor loss;
  for (const auto& output : model->forward_deep(GetParam().input(2))) {
    const auto term = (output * torch::randn_like(output)).sum();
    loss = loss.defined() ? loss + term : term;
  }
  loss.backward();
  for (const auto& parameter : model->named_parameters()) {
    EXPECT_EQ(parameter->grad().defined(), parameter->requires_grad()) << parameter.key();
  }
}

TEST_P(EveryModel, RecomputingChangesNoBit) {
  const auto model = make();
  const auto input = GetParam().input(2);
  const auto gradients = [&](const std::vector<std::string>& recomputed) {
    model->set_recomputed(recomputed);
    model->zero_grad();
    torch::manual_seed(11);
    torch::Tensor loss;
    for (const auto& output : model->forward_deep(input)) {
      loss = loss.defined() ? loss + output.square().sum() : output.square().sum();
    }
    loss.backward();
    std::vector<torch::Tensor> result = {loss.detach()};
    for (const auto& parameter : model->parameters()) {
      if (parameter.grad().defined()) result.push_back(parameter.grad().clone());
    }
    return result;
  };
  EXPECT_FALSE(model->parts().empty());
  const auto plain = gradients({}), recomputed = gradients({"all"});
  ASSERT_EQ(plain.size(), recomputed.size());
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_TRUE(torch::equal(plain[i], recomputed[i])) << i;
  }
}

TEST_P(EveryModel, PreparedForInferenceItComputesTheSame) {
  const auto model = make();
  const auto input = GetParam().input(2);
  model->eval();
  const torch::NoGradGuard no_grad;
  const auto expected = model->forward(input);
  for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
    const auto prepared = make();
    load_state_dict(*prepared, state_dict(*model));
    prepare_for_inference(*prepared, type);
    const c10::InferenceMode inference;
    const auto logits = prepared->forward(input);
    EXPECT_EQ(logits.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(near(logits, expected, type == torch::kFloat32 ? 1e-4 : 0.1)) << type;
  }
}

TEST_P(EveryModel, RunsUnderAutocast) {
  const auto model = make();
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, torch::kBFloat16);
  const auto outputs = model->forward_deep(GetParam().input(2));
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  torch::Tensor loss;
  for (const auto& output : outputs) {
    const auto term = output.to(torch::kFloat).square().sum();
    loss = loss.defined() ? loss + term : term;
  }
  loss.backward();
  for (const auto& parameter : model->named_parameters()) {
    if (!parameter->requires_grad()) continue;
    EXPECT_TRUE(torch::isfinite(parameter->grad()).all().item<bool>()) << parameter.key();
  }
}

TEST_P(EveryModel, CanBeCountedWithoutBeingRun) {
  auto sizes = GetParam().sizes;
  sizes.insert(sizes.begin(), {1, 2});
  const auto config = GetParam().config();
  const auto forward = forward_cost(config, sizes);
  const auto training = training_cost(config, {.input_sizes = sizes});
  EXPECT_GT(forward.multiply_adds, 0);
  EXPECT_GT(training.peak_bytes, forward.peak_bytes);
}

TEST_P(EveryModel, IsWhatItWasAfterAFile) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.safetensors";
  const auto model = make(), other = make();
  write_safetensors(path, {.tensors = state_dict(*model), .metadata = {}});
  load_state_dict(*other, read_weights(path));
  model->eval();
  other->eval();
  const torch::NoGradGuard no_grad;
  const auto input = GetParam().input();
  EXPECT_TRUE(torch::equal(model->forward(input), other->forward(input)));
}

TEST_P(EveryModel, ReadsBackTheConfigItWrites) {
  const auto config = GetParam().config();
  ModelConfig read;
  ConfigDocument::from_text(config_to_yaml(config), "test").read(read);
  EXPECT_EQ(config_to_yaml(read), config_to_yaml(config));
  EXPECT_EQ(parameter_count(*make_model(read)), parameter_count(*make()));
}

// One test for all, so that machines without a GPU skip once.
TEST(CudaModels, ComputeWhatTheCpuDoes) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU on this machine";
  at::globalContext().setAllowTF32CuDNN(false);
  for (const auto& small : test::small_models()) {
    SCOPED_TRACE(small.name);
    torch::manual_seed(7);
    const auto model = make_model(small.config());
    model->eval();  // dropout draws other numbers there
    const auto input = small.input(2);
    const auto run = [&](const torch::Device& device) {
      model->to(device);
      model->zero_grad();
      torch::Tensor loss;
      std::vector<torch::Tensor> results;
      for (const auto& output : model->forward_deep(input.to(device))) {
        const auto wave = torch::cos(torch::arange(output.numel()) * 0.37).view(output.sizes());
        const auto term = (output * wave.to(device)).sum();
        loss = loss.defined() ? loss + term : term;
        results.push_back(output.detach().cpu());
      }
      loss.backward();
      std::vector<torch::Tensor> norms;
      for (const auto& parameter : model->parameters()) {
        norms.push_back(parameter.grad().defined() ? parameter.grad().norm().cpu()
                                                   : torch::zeros({}));
      }
      results.push_back(torch::stack(norms));
      return results;
    };
    const auto expected = run(torch::kCPU), actual = run(torch::kCUDA);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(near(actual[i], expected[i], 1e-3)) << i;
    }
    for (const auto type : {torch::kFloat32, torch::kBFloat16, torch::kHalf}) {
      const auto prepared = make_model(small.config());
      load_state_dict(*prepared, state_dict(*model));
      prepared->to(torch::kCUDA);
      prepare_for_inference(*prepared, type);
      const c10::InferenceMode inference;
      const auto logits = prepared->forward(input.to(torch::kCUDA)).cpu();
      EXPECT_TRUE(near(logits, expected[0], type == torch::kFloat32 ? 1e-3 : 0.1)) << type;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EveryModel, ::testing::ValuesIn(test::small_models()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace segmamba::nn
