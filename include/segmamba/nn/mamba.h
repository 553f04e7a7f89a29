#pragma once
// The Mamba layer over tokens, in any number of scan directions.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

namespace segmamba::nn {

// The order in which a direction's scan walks the tokens; see ops::ScanOrder.
enum class Direction { kForward, kReverse, kInterSlice };

// "forward", "reverse", "inter-slice". Throws Error for any other name.
Direction parse_direction(const std::string& name);

struct MambaOptions {
  std::int64_t dim;                   // C, channels of the tokens
  std::vector<Direction> directions;  // each with its own conv1d, x_proj, dt_proj, A and D
  std::int64_t state_size = 16;       // N
  std::int64_t kernel_size = 4;       // J, taps of the causal convolution
  std::int64_t expansion = 2;         // E = expansion * C inner channels
  bool averages = false;              // the mean of the directions instead of their sum
};

// Mamba (arXiv 2312.00752) with one selective scan a direction k, as SegMamba's published code
// (github.com/ge-xing/SegMamba at cff3597: three directions; at 389405b: two):
//   [x, z] = in_proj u
//   x_k = silu(conv1d_k x)                    causal along direction k's order
//   [dt_k, B_k, C_k] = x_proj_k x_k           R + N + N numbers a token, R = ceil(C / 16)
//   y = sum_k scan_k(x_k, softplus(dt_proj_k dt_k), -exp(A_log_k), B_k, C_k, D_k)
//   out = out_proj(y silu(z))
// (Vision Mamba, hustvl/Vim at dd0358a, takes the mean over k of two directions: `averages`.)
// The sum is gated once, because the gate at a token is the same for all directions.
class MambaImpl : public torch::nn::Module {
 public:
  explicit MambaImpl(MambaOptions options);

  // tokens [B, L, C] -> [B, L, C]. `slices` is the number of slices of the volume whose tokens
  // these are, L a multiple of it; only inter-slice scans use it.
  torch::Tensor forward(const torch::Tensor& tokens, std::int64_t slices);
  // Initial values of the published code: A_log = log(1..N), D = 1, dt_proj such that
  // softplus(bias) is log-uniform in [0.001, 0.1].
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  // Parameters of one direction, registered with its suffix: none, "_b" or "_s".
  struct Branch {
    torch::nn::Conv1d conv1d{nullptr};   // weight [E, 1, J], bias [E]
    torch::nn::Linear x_proj{nullptr};   // E -> R + 2N
    torch::nn::Linear dt_proj{nullptr};  // R -> E
    torch::Tensor A_log;                 // [E, N]
    torch::Tensor D;                     // [E]
  };

  MambaOptions options;
  torch::nn::Linear in_proj{nullptr};   // C -> 2E
  torch::nn::Linear out_proj{nullptr};  // E -> C
  std::vector<Branch> branches;

 private:
  std::int64_t inner_size() const { return options.expansion * options.dim; }
  std::int64_t dt_rank() const { return (options.dim + 15) / 16; }
};
TORCH_MODULE(Mamba);

}  // namespace segmamba::nn
