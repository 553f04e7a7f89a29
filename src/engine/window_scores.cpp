#include "window_scores.h"

#include <ATen/DeviceAccelerator.h>

#include <utility>

#include "segmamba/engine/precision.h"

namespace segmamba::engine {
namespace {

constexpr std::int64_t kOutputs = -4;  // the dimension of outputs, with a batch or without

}  // namespace

std::int64_t ScoreKind::channels(std::int64_t outputs) const {
  if (!with_uncertainty) return outputs;
  return is_probability ? outputs + 1 : 2 * outputs + 1;
}

torch::Tensor ScoreKind::probabilities(const torch::Tensor& scores) const {
  if (!with_uncertainty) return scores;
  const auto channels = scores.size(kOutputs) - 1;
  return is_probability ? scores.narrow(kOutputs, 0, channels)
                        : scores.narrow(kOutputs, channels / 2, channels / 2);
}

torch::Tensor ScoreKind::to_probabilities(const torch::Tensor& logits) const {
  return is_regions ? logits.sigmoid() : logits.softmax(kOutputs);
}

torch::Tensor ScoreKind::entropy(const torch::Tensor& probabilities) const {
  auto entropies = at::special_entr(probabilities);
  if (!is_regions) return entropies.sum(kOutputs, /*keepdim=*/true).clamp_min_(0);
  // Interpolated ones may lie above 1 by a rounding.
  entropies += at::special_entr((1 - probabilities).clamp_min_(0));
  return entropies.mean(kOutputs, /*keepdim=*/true).clamp_min_(0);
}

void ScoreKind::finish_uncertainty(const torch::Tensor& scores) const {
  if (!with_uncertainty) return;
  const auto last = scores.narrow(kOutputs, -1, 1);
  // Never below 0 but for rounding: entropy is concave.
  last.copy_((entropy(probabilities(scores)) - last).clamp_min_(0));
}

std::vector<std::vector<std::int64_t>> mirrorings(const std::vector<std::int64_t>& axes) {
  std::vector<std::vector<std::int64_t>> all = {{}};
  for (const auto axis : axes) {
    const std::size_t count = all.size();
    for (std::size_t i = 0; i < count; ++i) {
      auto larger = all[i];
      larger.push_back(axis + 2);
      all.push_back(std::move(larger));
    }
  }
  return all;
}

torch::Tensor RecordedPasses::run(std::size_t model, const torch::Tensor& input,
                                  const std::function<torch::Tensor(const torch::Tensor&)>& pass) {
  const std::scoped_lock lock(mutex_);
  if (!records_) return pass(input);
  const auto [found, is_first] = recordings_.try_emplace({model, input.sizes().vec()}, Recording());
  auto& recording = found->second;
  if (is_first) return pass(input);
  try {
    if (!recording.graph) {
      // One after another, they share the memory of what lies between input and output.
      const DeviceGraph* other = nullptr;
      for (const auto& [key, earlier] : recordings_) {
        if (earlier.graph) other = &earlier.graph;
      }
      recording.input = torch::empty_like(input);
      recording.graph = DeviceGraph(
          input.device(), [&] { recording.output = pass(recording.input); }, other);
    }
    recording.input.copy_(input);
    recording.graph.replay();
    return recording.output.clone();
  } catch (const std::exception&) {
    // No memory for it, or work that cannot be recorded: a pass of its own says what is wrong.
  }
  recordings_.clear();
  records_ = false;
  at::accelerator::emptyCache();
  return pass(input);
}

WindowScores::WindowScores(Models models, const std::vector<std::int64_t>& mirror_axes,
                           std::optional<torch::ScalarType> type, const torch::Device& device,
                           bool weights_change)
    : models_(std::move(models)),
      mirrorings_(mirrorings(mirror_axes)),
      type_(type),
      device_(device) {
  if (device_.is_cuda() && !weights_change) recorded_ = std::make_unique<RecordedPasses>();
}

std::int64_t WindowScores::passes() const { return std::ssize(models_) * std::ssize(mirrorings_); }

torch::Tensor WindowScores::logits(std::size_t model, const torch::Tensor& windows) const {
  const auto pass = [&](const torch::Tensor& input) {
    const Autocast autocast(device_, type_);
    return models_[model]->forward(input).to(torch::kFloat);
  };
  return recorded_ ? recorded_->run(model, windows, pass) : pass(windows);
}

torch::Tensor WindowScores::operator()(const torch::Tensor& windows, const ScoreKind& kind,
                                       const std::function<void()>& before_pass) const {
  const auto input = windows.to(device_);
  torch::Tensor sum;
  for (const auto& axes : mirrorings_) {
    const auto mirrored = axes.empty() ? input : input.flip(axes);
    for (std::size_t model = 0; model < models_.size(); ++model) {
      before_pass();
      auto scores = logits(model, mirrored);
      const auto outputs = scores.size(1);
      if (kind.is_probability) scores = kind.to_probabilities(scores);
      if (kind.with_uncertainty) {
        std::vector<torch::Tensor> all = {scores};
        if (!kind.is_probability) all.push_back(kind.to_probabilities(scores));
        all.push_back(kind.entropy(all.back()));
        scores = torch::cat(all, 1);
      }
      if (!axes.empty()) scores = scores.flip(axes);
      if (!sum.defined()) {
        sum = torch::zeros({scores.size(0), kind.channels(outputs), scores.size(2), scores.size(3),
                            scores.size(4)},
                           scores.options());
      }
      sum += scores;
    }
  }
  return sum.div_(static_cast<double>(passes()));
}

}  // namespace segmamba::engine
