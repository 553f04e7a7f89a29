#include "segmamba/nn/window_attention.h"

#include <utility>

#include "segmamba/nn/attention.h"
#include "segmamba/nn/drop_path.h"
#include "segmamba/nn/initial_values.h"
#include "segmamba/nn/linear.h"

namespace segmamba::nn {
namespace {

using Sizes = std::array<std::int64_t, 3>;

std::int64_t product(const Sizes& sizes) { return sizes[0] * sizes[1] * sizes[2]; }

// Of a volume [B, D, H, W, C]: voxel i goes to i - shift, those that leave come back at the end.
torch::Tensor shift_by(torch::Tensor volume, const Sizes& shift) {
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    const auto size = volume.size(axis + 1);
    const auto by = (shift[static_cast<std::size_t>(axis)] + size) % size;
    if (by == 0) continue;
    volume = torch::cat({volume.narrow(axis + 1, by, size - by), volume.narrow(axis + 1, 0, by)},
                        axis + 1);
  }
  return volume;
}

}  // namespace

torch::Tensor cut_windows(const torch::Tensor& volume, const WindowGrid& grid) {
  const auto& window = grid.window;
  std::array<std::int64_t, 8> padding = {};  // of the last axis first, before and after
  bool fits = true;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto over = volume.size(static_cast<std::int64_t>(axis) + 1) % window[axis];
    padding[7 - 2 * axis] = over == 0 ? 0 : window[axis] - over;
    fits = fits && over == 0;
  }
  const auto rolled = shift_by(fits ? volume : torch::constant_pad_nd(volume, padding), grid.shift);
  return rolled.unflatten(3, {-1, window[2]})
      .unflatten(2, {-1, window[1]})
      .unflatten(1, {-1, window[0]})
      .permute({0, 1, 3, 5, 2, 4, 6, 7})
      .flatten(4, 6);
}

torch::Tensor join_windows(const torch::Tensor& windows, const WindowGrid& grid,
                           const Sizes& size) {
  auto volume = windows.unflatten(4, grid.window)
                    .permute({0, 1, 4, 2, 5, 3, 6, 7})
                    .flatten(5, 6)
                    .flatten(3, 4)
                    .flatten(1, 2);
  volume = shift_by(std::move(volume), {-grid.shift[0], -grid.shift[1], -grid.shift[2]});
  for (std::size_t axis = 0; axis < 3; ++axis) {
    volume = volume.narrow(static_cast<std::int64_t>(axis) + 1, 0, size[axis]);
  }
  return volume;
}

torch::Tensor relative_position_index(const Sizes& window, const Sizes& factors) {
  auto index = torch::zeros({1, 1}, torch::kLong);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto place = torch::arange(window[axis], torch::kLong);
    const auto offset = place.unsqueeze(1) - place + (window[axis] - 1);  // [window, window]
    index = (index.unsqueeze(1).unsqueeze(3) + (offset * factors[axis]).unsqueeze(1))
                .flatten(2, 3)
                .flatten(0, 1);
  }
  return index;
}

Sizes distinct_offsets(const Sizes& window) {
  return {(2 * window[1] - 1) * (2 * window[2] - 1), 2 * window[2] - 1, 1};
}

WindowAttentionImpl::WindowAttentionImpl(const WindowAttentionOptions& options)
    : options_(options) {
  const auto channels = options.channels;
  std::int64_t offsets = 1;
  for (const auto size : options.window) offsets *= 2 * size - 1;
  bias_table_ =
      register_parameter("relative_position_bias_table", torch::empty({offsets, options.heads}));
  truncated_normal_(bias_table_, 0.02);
  bias_index_ = register_buffer("relative_position_index",
                                relative_position_index(options.window, options.factors));
  projection_in_ =
      options.cross ? register_module("kv", make_linear(channels, 2 * channels, options.qkv_bias))
                    : register_module("qkv", make_linear(channels, 3 * channels, options.qkv_bias));
  proj_ = register_module("proj", make_linear(channels, channels));
}

void WindowAttentionImpl::to(torch::Device device, torch::Dtype type, bool non_blocking) {
  const auto index = bias_index_.detach();
  Module::to(device, type, non_blocking);
  bias_index_.set_data(index.to(device, non_blocking));
}

void WindowAttentionImpl::to(torch::Dtype type, bool non_blocking) {
  const auto index = bias_index_.detach();
  Module::to(type, non_blocking);
  bias_index_.set_data(index);
}

// [1, heads, voxels, voxels].
torch::Tensor WindowAttentionImpl::bias(std::int64_t voxels) const {
  const auto index = bias_index_.narrow(0, 0, voxels).narrow(1, 0, voxels);
  return torch::embedding(bias_table_, index).permute({2, 0, 1}).unsqueeze(0).contiguous();
}

// A shifted grid's windows hold voxels of one region each, but for the last ones of a shifted axis:
// these hold two, whose boundary is where the volume was rolled. So windows fall into two kinds for
// each shifted axis, and all of a kind have the same mask. `windows` are qkv, or queries and kv,
// [B, windows D, H, W, n, channels]; `regions` [n] numbers those of the axes before `axis`.
torch::Tensor WindowAttentionImpl::attend(const std::vector<torch::Tensor>& windows,
                                          const WindowGrid& grid, const torch::Tensor& bias,
                                          const torch::Tensor& regions, std::size_t axis) const {
  if (axis == 3) {
    const auto counts = windows[0].sizes().slice(0, 4);
    auto logits = bias;
    if (regions.defined()) {
      const auto apart = regions.unsqueeze(0) != regions.unsqueeze(1);
      logits = bias + apart.to(bias.scalar_type()) * -100;
    }
    const auto dropout = is_training() ? options_.attention_dropout : 0;
    const bool trains = is_training() && bias_table_.requires_grad();
    const auto flat = [](const torch::Tensor& tensor) { return tensor.flatten(0, 3); };
    const auto attended =
        options_.cross ? cross_attention(flat(windows[0]), flat(windows[1]), options_.heads,
                                         dropout, logits, trains)
                       : self_attention(flat(windows[0]), options_.heads, dropout, logits, trains);
    return attended.unflatten(0, counts);
  }
  if (grid.shift[axis] == 0) return attend(windows, grid, bias, regions, axis + 1);
  const auto dim = static_cast<std::int64_t>(axis) + 1;
  const auto narrowed = [&](std::int64_t start, std::int64_t count) {
    std::vector<torch::Tensor> part;
    for (const auto& tensor : windows) part.push_back(tensor.narrow(dim, start, count));
    return part;
  };
  const auto inner = windows[0].size(dim) - 1;
  auto before = attend(narrowed(0, inner), grid, bias, regions, axis + 1);
  const auto& window = grid.window;
  Sizes shape = {1, 1, 1};
  shape[axis] = window[axis];
  const auto split = torch::arange(window[axis], bias.options())
                         .ge(window[axis] - grid.shift[axis])
                         .to(bias.scalar_type())
                         .view(shape)
                         .expand(window)
                         .flatten();
  auto last = attend(narrowed(inner, 1), grid, bias,
                     regions.defined() ? 2 * regions + split : split, axis + 1);
  return torch::cat({std::move(before), std::move(last)}, dim);
}

torch::Tensor WindowAttentionImpl::forward(const torch::Tensor& volume, const WindowGrid& grid,
                                           const torch::Tensor& context) {
  std::vector<torch::Tensor> windows;
  if (options_.cross) {
    windows = {cut_windows(volume, grid), linear(projection_in_, cut_windows(context, grid))};
  } else {
    windows = {linear(projection_in_, cut_windows(volume, grid))};
  }
  auto attended = attend(windows, grid, bias(product(grid.window)), {}, 0);
  windows.clear();
  attended = torch::dropout(linear(proj_, attended), options_.dropout, is_training());
  return join_windows(attended, grid, {volume.size(1), volume.size(2), volume.size(3)});
}

WindowBlockImpl::WindowBlockImpl(const WindowBlockOptions& options)
    : drop_path_(options.drop_path) {
  const auto channels = options.attention.channels;
  norm1_ = register_module("norm1", LayerNorm(channels));
  attention_ = register_module("attn", WindowAttention(options.attention));
  norm2_ = register_module("norm2", LayerNorm(channels));
  mlp_ = register_module(
      "mlp", Mlp(channels, options.mlp_hidden, options.mlp_names, options.attention.dropout));
}

torch::Tensor WindowBlockImpl::forward(const torch::Tensor& volume, const WindowGrid& grid) {
  return finish(volume, attention_(norm1_(volume), grid));
}

torch::Tensor WindowBlockImpl::forward_across(const torch::Tensor& volume,
                                              const torch::Tensor& context,
                                              const WindowGrid& grid) {
  return finish(volume + context, attention_(norm1_(volume), grid, norm1_(context)));
}

torch::Tensor WindowBlockImpl::finish(const torch::Tensor& volume, const torch::Tensor& attended) {
  const auto mixed = volume + drop_path(attended, drop_path_, is_training());
  return mixed + drop_path(mlp_(norm2_(mixed)), drop_path_, is_training());
}

}  // namespace segmamba::nn
