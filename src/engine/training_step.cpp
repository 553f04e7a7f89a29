#include "segmamba/engine/training_step.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/losses.h"
#include "segmamba/nn/first_non_finite.h"
#include "segmamba/nn/weights.h"

namespace segmamba::engine {
namespace {

torch::Device device_of(const torch::nn::Module& module) {
  return module.parameters().front().device();
}

// The gradient nearest to the loss that is not finite: parameters stand in the order of the forward
// pass.
std::string first_bad_gradient(const torch::nn::Module& module) {
  const auto parameters = module.named_parameters();
  for (std::size_t i = parameters.size(); i-- > 0;) {
    const auto& gradient = parameters[i].value().grad();
    if (gradient.defined() && !torch::isfinite(gradient).all().item<bool>()) {
      return "the gradient of " + parameters[i].key();
    }
  }
  return "";
}

}  // namespace

void check_recording(const TrainingConfig& config, const torch::Device& device,
                     std::int64_t ranks) {
  if (!config.graph) return;
  if (ranks > 1 || !device.is_cuda()) {
    throw Error("training.graph is for runs on one GPU: set it to false");
  }
  if (!config.recompute.empty()) {
    throw Error(
        "training.graph cannot record parts that are computed again: set it to false, or "
        "training.recompute to []");
  }
}

TrainingStep::TrainingStep(std::shared_ptr<nn::SegmentationModel> model, const TrainConfig& config,
                           Ranks& ranks)
    : model_(std::move(model)),
      loss_(config.loss),
      output_weights_(deep_supervision_weights(loss_, model_->deep_output_count(),
                                               model_->trains_coarsest_output())),
      regions_(data::parse_regions(config.data.regions, config.data.classes)),
      micro_batch_size_(config.training.micro_batch_size),
      gradient_clip_norm_(config.training.gradient_clip_norm),
      ranks_(ranks),
      autocast_type_(autocast_type(parse_precision(config.training.precision, device_of(*model_)))),
      optimizer_(config.optimizer, *model_),
      scaler_(config.training.precision == "fp16", device_of(*model_)),
      averager_(ranks, *model_),
      records_(config.training.graph) {
  check_recording(config.training, device_of(*model_), ranks.size());
  if (config.training.ema_decay > 0) average_.emplace(*model_, config.training.ema_decay);
}

torch::Tensor TrainingStep::accumulate_gradients(const torch::Tensor& images,
                                                 const torch::Tensor& labels) {
  const auto batch = images.size(0);
  const auto size = micro_batch_size_ > 0 ? std::min(micro_batch_size_, batch) : batch;
  SumOverRanks sum_over_ranks;
  if (ranks_.size() > 1) {
    sum_over_ranks = [this](const torch::Tensor& tensor) { return ranks_.sum(tensor); };
  }
  torch::Tensor mean_loss;
  for (std::int64_t first = 0; first < batch; first += size) {
    const auto count = std::min(size, batch - first);
    const bool is_last = first + count == batch;
    if (is_last) averager_.before_forward();
    torch::Tensor loss;
    {
      const Autocast autocast(images.device(), autocast_type_);
      const auto outputs = model_->forward_deep(images.narrow(0, first, count));
      RECORD_USER_SCOPE("loss");  // for nn::profile()
      loss = deep_supervision_loss(loss_, output_weights_, outputs, labels.narrow(0, first, count),
                                   regions_, sum_over_ranks);
    }
    if (count != batch) loss = loss * (static_cast<double>(count) / static_cast<double>(batch));
    if (is_last) averager_.before_backward();
    scaler_.scaled(loss).backward();
    if (is_last) averager_.after_backward();
    mean_loss = mean_loss.defined() ? mean_loss + loss.detach() : loss.detach();
  }
  return mean_loss;
}

// The first steps run as they are: LibTorch's libraries set themselves up.
torch::Tensor TrainingStep::replay_gradients(const torch::Tensor& images,
                                             const torch::Tensor& labels) {
  auto& r = recording_;
  if (!r.graph) {
    if (steps_before_recording_-- > 0) return accumulate_gradients(images, labels);
    r.images = torch::empty_like(images);
    r.labels = torch::empty_like(labels);
    try {
      r.graph =
          DeviceGraph(images.device(), [&] { r.loss = accumulate_gradients(r.images, r.labels); });
    } catch (const c10::OutOfMemoryError&) {
      throw;  // has advice of its own
    } catch (const std::exception& error) {
      throw Error(concat("this network's step cannot be recorded, set training.graph to false: ",
                         error.what()));
    }
    for (const auto& parameter : model_->parameters()) {
      if (parameter.grad().defined()) r.gradients.emplace_back(parameter, parameter.grad());
    }
  }
  if (images.sizes() != r.images.sizes()) return accumulate_gradients(images, labels);
  r.images.copy_(images);
  r.labels.copy_(labels);
  r.graph.replay();
  for (auto& [parameter, gradient] : r.gradients) parameter.mutable_grad() = gradient;
  return r.loss;
}

// All ranks come here together. A rank whose own forward pass is sound sees the trouble of another
// in its averaged gradients only.
std::string TrainingStep::find_culprit(const torch::Tensor& images, bool loss_is_finite) {
  std::string found;
  if (!loss_is_finite) {
    const Autocast autocast(images.device(), autocast_type_);
    const auto size = micro_batch_size_ > 0 ? micro_batch_size_ : images.size(0);
    try {
      for (const auto& part : images.split(size)) {
        if (found.empty()) found = nn::first_non_finite(*model_, part);
      }
    } catch (const c10::OutOfMemoryError&) {
      found = "unknown (there is no memory to look for it)";
    }
    if (found.empty()) found = "the loss";
  }
  const auto all = ranks_.gather(found);
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (!all[r].empty()) return all.size() > 1 ? concat(all[r], " (rank ", r, ")") : all[r];
  }
  return first_bad_gradient(*model_);
}

StepResult TrainingStep::run(const torch::Tensor& images, const torch::Tensor& labels,
                             double learning_rate) {
  StepResult result;
  model_->train();
  const auto loss =
      records_ ? replay_gradients(images, labels) : accumulate_gradients(images, labels);

  const torch::NoGradGuard no_grad;
  const auto gradients = optimizer_.gradients();
  if (gradients.empty()) throw Error("the loss reaches no parameter of the model");
  const auto scale = scaler_.scale().clone();  // with which the gradients were made
  scaler_.unscale(gradients);
  // One wait for the device.
  const auto figures =
      torch::stack({loss.to(torch::kDouble), total_norm(gradients).to(torch::kDouble),
                    scale.to(torch::kDouble)})
          .cpu();
  const auto own_loss = figures[0].item<double>();
  result.loss = ranks_.sum({own_loss})[0] / static_cast<double>(ranks_.size());
  result.gradient_norm = figures[1].item<double>();
  result.loss_scale = figures[2].item<double>();
  // The same on all ranks: the gradients are averages already.
  result.finite = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
  if (result.finite) {
    RECORD_USER_SCOPE("optimizer");
    clip(gradients, result.gradient_norm, gradient_clip_norm_);
    optimizer_.step(learning_rate);
    if (average_) average_->update();
  } else {
    result.culprit = find_culprit(images, std::isfinite(own_loss));
  }
  scaler_.update();
  optimizer_.zero_grad();  // their memory is for others until the next step
  return result;
}

TrainingStep::State TrainingStep::state() const {
  State state;
  state.optimizer = optimizer_.state();
  state.scaler = scaler_.state();
  if (average_) {
    state.average = average_->state();
    state.average_updates = average_->updates();
  }
  return state;
}

void TrainingStep::load(const State& state) {
  optimizer_.load_state(state.optimizer);
  scaler_.load(state.scaler);
  if (!average_) return;
  if (state.average.empty()) {
    average_->load(nn::state_dict(*model_), 0);
  } else {
    average_->load(state.average, state.average_updates);
  }
}

}  // namespace segmamba::engine
