#include "segmamba/nn/cost.h"

#include <ATen/autocast_mode.h>
#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "support/error_of.h"

namespace segmamba::nn {
namespace {

// Convolutions by hand: a decoder1 of 2 -> 2 channels on 4^3 voxels and so on.
TEST(ForwardCost, CountsMultiplyAddsOfEveryPart) {
  ModelConfig config;
  config.segmamba.encoder = "bidirectional";
  config.in_channels = 1;
  config.out_channels = 3;
  config.segmamba.dims = {2};
  config.segmamba.depths = {1};
  config.segmamba.hidden_size = 5;
  const std::int64_t full = 4 * 4 * 8, half = full / 8;
  const std::int64_t E = 4, N = 16, R = 1, K = 2;
  const std::int64_t expected =
      half * 2 * 343 +                                                                  // stem
      half * (2 * 2 * E + K * (4 * E + E * (R + 2 * N) + R * E + 3 * E * N) + E * 2) +  // Mamba
      half * 2 * (2 * 8) +                                                              // mlps.0
      full * 2 * (1 * 27 + 2 * 27 + 1) +                                                // encoder1
      half * 5 * (2 * 27 + 5 * 27 + 2) +                                                // encoder2
      half * 5 * 2 * 8 +                  // decoder2.transp_conv
      full * 2 * (4 * 27 + 2 * 27 + 4) +  // decoder2.conv_block
      full * 2 * (2 * 27 + 2 * 27) +      // decoder1
      full * 2 * 3;                       // out
  const auto cost = forward_cost(config, {1, 1, 4, 4, 8});
  EXPECT_EQ(cost.multiply_adds, expected);
  // At least the concatenation and its parts in decoder2.
  EXPECT_GE(cost.peak_bytes, 4 * full * (4 + 4));
  EXPECT_EQ(forward_cost(config, {2, 1, 4, 4, 8}).multiply_adds, 2 * expected);
}

// Attention weighs every token for every token, twice: for the weights and with them.
TEST(ForwardCost, CountsAttention) {
  ModelConfig config;
  config.name = "unetr";
  config.in_channels = 2;
  config.out_channels = 3;
  config.unetr.img_size = {16, 32, 32};
  config.unetr.feature_size = 1;
  config.unetr.hidden_size = 6;
  config.unetr.mlp_dim = 10;
  config.unetr.num_heads = 2;
  const std::int64_t N = 4, H = 6, M = 10;
  // Transposed convolutions and residual blocks, by the number of voxels that come out.
  const auto up = [](std::int64_t voxels, std::int64_t in, std::int64_t out) {
    return voxels * in * out;
  };
  const auto block = [](std::int64_t voxels, std::int64_t in, std::int64_t out) {
    return voxels * out * (27 * in + 27 * out + (in == out ? 0 : in));
  };
  const std::int64_t n8 = 8 * N, n4 = 64 * N, n2 = 512 * N, n1 = 4096 * N;
  const std::int64_t expected =
      n1 * 2 * H + 12 * (N * (3 * H * H + H * H + 2 * H * M) + 2 * N * N * H) +
      block(n1, 2, 1) +                                                                 // encoder1
      up(n8, H, 2) + up(n4, 2, 2) + block(n4, 2, 2) + up(n2, 2, 2) + block(n2, 2, 2) +  // encoder2
      up(n8, H, 4) + up(n4, 4, 4) + block(n4, 4, 4) + up(n8, H, 8) +  // encoder3, encoder4
      up(n8, H, 8) + block(n8, 16, 8) + up(n4, 8, 4) + block(n4, 8, 4) + up(n2, 4, 2) +
      block(n2, 4, 2) + up(n1, 2, 1) + block(n1, 2, 1) +  // decoder5 .. decoder2
      n1 * 3;                                             // out
  EXPECT_EQ(forward_cost(config, {1, 2, 16, 32, 32}).multiply_adds, expected);
}

// Hears of all memory that LibTorch takes on the CPU, as a profiler would.
class Books final : public c10::MemoryReportingInfoBase {
 public:
  Books() {
    current_ = this;
    callback_ = at::addThreadLocalCallback(at::RecordFunctionCallback(begin, end));
  }
  ~Books() override { at::removeCallback(callback_); }

  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t,
                         c10::Device) override {
    live += bytes;
  }
  bool memoryProfilingEnabled() const override { return true; }

  std::int64_t live = 0;
  // The most that was live outside of library calls: their workspaces, such as copies in oneDNN's
  // own formats, come and go within a call.
  std::int64_t peak = 0;

 private:
  static bool is_library_call(const at::RecordFunction& function) {
    const std::string name = function.name();
    return name.find("convolution") != std::string::npos ||
           name == "aten::native_batch_norm_backward";
  }
  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    if (is_library_call(function)) ++current_->library_calls_;
    return nullptr;
  }
  static void end(const at::RecordFunction& function, at::ObserverContext*) {
    if (is_library_call(function)) --current_->library_calls_;
    if (current_->library_calls_ > 0) return;
    current_->peak = std::max(current_->peak, current_->live);
  }

  static inline Books* current_ = nullptr;
  at::CallbackHandle callback_;
  std::int64_t library_calls_ = 0;  // that are under way
};

torch::Tensor loss_of(const std::vector<torch::Tensor>& outputs) {
  const auto& logits = outputs[0];
  return torch::log_softmax(logits.to(torch::kFloat), 1).select(1, 0).mean();
}

// What a real pass on the CPU takes, weights and gradients not counted.
TrainingCost measured_cost(const ModelConfig& config, const TrainingPass& pass) {
  const auto model = make_model(config);
  model->set_recomputed(pass.recomputed);
  for (auto& parameter : model->parameters()) {
    parameter.mutable_grad() = torch::zeros_like(parameter);
  }
  const auto books = std::make_shared<Books>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, books);
  TrainingCost cost;
  if (pass.autocast) {
    at::autocast::set_autocast_enabled(torch::kCPU, true);
    at::autocast::set_autocast_dtype(torch::kCPU, *pass.autocast);
    at::autocast::increment_nesting();
  }
  const auto outputs = model->forward_deep(torch::ones(pass.input_sizes));
  if (pass.autocast) {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(torch::kCPU, false);
  }
  cost.kept_bytes = books->live;
  pass.loss(outputs).backward();
  cost.peak_bytes = books->peak;
  return cost;
}

ModelConfig config_of(const std::string& encoder) {
  ModelConfig config;
  config.segmamba.encoder = encoder;
  config.segmamba.dims = {8, 16, 24};
  config.segmamba.depths = {1, 2, 1};
  config.segmamba.hidden_size = 32;
  return config;
}

double relative_error(std::int64_t predicted, std::int64_t measured) {
  return static_cast<double>(predicted) / static_cast<double>(measured) - 1;
}

TEST(TrainingCost, IsWhatAPassOnTheCpuTakes) {
  for (const char* encoder : {"tom", "paper"}) {
    for (const bool mixed : {false, true}) {
      for (const std::vector<std::string>& recomputed :
           {std::vector<std::string>{}, {"stage1", "encoder1", "decoder2", "decoder1"}, {"all"}}) {
        TrainingPass pass{.input_sizes = {2, 4, 24, 32, 24},
                          .recomputed = recomputed,
                          .device = torch::kCPU,
                          .loss = loss_of};
        if (mixed) pass.autocast = torch::kBFloat16;
        const auto predicted = training_cost(config_of(encoder), pass);
        const auto measured = measured_cost(config_of(encoder), pass);
        SCOPED_TRACE(::testing::Message() << encoder << (mixed ? " bf16 " : " fp32 ")
                                          << ::testing::PrintToString(recomputed));
        EXPECT_LT(std::abs(relative_error(predicted.kept_bytes, measured.kept_bytes)), 0.02);
        EXPECT_LT(std::abs(relative_error(predicted.peak_bytes, measured.peak_bytes)), 0.02);
      }
    }
  }
}

}  // namespace
}  // namespace segmamba::nn
