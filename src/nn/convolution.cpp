#include "segmamba/nn/convolution.h"

#include <ATen/cpu/Utils.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <utility>

#include "segmamba/ops/winograd.h"

namespace segmamba::nn {
namespace {

constexpr auto kChannelsLast = torch::MemoryFormat::ChannelsLast3d;

// Fewer channels than a vector has lanes would leave most of them idle; transformed weights of more
// than 32 MB no longer pay off at the low resolutions where there are so many channels.
constexpr std::int64_t kFewestChannels = 16, kMostWeights = std::int64_t{1} << 17;

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

}  // namespace

bool has_matrix_unit(torch::ScalarType type) {
  if (type != torch::kBFloat16 && type != torch::kHalf) return false;
  const auto capabilities = at::cpu::get_cpu_capabilities();
  const auto found = capabilities.find(type == torch::kBFloat16 ? "amx_bf16" : "amx_fp16");
  // The system has to allow it, too.
  return found != capabilities.end() && found->second.toBool() && at::cpu::init_amx();
}

torch::Tensor ConvolutionImpl::forward(const torch::Tensor& input) {
  if (!winograd_weight_.defined()) return torch::nn::Conv3dImpl::forward(input);
  return ops::winograd_convolution(
      input, winograd_weight_, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt,
      options.out_channels());
}

void ConvolutionImpl::prepare_for_inference(torch::ScalarType type) {
  if (weight.is_cpu() && suits_winograd(options) && !has_matrix_unit(type)) {
    winograd_weight_ = ops::winograd_weight(weight);
    return;
  }
  weight.set_data(weight.detach().to(type).contiguous(kChannelsLast));
  if (bias.defined()) bias.set_data(bias.detach().to(type));
}

UpConvolutionImpl::UpConvolutionImpl(std::int64_t in_channels, std::int64_t out_channels)
    : torch::nn::ConvTranspose3dImpl(
          torch::nn::ConvTranspose3dOptions(in_channels, out_channels, 2).stride(2).bias(false)) {}

// The convolution of channels-last data by matrix_. Each voxel becomes 2^3, none of which another
// one reaches: a matrix product, slice by slice so that it stays in a cache until it has been put
// in its place.
void UpConvolutionImpl::write_product(const torch::Tensor& input,
                                      const torch::Tensor& output) const {
  const auto batch = input.size(0), depth = input.size(2), height = input.size(3),
             width = input.size(4), out_channels = options.out_channels();
  const auto voxels = input.permute({0, 2, 3, 4, 1}).contiguous();
  const auto target = output.permute({0, 2, 3, 4, 1});
  for (std::int64_t item = 0; item < batch; ++item) {
    for (std::int64_t z = 0; z < depth; ++z) {
      const auto product = torch::mm(voxels[item][z].view({height * width, input.size(1)}), matrix_)
                               .view({height, width, 2, 2, 2, out_channels})
                               .permute({2, 0, 3, 1, 4, 5});  // [2, height, 2, width, 2, out]
      const auto slices = target[item].narrow(0, 2 * z, 2);
      slices.unflatten(1, {height, 2}).unflatten(3, {width, 2}).copy_(product);
    }
  }
}

torch::Tensor UpConvolutionImpl::forward(const torch::Tensor& input) {
  if (!matrix_.defined()) return torch::nn::ConvTranspose3dImpl::forward(input);
  RECORD_FUNCTION("segmamba::up_convolution", std::vector<c10::IValue>());
  auto output = torch::empty({input.size(0), options.out_channels(), 2 * input.size(2),
                              2 * input.size(3), 2 * input.size(4)},
                             input.options(), kChannelsLast);
  write_product(input, output);
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
  auto both = torch::empty({input.size(0), out_channels + skip.size(1), 2 * input.size(2),
                            2 * input.size(3), 2 * input.size(4)},
                           input.options(), kChannelsLast);
  both.narrow(1, out_channels, skip.size(1)).copy_(skip);
  skip.reset();
  write_product(input, both.narrow(1, 0, out_channels));
  return both;
}

void UpConvolutionImpl::prepare_for_inference(torch::ScalarType type) {
  if (weight.is_cpu()) {
    matrix_ = weight.detach().to(type).permute({0, 2, 3, 4, 1}).flatten(1).contiguous();
  } else {
    weight.set_data(weight.detach().to(type).contiguous(kChannelsLast));
  }
}

}  // namespace segmamba::nn
