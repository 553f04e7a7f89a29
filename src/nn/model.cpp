#include "segmamba/nn/model.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <map>
#include <utility>

#include "meta_device.h"
#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/mednext.h"
#include "segmamba/nn/nnformer.h"
#include "segmamba/nn/nnunet.h"
#include "segmamba/nn/segmamba.h"
#include "segmamba/nn/segresnet.h"
#include "segmamba/nn/swin_unetr.h"
#include "segmamba/nn/transbts.h"
#include "segmamba/nn/umamba.h"
#include "segmamba/nn/unetr.h"
#include "segmamba/nn/uxnet.h"
#include "segmamba/nn/vim.h"
#include "segmamba/nn/vmamba.h"
#include "segmamba/nn/weights.h"

namespace segmamba::nn {
namespace {

struct Network {
  std::shared_ptr<SegmentationModel> (*make)(const ModelConfig&);
  InputSizes (*input_sizes)(const ModelConfig&);
};

template <class Model>
Network network() {
  return {[](const ModelConfig& config) -> std::shared_ptr<SegmentationModel> {
            return std::make_shared<Model>(config);
          },
          Model::input_sizes};
}

// Every network of the framework: a new one is a line here and one in model_config.cpp.
const std::map<std::string, Network>& networks() {
  static const std::map<std::string, Network> table = {
      {"mednext", network<MedNextImpl>()},
      {"nnunet", network<NnUnetImpl>()},
      {"nnunet_resenc", network<NnUnetResEncImpl>()},
      {"segmamba", network<SegMambaImpl>()},
      {"segresnet", network<SegResNetImpl>()},
      {"transbts", network<TransBtsImpl>()},
      {"uxnet", network<UxNetImpl>()},
      {"vim", network<VimImpl>()},
      {"vmamba", network<VMambaImpl>()},
      {"unetr", network<UnetrImpl>()},
      {"swin_unetr", network<SwinUnetrImpl>()},
      {"swin_unetr_v2", network<SwinUnetrImpl>()},
      {"nnformer", network<NnFormerImpl>()},
      {"umamba_bot", network<UMambaImpl>()},
      {"umamba_enc", network<UMambaImpl>()},
  };
  return table;
}

// The network of a config whose keys are within their limits.
const Network& find_network(const ModelConfig& config) {
  const auto found = networks().find(config.name);
  if (found == networks().end()) {
    throw Error(concat("model.name: there is no network \"", config.name, "\"; choose one of ",
                       join(model_names(), ", ")));
  }
  check_limits(config, "model");
  return found->second;
}

}  // namespace

void SegmentationModel::set_recomputed(const std::vector<std::string>& names) {
  const auto known = parts();
  recomputed_.clear();
  for (const auto& name : names) {
    if (name == "all") {
      recomputed_.insert(known.begin(), known.end());
    } else if (std::find(known.begin(), known.end(), name) != known.end()) {
      recomputed_.insert(name);
    } else {
      const auto guess = nearest(name, known);
      throw Error(concat("training.recompute: the model has no part \"", name, "\"",
                         guess.empty() ? "." : "; did you mean " + guess + "?", " Its parts are ",
                         join(known, ", "), ", or all"));
    }
  }
}

torch::Tensor SegmentationModel::run_part(const std::string& name, const TensorFunction& function,
                                          std::vector<torch::Tensor> inputs) const {
  if (recomputed_.contains(name)) {
    const auto named = [name, function](std::vector<torch::Tensor> x) {
      RECORD_USER_SCOPE(name);
      return function(std::move(x));
    };
    return recompute(named, std::move(inputs));
  }
  RECORD_USER_SCOPE(name);  // for profile()
  // What several steps of a part add to the gradient of its input is summed before others add
  // theirs, as it is where the part is recomputed: sums of another order have other bits.
  for (auto& input : inputs) {
    if (at::GradMode::is_enabled() && input.requires_grad()) input = input.alias();
  }
  return function(std::move(inputs));
}

torch::Tensor SegmentationModel::forward(const torch::Tensor& input) {
  return std::move(outputs(input, /*deep=*/false).front());
}

std::vector<torch::Tensor> SegmentationModel::forward_deep(const torch::Tensor& input) {
  return outputs(input, /*deep=*/true);
}

std::vector<torch::Tensor> SegmentationModel::outputs(const torch::Tensor& input, bool deep) {
  const bool takes_any = in_channels_ == 0;
  // Some operators of LibTorch divide by the batch.
  if (input.dim() == 5 && (input.size(0) < 1 || input.size(1) < 1)) {
    throw Error(concat("input must hold a volume and a channel at least, got ", input.sizes()));
  }
  if (input.dim() != 5 || (!takes_any && input.size(1) != in_channels_)) {
    throw Error(concat("input must have shape [B, ", takes_any ? "C" : std::to_string(in_channels_),
                       ", D, H, W], got ", input.sizes()));
  }
  if (const auto misfit = input_sizes_.misfit({input.size(2), input.size(3), input.size(4)})) {
    throw Error(
        concat("input size ", join(input.sizes().slice(2), "x"), " does not fit: ", *misfit));
  }
  // The channels of a voxel beside one another, as convolutions and the tokens of scans want them.
  constexpr auto kChannelsLast = torch::MemoryFormat::ChannelsLast3d;
  if (!inference_type_) return compute(input.contiguous(kChannelsLast), deep);
  auto logits = compute(
      input.to(*inference_type_, /*non_blocking=*/false, /*copy=*/false, kChannelsLast), deep);
  for (auto& tensor : logits) tensor = tensor.to(input.scalar_type()).contiguous();
  return logits;
}

std::optional<std::string> InputSizes::misfit(const std::array<std::int64_t, 3>& sizes) const {
  if (exact && sizes != *exact) {
    return concat("the network was made for ", join(*exact, "x"), " alone (model.", exact_key, ")");
  }
  bool fits = true;
  std::int64_t coarsest = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    fits = fits && sizes[i] > 0 && sizes[i] % multiple[i] == 0;
    coarsest *= sizes[i] / multiple[i];
  }
  if (!fits) {
    const bool alike = multiple[0] == multiple[1] && multiple[1] == multiple[2];
    return alike ? concat("each size must be a multiple of ", multiple[0])
                 : concat("the sizes must be multiples of ", join(multiple, ", "));
  }
  if (norms_coarsest && coarsest == 1) {
    return concat("its coarsest features are a single voxel; take a size above ",
                  join(multiple, "x"));
  }
  return std::nullopt;
}

namespace {

// Of parameters and buffers. In floating point: the sum may be more than 64 bits hold.
double state_bytes(const torch::nn::Module& module) {
  double bytes = 0;
  for (const auto& [name, tensor] : state_dict(module)) {
    bytes += static_cast<double>(tensor.numel()) * static_cast<double>(tensor.element_size());
  }
  return bytes;
}

// What is taken without a look ends by the system's hand, which says nothing.
std::shared_ptr<SegmentationModel> make_if_it_fits(const ModelConfig& config,
                                                   const torch::nn::Module& meta_model) {
  const double wanted = state_bytes(meta_model);
  const auto available = available_memory();
  if (wanted <= static_cast<double>(available)) return find_network(config).make(config);
  constexpr double kMost = 1e18;
  throw Error(concat("the network ", config.name, " of this config takes ",
                     format_bytes(static_cast<std::uint64_t>(std::min(wanted, kMost))),
                     " for its weights alone, and this machine has ", format_bytes(available),
                     " left: take fewer channels or layers"));
}

}  // namespace

std::shared_ptr<SegmentationModel> make_meta_model(const ModelConfig& config) {
  const OnMetaDevice meta;
  return find_network(config).make(config);
}

std::shared_ptr<SegmentationModel> make_model(const ModelConfig& config) {
  return make_if_it_fits(config, *make_meta_model(config));
}

std::shared_ptr<SegmentationModel> make_model(const ModelConfig& config,
                                              const std::map<std::string, torch::Tensor>& weights) {
  const auto meta_model = make_meta_model(config);
  check_state_dict(*meta_model, weights);
  auto model = make_if_it_fits(config, *meta_model);
  load_state_dict(*model, weights);
  return model;
}

InputSizes input_sizes(const ModelConfig& config) {
  return find_network(config).input_sizes(config);
}

}  // namespace segmamba::nn
