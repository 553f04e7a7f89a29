#pragma once
// Attention within windows of a volume (Swin, arXiv 2103.14030), for volumes whose channels come
// last: [B, D, H, W, C].

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <vector>

#include "segmamba/nn/mlp.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

// How a volume is cut, [D, H, W] in voxels: into windows of size `window`, after it has been rolled
// by -shift. The volume is filled up with zeros at the end of each axis; what is filled up takes
// part in the attention.
struct WindowGrid {
  std::array<std::int64_t, 3> window = {7, 7, 7};
  std::array<std::int64_t, 3> shift = {0, 0, 0};  // below the window

  bool is_shifted() const { return shift != std::array<std::int64_t, 3>{}; }
};

// [B, D, H, W, C] -> [B, windows along D, along H, along W, voxels of a window, C].
torch::Tensor cut_windows(const torch::Tensor& volume, const WindowGrid& grid);
// The inverse: a volume of size [D, H, W].
torch::Tensor join_windows(const torch::Tensor& windows, const WindowGrid& grid,
                           const std::array<std::int64_t, 3>& size);

// Where the bias of a pair of voxels p, q of a window stands in the table of biases:
//   index[p, q] = sum over axes of (p - q + window - 1) * factor. [voxels, voxels], int64.
torch::Tensor relative_position_index(const std::array<std::int64_t, 3>& window,
                                      const std::array<std::int64_t, 3>& factors);
// The factors that give each offset an entry of its own.
std::array<std::int64_t, 3> distinct_offsets(const std::array<std::int64_t, 3>& window);

struct WindowAttentionOptions {
  std::int64_t channels = 48;
  std::int64_t heads = 3;
  std::array<std::int64_t, 3> window = {7, 7, 7};  // the largest that will be asked for
  std::array<std::int64_t, 3> factors = {169, 13, 1};
  bool qkv_bias = true;
  bool cross = false;  // queries are the voxels themselves; keys and values come from elsewhere
  double dropout = 0;
  double attention_dropout = 0;
};

// In each window and head, with d channels a head:
//   out = proj(softmax(q k^T / sqrt(d) + bias + mask) v), (q, k, v) = qkv(x)
//   or, where `cross`, q = x and (k, v) = kv(context).
// `bias` [heads, n, n] is looked up in a table by relative_position_index(). A window of less than
// the full size takes the upper left corner of the full one's index, as the originals do. Where the
// grid is shifted, `mask` puts -100 between voxels that only the roll has made neighbours.
class WindowAttentionImpl : public torch::nn::Module {
 public:
  explicit WindowAttentionImpl(const WindowAttentionOptions& options);
  // [B, D, H, W, C], both -> the same.
  torch::Tensor forward(const torch::Tensor& volume, const WindowGrid& grid,
                        const torch::Tensor& context = {});

  // LibTorch converts buffers of integers as well; the index stays what it is.
  using Module::to;
  void to(torch::Device device, torch::Dtype type, bool non_blocking) override;
  void to(torch::Dtype type, bool non_blocking) override;

 private:
  torch::Tensor bias(std::int64_t voxels) const;
  torch::Tensor attend(const std::vector<torch::Tensor>& windows, const WindowGrid& grid,
                       const torch::Tensor& bias, const torch::Tensor& regions,
                       std::size_t axis) const;

  torch::nn::Linear projection_in_{nullptr}, proj_{nullptr};  // qkv or kv
  torch::Tensor bias_table_;                                  // [product of 2 window - 1, heads]
  torch::Tensor bias_index_;
  WindowAttentionOptions options_;
};
TORCH_MODULE(WindowAttention);

struct WindowBlockOptions {
  WindowAttentionOptions attention;
  std::int64_t mlp_hidden = 192;
  MlpNames mlp_names = kMonaiMlpNames;
  double drop_path = 0;
};

// A block of a Swin transformer: x' = x + attention(LN x); out = x' + MLP(LN x'); both branches
// with stochastic depth. [B, D, H, W, C] -> the same.
class WindowBlockImpl : public torch::nn::Module {
 public:
  explicit WindowBlockImpl(const WindowBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& volume, const WindowGrid& grid);
  // Where the attention is across: x = volume + context, and attention(LN volume, LN context).
  torch::Tensor forward_across(const torch::Tensor& volume, const torch::Tensor& context,
                               const WindowGrid& grid);

 private:
  torch::Tensor finish(const torch::Tensor& volume, const torch::Tensor& attended);

  LayerNorm norm1_{nullptr}, norm2_{nullptr};
  WindowAttention attention_{nullptr};
  Mlp mlp_{nullptr};
  double drop_path_;
};
TORCH_MODULE(WindowBlock);

}  // namespace segmamba::nn
