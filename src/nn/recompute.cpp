#include "segmamba/nn/recompute.h"

#include <ATen/ThreadLocalState.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <mutex>
#include <utility>

#include "segmamba/core/error.h"

namespace segmamba::nn {
namespace {

thread_local int second_runs = 0;  // that this thread is in

using torch::autograd::variable_list;

// The states of the random number generators that a function of some tensors may draw from.
class RandomState {
 public:
  explicit RandomState(const variable_list& tensors) {
    generators_.push_back(at::globalContext().defaultGenerator(torch::kCPU));
    for (const auto& tensor : tensors) {
      if (!tensor.is_cuda()) continue;
      generators_.push_back(at::globalContext().defaultGenerator(tensor.device()));
      break;
    }
    for (auto& generator : generators_) {
      const std::lock_guard lock(generator.mutex());
      states_.push_back(generator.get_state());
    }
  }
  void restore() {
    for (std::size_t i = 0; i < generators_.size(); ++i) {
      const std::lock_guard lock(generators_[i].mutex());
      generators_[i].set_state(states_[i]);
    }
  }

 private:
  std::vector<at::Generator> generators_;
  std::vector<torch::Tensor> states_;
};

// Each run casts for itself: a cast that autocast has cached in the first run, without gradients,
// would cut a parameter off in the second.
class NoAutocastCache {
 public:
  NoAutocastCache() { at::autocast::set_autocast_cache_enabled(false); }
  ~NoAutocastCache() { at::autocast::set_autocast_cache_enabled(previous_); }
  NoAutocastCache(const NoAutocastCache&) = delete;
  NoAutocastCache& operator=(const NoAutocastCache&) = delete;

 private:
  bool previous_ = at::autocast::is_autocast_cache_enabled();
};

class RecomputedCall : public torch::autograd::Node {
 public:
  // To be made before the first run, whose surroundings it keeps.
  RecomputedCall(TensorFunction function, const variable_list& inputs)
      : Node(torch::autograd::collect_next_edges(inputs)),
        function_(std::move(function)),
        random_(inputs) {
    for (const auto& input : inputs) inputs_.emplace_back(input, /*is_output=*/false);
  }

  variable_list apply(variable_list&& gradients) override {
    if (at::GradMode::is_enabled()) {
      throw Error(
          "recomputed parts of a model have no second derivative: set training.recompute to []");
    }
    variable_list inputs;
    for (auto& saved : inputs_) {
      const auto input = saved.unpack(shared_from_this());
      inputs.push_back(input.detach().set_requires_grad(input.requires_grad()));
    }
    const auto output = run_again(inputs);
    // A call of its own, so that gradients reach the parameters, with all their hooks.
    if (output.requires_grad()) torch::autograd::backward({output}, {gradients[0]});
    variable_list result;
    for (const auto& input : inputs) result.push_back(input.grad());
    return result;
  }

  void release_variables() override { inputs_.clear(); }

 private:
  torch::Tensor run_again(const variable_list& inputs) {
    struct Now {
      explicit Now(const variable_list& tensors) : random(tensors) { ++second_runs; }
      ~Now() {
        --second_runs;
        random.restore();
      }
      RandomState random;
    } now(inputs);
    const at::ThreadLocalStateGuard surroundings(thread_);
    const NoAutocastCache no_cache;
    const torch::AutoGradMode gradients(true);
    random_.restore();
    return function_(inputs);
  }

  TensorFunction function_;
  std::vector<torch::autograd::SavedVariable> inputs_;
  RandomState random_;
  at::ThreadLocalState thread_;  // autocast among others
};

}  // namespace

bool is_recomputing() { return second_runs > 0; }

torch::Tensor recompute(const TensorFunction& function, std::vector<torch::Tensor> inputs) {
  if (!at::GradMode::is_enabled()) return function(std::move(inputs));
  const auto call = std::make_shared<RecomputedCall>(function, inputs);
  torch::Tensor output;
  {
    const torch::NoGradGuard no_gradients;
    const NoAutocastCache no_cache;
    output = function(std::move(inputs)).detach();  // neither a view nor an input
  }
  torch::autograd::set_history(output, call);
  return output;
}

}  // namespace segmamba::nn
