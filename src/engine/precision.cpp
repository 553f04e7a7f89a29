#include "segmamba/engine/precision.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#ifdef SEGMAMBA_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

#include <algorithm>
#include <array>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/nn/inference.h"

namespace segmamba::engine {
namespace {

constexpr std::array<std::pair<const char*, Precision>, 4> kNames = {
    {{"fp32", Precision::kFloat32},
     {"tf32", Precision::kTf32},
     {"bf16", Precision::kBfloat16},
     {"fp16", Precision::kFloat16}}};

std::optional<Precision> find_precision(const std::string& name) {
  for (const auto& [known, precision] : kNames) {
    if (name == known) return precision;
  }
  return std::nullopt;
}

// torch.amp.GradScaler's.
constexpr double kFirstScale = 65536, kGrowth = 2, kBackoff = 0.5;
constexpr std::int64_t kGrowthInterval = 2000;

bool bfloat16_is_fast(const torch::Device& device) {
#ifdef SEGMAMBA_WITH_CUDA
  constexpr int kFirstWithBfloat16 = 8;  // compute capability
  if (device.is_cuda()) {
    const auto index = device.has_index() ? device.index() : c10::DeviceIndex{0};
    return at::cuda::getDeviceProperties(index)->major >= kFirstWithBfloat16;
  }
#endif
  return device.is_cpu() && nn::bfloat16_is_fast();
}

}  // namespace

Precision parse_precision(const std::string& name, const torch::Device& device) {
  const auto precision = find_precision(name);
  if (!precision) {
    throw Error("training.precision: \"" + name + "\" is none of fp32, tf32, bf16, fp16");
  }
  if (*precision == Precision::kTf32 && !device.is_cuda()) {
    throw Error("training.precision: tf32 is of NVIDIA GPUs; take fp32 or bf16 on the CPU");
  }
  return *precision;
}

Precision inference_precision(const std::string& name, const torch::Device& device) {
  if (name == "auto") return bfloat16_is_fast(device) ? Precision::kBfloat16 : Precision::kFloat32;
  const auto precision = find_precision(name);
  if (precision) return *precision;
  throw Error("precision \"" + name + "\" is none of auto, fp32, tf32, bf16, fp16");
}

std::string to_string(Precision precision) {
  const auto* found = std::find_if(kNames.begin(), kNames.end(),
                                   [&](const auto& entry) { return entry.second == precision; });
  return found->first;
}

void set_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuBLAS(allowed);
  at::globalContext().setAllowTF32CuDNN(allowed);
}

std::optional<torch::ScalarType> autocast_type(Precision precision) {
  if (precision == Precision::kBfloat16) return torch::kBFloat16;
  if (precision == Precision::kFloat16) return torch::kHalf;
  return std::nullopt;
}

Autocast::Autocast(const torch::Device& device, std::optional<torch::ScalarType> type)
    : device_(device.type()), is_on_(type.has_value()) {
  if (!is_on_) return;
  was_enabled_ = at::autocast::is_autocast_enabled(device_);
  previous_ = at::autocast::get_autocast_dtype(device_);
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, *type);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!is_on_) return;
  // The 16-bit copies of the weights are those of this step.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_dtype(device_, previous_);
}

GradientScaler::GradientScaler(bool is_on, const torch::Device& device)
    : is_on_(is_on),
      scale_(torch::full({}, is_on ? kFirstScale : 1, torch::TensorOptions(device))) {
  if (!is_on_) return;
  good_steps_ = torch::zeros({}, torch::TensorOptions(device).dtype(torch::kInt));
  found_infinite_ = torch::zeros({}, torch::TensorOptions(device));
}

torch::Tensor GradientScaler::scaled(const torch::Tensor& loss) const {
  return is_on_ ? loss * scale_ : loss;
}

void GradientScaler::unscale(const std::vector<torch::Tensor>& gradients) {
  if (!is_on_) return;
  found_infinite_.zero_();
  // In double as torch.amp.GradScaler has it: the inverse of a power of two is exact.
  const auto inverse = scale_.to(torch::kDouble).reciprocal().to(torch::kFloat);
  at::_amp_foreach_non_finite_check_and_unscale_(gradients, found_infinite_, inverse);
}

void GradientScaler::update() {
  if (!is_on_) return;
  at::_amp_update_scale_(scale_, good_steps_, found_infinite_, kGrowth, kBackoff, kGrowthInterval);
}

torch::Tensor GradientScaler::scale() const { return scale_; }

GradientScaler::State GradientScaler::state() const {
  if (!is_on_) return {};
  return {scale_.item<double>(), good_steps_.item<std::int64_t>()};
}

void GradientScaler::load(const State& state) {
  if (!is_on_) return;
  scale_.fill_(state.scale);
  good_steps_.fill_(state.good_steps);
}

}  // namespace segmamba::engine
