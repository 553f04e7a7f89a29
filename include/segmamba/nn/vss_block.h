#pragma once
// VMamba's block (arXiv 2401.10166; MzeroMiko/VMamba at 2ed52ea, forward types v05 and v05_noz)
// over images, and over volumes by the same rules.

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/mlp.h"
#include "segmamba/nn/norms.h"
#include "segmamba/ops/selective_scan.h"

namespace segmamba::nn {

struct VssBlockOptions {
  std::int64_t dim;             // C
  std::int64_t axes = 3;        // 2: images, 3: volumes
  std::int64_t state_size = 1;  // N
  double ssm_ratio = 1;         // I = ssm_ratio * C scanned channels
  double mlp_ratio = 4;         // 0: no MLP
  bool conv_bias = false;
  bool gate = false;
};

// The orders in which a cross-scan walks the voxels of `sizes`, [H, W] or [D, H, W]: each axis,
// from the last one on, changes fastest once and the axes before it, in a circle, more and more
// slowly: (d, h, w), (h, w, d), (w, d, h); then the reverses of these.
std::vector<ops::ScanOrder> cross_scan_orders(torch::IntArrayRef sizes);

// The mixer, K orders as above, R = ceil(C / 16):
//   [x, z] = in_proj u          z only where there is a gate
//   x = silu(conv x)            depth-wise, 3 taps an axis
//   [dt_k, B_k, C_k] = x_proj_k x
//   delta_k = softplus(dt_projs_k dt_k + dt_projs_bias_k)
//   y = sum_k scan_k(x, delta_k, -exp(A_logs_k), B_k, C_k, Ds_k)
//   out = out_proj(LN(y) silu(z))
class CrossScanMixerImpl : public torch::nn::Module {
 public:
  explicit CrossScanMixerImpl(const VssBlockOptions& options);
  // tokens [B, L, C], the voxels of `volume` [B, C, (D,) H, W] -> [B, L, C].
  torch::Tensor forward(const torch::Tensor& tokens, const torch::Tensor& volume);
  void reset_parameters();

  torch::nn::Linear in_proj{nullptr}, out_proj{nullptr};
  torch::nn::Linear x_proj{nullptr};    // weight [K (R + 2N), I]
  torch::nn::Linear dt_projs{nullptr};  // weight [K I, R]
  LayerNorm out_norm{nullptr};
  torch::nn::Conv2d conv2d{nullptr};
  Convolution conv3d{nullptr};
  torch::Tensor dt_projs_bias;  // [K, I]
  torch::Tensor A_logs;         // [K I, N]
  torch::Tensor Ds;             // [K I]

 private:
  bool gate_;
};
TORCH_MODULE(CrossScanMixer);

// y = x + op(LN x); y + mlp(LN y). LN over channels, eps 1e-5.
// [B, C, (D,) H, W] -> the same.
class VssBlockImpl : public torch::nn::Module {
 public:
  // Throws Error naming the config key that does not fit.
  explicit VssBlockImpl(const VssBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& input);

 private:
  LayerNorm norm_{nullptr}, norm2_{nullptr};
  CrossScanMixer op_{nullptr};
  Mlp mlp_{nullptr};
};
TORCH_MODULE(VssBlock);

}  // namespace segmamba::nn
