#include "segmamba/nn/recompute.h"

#include <ATen/ThreadLocalState.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/generated/Functions.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

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

namespace {

// Where the gradient function of a convolution or linear layer keeps its input, or nullptr: then it
// stays there.
torch::autograd::SavedVariable* kept_input(torch::autograd::Node* function) {
  namespace functions = torch::autograd::generated;
  // A linear layer of a batch multiplies rows.
  while (dynamic_cast<functions::ViewBackward0*>(function) != nullptr ||
         dynamic_cast<functions::UnsafeViewBackward0*>(function) != nullptr) {
    function = function->next_edge(0).function.get();
  }
  if (auto* convolution = dynamic_cast<functions::ConvolutionBackward0*>(function)) {
    return &convolution->input_;
  }
  if (auto* product = dynamic_cast<functions::AddmmBackward0*>(function)) return &product->mat1_;
  if (auto* product = dynamic_cast<functions::MmBackward0*>(function)) return &product->self_;
  return nullptr;
}

}  // namespace

// Shared by the gradient functions of one result.
class FormedAgain::Again {
 public:
  Again(TensorFunction function, const variable_list& inputs) : function_(std::move(function)) {
    for (const auto& input : inputs) inputs_.push_back(input.detach());
  }

  // With gradients.
  torch::Tensor form_first(variable_list inputs) const { return function_(std::move(inputs)); }
  void add_user() { ++users_; }
  torch::Tensor form() {
    const std::lock_guard lock(mutex_);
    if (!formed_.defined()) {
      const at::ThreadLocalStateGuard surroundings(thread_);
      const NoAutocastCache no_cache;
      const torch::NoGradGuard no_gradients;
      formed_ = function_(inputs_);
      waiting_ = users_;
    }
    // The last one takes it along.
    return --waiting_ > 0 ? formed_ : std::move(formed_);
  }

 private:
  TensorFunction function_;
  variable_list inputs_;
  at::ThreadLocalState thread_;  // autocast among others
  std::mutex mutex_;
  torch::Tensor formed_;
  std::int64_t users_ = 0, waiting_ = 0;
};

class FormedAgain::Hooks : public torch::autograd::SavedVariableHooks {
 public:
  explicit Hooks(std::shared_ptr<Again> again) : again_(std::move(again)) {}
  void call_pack_hook(const at::Tensor& tensor) override {
    type_ = tensor.scalar_type();
    sizes_ = tensor.sizes().vec();
  }
  at::Tensor call_unpack_hook() override { return again_->form().to(type_).reshape(sizes_); }

 private:
  std::shared_ptr<Again> again_;
  // Of what was kept: under autocast a cast of the result, by a linear layer a view.
  at::ScalarType type_ = at::kFloat;
  std::vector<std::int64_t> sizes_;
};

FormedAgain::FormedAgain(TensorFunction function, std::vector<torch::Tensor> inputs) {
  if (!at::GradMode::is_enabled()) {
    first_ = function(std::move(inputs));
    return;
  }
  again_ = std::make_shared<Again>(std::move(function), inputs);
  first_ = again_->form_first(std::move(inputs));
}

FormedAgain FormedAgain::then(torch::Tensor first, const TensorFunction& function) {
  FormedAgain result;
  result.first_ = function({std::move(first)});
  if (again_ == nullptr) return result;
  result.again_ = std::make_shared<Again>(
      [function, form = form()](const variable_list&) { return function({form()}); },
      variable_list());
  return result;
}

std::function<torch::Tensor()> FormedAgain::form() {
  if (again_ == nullptr) return {};
  again_->add_user();
  return [again = again_] { return again->form(); };
}

void FormedAgain::forget_input_of(const torch::Tensor& output) {
  if (again_ == nullptr || !output.requires_grad()) return;
  auto* const input = kept_input(output.grad_fn().get());
  if (input == nullptr) return;
  const auto kept = input->get_raw_data();
  if (!kept || !kept->defined()) return;  // of no use, where the weights are not trained
  again_->add_user();
  input->register_hooks(std::make_unique<Hooks>(again_));
}

}  // namespace segmamba::nn
