// The CUDA path against the CPU path. Needs a GPU; scripts/gpu_check.sh runs it.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <optional>
#include <vector>

#include "segmamba/ops/causal_conv1d.h"
#include "segmamba/ops/mamba_inner.h"
#include "segmamba/ops/selective_scan.h"

namespace segmamba::ops {
namespace {

using torch::Tensor;

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU on this machine";
  }
};

// What compute-sanitizer can run in a minute.
class CudaSmall : public Cuda {};

struct Shape {
  std::int64_t K, B, L, D, N, slices;
};

std::vector<ScanOrder> orders_for(const Shape& s) {
  const std::vector<ScanOrder> all{ScanOrder::forward(s.L), ScanOrder::reverse(s.L),
                                   ScanOrder::interslice(s.L, s.slices)};
  return {all.begin(), all.begin() + s.K};
}

// x, delta, A, B, C, D, z, delta_bias as leaves on `device`. z is a view of a wider tensor.
std::vector<Tensor> leaves(const Shape& s, torch::ScalarType dtype, torch::Device device) {
  torch::manual_seed(2);
  const auto state = dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const auto data = [&](torch::IntArrayRef size) {
    return torch::randn(size).to(dtype).to(device).requires_grad_(true);
  };
  const auto parameter = [&](const Tensor& t) {
    return t.to(state).to(device).requires_grad_(true);
  };
  return {data({s.K, s.B, s.L, s.D}),
          data({s.K, s.B, s.L, s.D}),
          parameter(-torch::rand({s.K, s.D, s.N}) * 4),
          data({s.K, s.B, s.L, s.N}),
          data({s.K, s.B, s.L, s.N}),
          parameter(torch::randn({s.K, s.D})),
          data({s.B, s.L, 2 * s.D}),
          parameter(torch::randn({s.K, s.D}))};
}

std::vector<Tensor> scan_and_gradients(const Shape& s, torch::ScalarType dtype,
                                       torch::Device device) {
  const auto in = leaves(s, dtype, device);
  const auto out = selective_scan_directions(in[0], in[1], in[2], in[3], in[4], in[5],
                                             in[6].slice(-1, s.D), in[7], true, orders_for(s));
  const auto grad = torch::cos(torch::arange(out.numel())).view_as(out).to(dtype).to(device);
  auto results = torch::autograd::grad({out}, in, {grad});
  results.push_back(out.detach());
  return results;
}

void expect_close(const std::vector<Tensor>& got, const std::vector<Tensor>& expected,
                  double tolerance) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto a = got[i].cpu().to(torch::kFloat64), b = expected[i].to(torch::kFloat64);
    const double largest = b.abs().max().item<double>();
    // All zeros is what some gradients of a single step are.
    EXPECT_LE((a - b).abs().max().item<double>(), tolerance * largest) << "tensor " << i;
  }
}

const Shape kShapes[] = {{1, 1, 1, 1, 1, 1},
                         {3, 2, 130, 100, 16, 10},
                         {2, 1, 1000, 192, 16, 8},
                         {3, 1, 64, 768, 16, 8},
                         {1, 1, 77, 40, 33, 7}};

TEST_F(Cuda, ScanEqualsTheCpu) {
  for (const auto& s : kShapes) {
    SCOPED_TRACE(::testing::Message() << "L " << s.L << ", D " << s.D << ", N " << s.N);
    expect_close(scan_and_gradients(s, torch::kFloat64, torch::kCUDA),
                 scan_and_gradients(s, torch::kFloat64, torch::kCPU), 1e-10);
    expect_close(scan_and_gradients(s, torch::kFloat32, torch::kCUDA),
                 scan_and_gradients(s, torch::kFloat32, torch::kCPU), 2e-5);
    // One unit in the last place of the 16-bit results.
    expect_close(scan_and_gradients(s, torch::kBFloat16, torch::kCUDA),
                 scan_and_gradients(s, torch::kBFloat16, torch::kCPU), 8e-3);
    expect_close(scan_and_gradients(s, torch::kFloat16, torch::kCUDA),
                 scan_and_gradients(s, torch::kFloat16, torch::kCPU), 1e-3);
  }
}

TEST_F(Cuda, ScanGivesTheSameBitsAgain) {
  const Shape s{3, 2, 4096, 96, 16, 16};
  const auto first = scan_and_gradients(s, torch::kFloat32, torch::kCUDA);
  const auto second = scan_and_gradients(s, torch::kFloat32, torch::kCUDA);
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], second[i]));
}

TEST_F(Cuda, ConvolutionEqualsTheCpu) {
  for (const auto& s : kShapes) {
    for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
      const auto run = [&](torch::Device device) -> std::vector<Tensor> {
        torch::manual_seed(3);
        const auto state = dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
        const auto x = torch::randn({s.B, s.L, s.D}).to(dtype).to(device).requires_grad_(true);
        const auto weight = torch::randn({s.K, s.D, 4}).to(state).to(device).requires_grad_(true);
        const auto bias = torch::randn({s.K, s.D}).to(state).to(device).requires_grad_(true);
        const auto out = causal_conv1d_silu(x, weight, bias, orders_for(s));
        const auto grad = torch::cos(torch::arange(out.numel())).view_as(out).to(dtype).to(device);
        auto results = torch::autograd::grad({out}, {x, weight, bias}, {grad});
        results.push_back(out.detach());
        return results;
      };
      const double tolerance = dtype == torch::kFloat64   ? 1e-10
                               : dtype == torch::kFloat32 ? 2e-5
                                                          : 8e-3;
      expect_close(run(torch::kCUDA), run(torch::kCPU), tolerance);
    }
  }
}

// Two tiles of channels, partial chunks, a slice of states: every kernel, forward and backward.
TEST_F(CudaSmall, EveryKernel) {
  for (const Shape& s : {Shape{3, 2, 130, 130, 16, 10}, Shape{1, 1, 70, 20, 20, 7}}) {
    expect_close(scan_and_gradients(s, torch::kFloat32, torch::kCUDA),
                 scan_and_gradients(s, torch::kFloat32, torch::kCPU), 2e-5);
    const auto x = torch::randn({s.B, s.L, s.D}, torch::kCUDA).requires_grad_(true);
    const auto out = causal_conv1d_silu(x, torch::randn({s.K, s.D, 4}, torch::kCUDA),
                                        torch::randn({s.K, s.D}, torch::kCUDA), orders_for(s));
    EXPECT_TRUE(torch::autograd::grad({out.sum()}, {x})[0].isfinite().all().item<bool>());
  }
}

TEST_F(Cuda, MambaInnerEqualsTheCpu) {
  const Shape s{3, 2, 520, 96, 16, 8};
  for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
    const auto run = [&](torch::Device device) {
      torch::manual_seed(4);
      const auto state = dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
      const auto leaf = [&](torch::IntArrayRef size, double scale, torch::ScalarType type) {
        return (torch::randn(size) * scale).to(type).to(device).requires_grad_(true);
      };
      const std::vector<Tensor> in{
          leaf({s.B, s.L, 2 * s.D}, 1, dtype),
          leaf({s.K, s.D, 4}, 0.5, state),
          leaf({s.K, s.D}, 0.1, state),
          leaf({s.K, 6 + 2 * s.N, s.D}, 0.1, dtype),
          leaf({s.K, s.D, 6}, 0.4, dtype),
          (-torch::rand({s.K, s.D, s.N}) * 4).to(state).to(device).requires_grad_(true),
          leaf({s.K, s.D}, 1, state),
          leaf({s.K, s.D}, 1, state)};
      const auto out =
          mamba_inner(in[0], {in[1], in[2], in[3], in[4], in[5], in[6], in[7]}, orders_for(s));
      const auto grad = torch::cos(torch::arange(out.numel())).view_as(out).to(dtype).to(device);
      auto results = torch::autograd::grad({out}, in, {grad});
      results.push_back(out.detach());
      return results;
    };
    expect_close(run(torch::kCUDA), run(torch::kCPU),
                 dtype == torch::kFloat64   ? 1e-10
                 : dtype == torch::kFloat32 ? 1e-4
                                            : 4e-2);
  }
}

TEST_F(Cuda, CrossScanEqualsTheCpu) {
  for (const Shape& s : {Shape{3, 2, 520, 96, 1, 8}, Shape{3, 1, 260, 40, 5, 10}}) {
    for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
      const auto run = [&](torch::Device device) {
        torch::manual_seed(5);
        const auto state = dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
        const auto leaf = [&](torch::IntArrayRef size, double scale, torch::ScalarType type) {
          return (torch::randn(size) * scale).to(type).to(device).requires_grad_(true);
        };
        const std::vector<Tensor> in{
            leaf({s.B, s.L, s.D}, 1, dtype),
            leaf({s.K, 6 + 2 * s.N, s.D}, 0.1, dtype),
            leaf({s.K, s.D, 6}, 0.4, dtype),
            (-torch::rand({s.K, s.D, s.N}) * 4).to(state).to(device).requires_grad_(true),
            leaf({s.K, s.D}, 1, state),
            leaf({s.K, s.D}, 1, state)};
        const auto out = cross_scan(in[0], {in[1], in[2], in[3], in[4], in[5]}, orders_for(s));
        const auto grad = torch::cos(torch::arange(out.numel())).view_as(out).to(dtype).to(device);
        auto results = torch::autograd::grad({out}, in, {grad});
        results.push_back(out.detach());
        return results;
      };
      expect_close(run(torch::kCUDA), run(torch::kCPU),
                   dtype == torch::kFloat64   ? 1e-10
                   : dtype == torch::kFloat32 ? 1e-4
                                              : 4e-2);
    }
  }
}

}  // namespace
}  // namespace segmamba::ops
