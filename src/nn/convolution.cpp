#include "segmamba/nn/convolution.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cpu/Utils.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <utility>

#include "segmamba/nn/recompute.h"
#include "segmamba/ops/winograd.h"

namespace segmamba::nn {
namespace {

constexpr auto kChannelsLast = torch::MemoryFormat::ChannelsLast3d;

// Fewer channels than a vector has lanes would leave most of them idle; transformed weights of more
// than 32 MB no longer pay off at the low resolutions where there are so many channels.
constexpr std::int64_t kFewestChannels = 16, kMostWeights = std::int64_t{1} << 17;

// From so many weights on it is felt that oneDNN lays them out anew in each pass.
constexpr std::int64_t kFewestPacked = std::int64_t{1} << 19;

bool suits_winograd(const torch::nn::detail::ConvNdOptions<3>& options) {
  const auto all = [](const auto& sizes, std::int64_t value) {
    return std::all_of(sizes->begin(), sizes->end(), [value](auto size) { return size == value; });
  };
  const auto* padding = std::get_if<torch::ExpandingArray<3>>(&options.padding());
  return all(options.kernel_size(), 3) && all(options.stride(), 1) && all(options.dilation(), 1) &&
         padding != nullptr && all(*padding, 1) && options.groups() == 1 &&
         std::min(options.in_channels(), options.out_channels()) >= kFewestChannels &&
         options.in_channels() * options.out_channels() <= kMostWeights;
}

// Only for AMX: in float32 the layout that oneDNN chooses without knowing the data's size costs
// some convolutions many times what it saves others.
bool suits_packing(const torch::Tensor& weight, torch::ScalarType type,
                   const torch::nn::detail::ConvNdOptions<3>& options) {
  return weight.is_cpu() && at::globalContext().userEnabledMkldnn() && type == torch::kBFloat16 &&
         has_matrix_unit(type) && options.groups() == 1 && weight.numel() >= kFewestPacked &&
         std::holds_alternative<torch::ExpandingArray<3>>(options.padding());
}

// As LibTorch's own compiler has it: a convolution whose weights are oneDNN's.
torch::Tensor convolve_packed(const torch::Tensor& input, const torch::Tensor& weight,
                              const torch::Tensor& bias,
                              const torch::nn::detail::ConvNdOptions<3>& options) {
  using Operator =
      at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                 at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, std::int64_t, c10::string_view,
                 c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_convolution_pointwise", "")
                             .typed<Operator>();
  return op.call(input, weight, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt,
                 *std::get<torch::ExpandingArray<3>>(options.padding()), *options.stride(),
                 *options.dilation(), options.groups(), "none",
                 c10::List<std::optional<at::Scalar>>(), "");
}

// LibTorch 2.11 on the CPU: the gradients of 16-bit weights are garbage where an axis of the data
// has fewer voxels than there are taps.
bool has_faulty_gradients(const torch::Tensor& input,
                          const torch::nn::detail::ConvNdOptions<3>& options) {
  if (!input.is_cpu() || !at::autocast::is_autocast_enabled(at::kCPU)) return false;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto size = input.size(static_cast<std::int64_t>(axis) + 2);
    if (size < (*options.kernel_size())[axis]) return true;
  }
  return false;
}

}  // namespace

bool has_matrix_unit(torch::ScalarType type) {
  if (type != torch::kBFloat16 && type != torch::kHalf) return false;
  const auto capabilities = at::cpu::get_cpu_capabilities();
  const auto found = capabilities.find(type == torch::kBFloat16 ? "amx_bf16" : "amx_fp16");
  // The system has to allow it, too.
  return found != capabilities.end() && found->second.toBool() && at::cpu::init_amx();
}

torch::Tensor ConvolutionImpl::forward(const torch::Tensor& input) {
  if (packed_weight_.defined()) return convolve_packed(input, packed_weight_, bias, options);
  if (!winograd_weight_.defined()) {
    if (has_faulty_gradients(input, options)) {
      const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
      return torch::nn::Conv3dImpl::forward(input.to(weight.scalar_type()))
          .to(at::autocast::get_autocast_dtype(at::kCPU));
    }
    const bool is_depth_wise = options.groups() > 1 && options.groups() == options.in_channels();
    if (!is_depth_wise || !input.is_cpu()) return torch::nn::Conv3dImpl::forward(input);
    // Autocast keeps a copy of its own anyway.
    if (input.is_contiguous(kChannelsLast) || at::autocast::is_autocast_enabled(at::kCPU)) {
      return torch::nn::Conv3dImpl::forward(input.contiguous(kChannelsLast));
    }
    FormedAgain laid_out(
        [](std::vector<torch::Tensor> x) { return x[0].contiguous(kChannelsLast); }, {input});
    auto output = torch::nn::Conv3dImpl::forward(laid_out.take());
    laid_out.forget_input_of(output);
    return output;
  }
  return ops::winograd_convolution(
      input, winograd_weight_, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt,
      options.out_channels());
}

void ConvolutionImpl::prepare_for_inference(torch::ScalarType type) {
  if (weight.is_cpu() && suits_winograd(options) && !has_matrix_unit(type)) {
    winograd_weight_ = ops::winograd_weight(weight);
    return;
  }
  const bool packs = suits_packing(weight, type, options);
  weight.set_data(weight.detach().to(type).contiguous(kChannelsLast));
  if (bias.defined()) bias.set_data(bias.detach().to(type));
  if (!packs) return;
  const torch::NoGradGuard no_gradients;
  packed_weight_ = at::mkldnn_reorder_conv3d_weight(
      weight.detach().to_mkldnn(), *std::get<torch::ExpandingArray<3>>(options.padding()),
      *options.stride(), *options.dilation(), options.groups());
  weight.set_data(torch::empty({0}, weight.options()));  // they would be there twice
}

torch::Tensor TransposedConvolutionImpl::forward(const torch::Tensor& input) {
  return torch::nn::ConvTranspose3dImpl::forward(input);
}

void TransposedConvolutionImpl::prepare_for_inference(torch::ScalarType type) {
  weight.set_data(weight.detach().to(type).contiguous(kChannelsLast));
  if (bias.defined()) bias.set_data(bias.detach().to(type));
}

UpConvolutionImpl::UpConvolutionImpl(std::int64_t in_channels, std::int64_t out_channels,
                                     const std::array<std::int64_t, 3>& stride, bool bias)
    : TransposedConvolutionImpl(torch::nn::ConvTranspose3dOptions(in_channels, out_channels, stride)
                                    .stride(stride)
                                    .bias(bias)),
      stride_(stride) {}

torch::Tensor UpConvolutionImpl::forward(const torch::Tensor& input) {
  if (!matrix_.defined()) {
    return input.is_cpu() && input.is_contiguous(kChannelsLast)
               ? multiply(input)
               : TransposedConvolutionImpl::forward(input);
  }
  RECORD_FUNCTION("segmamba::up_convolution", std::vector<c10::IValue>());
  auto output = torch::empty({input.size(0), options.out_channels(), stride_[0] * input.size(2),
                              stride_[1] * input.size(3), stride_[2] * input.size(4)},
                             input.options(), kChannelsLast);
  multiply(input, output);
  return output;
}

torch::Tensor UpConvolutionImpl::forward_beside(torch::Tensor input, torch::Tensor skip) {
  if (!matrix_.defined()) {
    auto up = forward(input);
    input.reset();
    return torch::cat({std::move(up), std::move(skip)}, 1);
  }
  RECORD_FUNCTION("segmamba::up_convolution_beside", std::vector<c10::IValue>());
  const auto out_channels = options.out_channels();
  auto sizes = skip.sizes().vec();
  sizes[1] += out_channels;
  auto both = torch::empty(sizes, input.options(), kChannelsLast);
  both.narrow(1, out_channels, skip.size(1)).copy_(skip);
  skip.reset();
  multiply(input, both.narrow(1, 0, out_channels));
  return both;
}

torch::Tensor UpConvolutionImpl::multiply(const torch::Tensor& input) const {
  const auto [s0, s1, s2] = stride_;
  const auto B = input.size(0), D = input.size(2), H = input.size(3), W = input.size(4);
  const auto rows = input.permute({0, 2, 3, 4, 1}).flatten(0, 3);
  const auto matrix = weight.permute({0, 2, 3, 4, 1}).flatten(1);
  const auto product = bias.defined() ? torch::addmm(bias.repeat({s0 * s1 * s2}), rows, matrix)
                                      : torch::mm(rows, matrix);
  return product.view({B, D, H, W, s0, s1, s2, options.out_channels()})
      .permute({0, 1, 4, 2, 5, 3, 6, 7})
      .reshape({B, s0 * D, s1 * H, s2 * W, options.out_channels()})
      .permute({0, 4, 1, 2, 3});
}

void UpConvolutionImpl::multiply(const torch::Tensor& input, const torch::Tensor& target) const {
  // Slice by slice, so that the product stays in a cache until it has been put in its place.
  const auto height = input.size(3), width = input.size(4);
  const auto [s0, s1, s2] = stride_;
  const auto voxels = input.permute({0, 2, 3, 4, 1}).contiguous();
  const auto places = target.permute({0, 2, 3, 4, 1});
  for (std::int64_t item = 0; item < input.size(0); ++item) {
    for (std::int64_t z = 0; z < input.size(2); ++z) {
      const auto rows = voxels[item][z].view({height * width, input.size(1)});
      const auto product = (row_biases_.defined() ? torch::addmm(row_biases_, rows, matrix_)
                                                  : torch::mm(rows, matrix_))
                               .view({height, width, s0, s1, s2, options.out_channels()})
                               .permute({2, 0, 3, 1, 4, 5});  // [s0, height, s1, width, s2, out]
      const auto slices = places[item].narrow(0, s0 * z, s0);
      slices.unflatten(1, {height, s1}).unflatten(3, {width, s2}).copy_(product);
    }
  }
}

void UpConvolutionImpl::prepare_for_inference(torch::ScalarType type) {
  if (!weight.is_cpu()) return TransposedConvolutionImpl::prepare_for_inference(type);
  matrix_ = weight.detach().to(type).permute({0, 2, 3, 4, 1}).flatten(1).contiguous();
  if (bias.defined()) {
    row_biases_ = bias.detach().to(type).repeat({stride_[0] * stride_[1] * stride_[2]});
  }
}

}  // namespace segmamba::nn
