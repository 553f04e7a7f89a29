#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/distributed.h"

namespace segmamba::engine {
namespace {

using Named = std::vector<std::pair<std::string, torch::Tensor>>;

Named trained_parameters(const torch::nn::Module& model) {
  Named parameters;
  for (const auto& item : model.named_parameters()) {
    if (item.value().requires_grad()) parameters.emplace_back(item.key(), item.value());
  }
  return parameters;
}

// Ranks that sent buckets of other sizes would hang, or average unlike parameters.
void check_same_model(Ranks& ranks, const Named& parameters) {
  std::string mine;
  for (const auto& [name, tensor] : parameters) {
    mine += concat(name, " ", tensor.sizes(), " ", tensor.dtype(), "\n");
  }
  const auto all = ranks.gather(mine);
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] != all[0]) {
      throw Error(concat("rank ", r,
                         " has another model than rank 0: all ranks must be started "
                         "with the same program and config"));
    }
  }
}

// The sizes of PyTorch's DistributedDataParallel: the first bucket is small, so that something
// travels early; 25 MiB keep a network busy.
std::unique_ptr<c10d::Reducer> make_reducer(Ranks& ranks, const Named& named) {
  constexpr std::size_t kFirstBytes = c10d::kDefaultFirstBucketBytes;
  constexpr std::size_t kBytes = c10d::kDefaultBucketBytesCap;
  std::vector<torch::Tensor> parameters;
  std::unordered_map<std::size_t, std::string> names;
  for (const auto& [name, tensor] : named) {
    names[parameters.size()] = name;
    parameters.push_back(tensor);
  }
  const std::vector<bool> sparse(parameters.size(), false);
  auto [buckets, limits] =
      c10d::compute_bucket_assignment_by_size(parameters, {kFirstBytes, kBytes}, sparse);
  // Gradients come about from the end of the model to its start. After the first update the
  // reducer orders the buckets as it has seen them come.
  std::reverse(buckets.begin(), buckets.end());
  std::reverse(limits.begin(), limits.end());
  return std::make_unique<c10d::Reducer>(
      parameters, buckets,
      c10::intrusive_ptr<c10d::ProcessGroup>::unsafe_reclaim_from_nonowning(ranks.process_group()),
      sparse, kBytes, /*find_unused_parameters=*/false,
      // Views would be lost at once: Optimizer::zero_grad drops the gradients.
      /*gradient_as_bucket_view=*/false, names, kFirstBytes,
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
      std::vector<std::int64_t>(limits.begin(), limits.end()));
}

}  // namespace

struct GradientAverager::Impl {
  Named parameters;
  std::unique_ptr<c10d::Reducer> reducer;
};

GradientAverager::GradientAverager(Ranks& ranks, const torch::nn::Module& model) {
  if (ranks.size() == 1) return;
  auto parameters = trained_parameters(model);
  check_same_model(ranks, parameters);
  auto reducer = make_reducer(ranks, parameters);
  impl_ = std::make_unique<Impl>(Impl{std::move(parameters), std::move(reducer)});
}

GradientAverager::~GradientAverager() = default;

void GradientAverager::before_forward() {
  if (!impl_) return;
  impl_->reducer->prepare_for_forward();
  impl_->reducer->rebuild_buckets();
}

void GradientAverager::before_backward() {
  if (impl_) impl_->reducer->prepare_for_backward({});
}

void GradientAverager::after_backward() {
  if (!impl_) return;
  try {
    impl_->reducer->check_finalized();
  } catch (const std::exception&) {
    std::vector<std::string> unreached;
    for (const auto& [name, tensor] : impl_->parameters) {
      if (!tensor.grad().defined()) unreached.push_back(name);
    }
    throw Error(concat("gradients cannot be averaged over the ranks: the loss does not depend on ",
                       unreached.empty() ? "every parameter" : join(unreached, ", "),
                       "; train on one rank, or take the parameter out of the model"));
  }
}

}  // namespace segmamba::engine
