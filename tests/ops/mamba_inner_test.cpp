#include "segmamba/ops/mamba_inner.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/ops/causal_conv1d.h"
#include "support/gradcheck.h"

namespace segmamba::ops {
namespace {

using torch::Tensor;

struct Sizes {
  std::int64_t batch, length, inner, rank, states, taps, slices;
};

std::vector<ScanOrder> orders_for(const Sizes& s) {
  return {ScanOrder::forward(s.length), ScanOrder::reverse(s.length),
          ScanOrder::interslice(s.length, s.slices)};
}

// xz and the parameters in the order of MambaParameters, as leaves.
std::vector<Tensor> leaves(const Sizes& s, torch::ScalarType dtype) {
  torch::manual_seed(6);
  const auto state = dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const auto numbers = [](torch::IntArrayRef size) { return torch::randn(size, torch::kFloat64); };
  std::vector<Tensor> all{numbers({s.batch, s.length, 2 * s.inner}).to(dtype),
                          numbers({3, s.inner, s.taps}).to(state),
                          numbers({3, s.inner}).to(state),
                          (numbers({3, s.rank + 2 * s.states, s.inner}) * 0.3).to(dtype),
                          numbers({3, s.inner, s.rank}).to(dtype),
                          (-torch::rand({3, s.inner, s.states}, torch::kFloat64) * 4).to(state),
                          numbers({3, s.inner}).to(state),
                          (numbers({3, s.inner}) - 1).to(state)};
  for (auto& tensor : all) tensor.requires_grad_(true);
  return all;
}

Tensor inner(const std::vector<Tensor>& in, const std::vector<ScanOrder>& orders) {
  return mamba_inner(in[0], {in[1], in[2], in[3], in[4], in[5], in[6], in[7]}, orders);
}

// The same from the operators for all directions at once.
Tensor composed(const std::vector<Tensor>& in, const std::vector<ScanOrder>& orders) {
  const auto E = in[0].size(2) / 2, N = in[5].size(2), R = in[4].size(2);
  const auto x = causal_conv1d_silu(in[0].narrow(-1, 0, E), in[1], in[2], orders);
  const auto projected = torch::matmul(x, in[3].unsqueeze(1).transpose(-1, -2));
  const auto delta =
      torch::matmul(projected.narrow(-1, 0, R), in[4].unsqueeze(1).transpose(-1, -2));
  return selective_scan_directions(x, delta, in[5], projected.narrow(-1, R, N),
                                   projected.narrow(-1, R + N, N), in[6], in[0].narrow(-1, E, E),
                                   in[7], true, orders);
}

double relative_difference(const Tensor& got, const Tensor& expected) {
  const auto a = got.to(torch::kFloat64), b = expected.to(torch::kFloat64);
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item<double>();
}

const Sizes kSizes[] = {{1, 1, 3, 1, 2, 4, 1},     {2, 130, 20, 3, 16, 4, 10},
                        {1, 320, 96, 6, 16, 4, 8}, {2, 1100, 100, 7, 16, 4, 11},
                        {1, 30, 130, 2, 5, 1, 5},  {1, 60, 8, 2, 20, 3, 6}};

TEST(MambaInner, EqualsTheComposedOperators) {
  const auto threads = torch::get_num_threads();
  for (const auto& s : kSizes) {
    for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
      SCOPED_TRACE(::testing::Message() << "L " << s.length << " " << dtype);
      const auto in = leaves(s, dtype);
      auto exact = in;
      for (auto& t : exact) t = t.detach().to(torch::kFloat64).requires_grad_(true);
      const auto got = inner(in, orders_for(s));
      const auto expected = composed(exact, orders_for(s));
      // 16 bits: the projections and delta are rounded on the way, as anywhere in autocast.
      const double tolerance = dtype == torch::kFloat64   ? 1e-12
                               : dtype == torch::kFloat32 ? 2e-5
                                                          : 4e-2;
      EXPECT_EQ(got.scalar_type(), dtype);
      EXPECT_LT(relative_difference(got, expected), tolerance);
      const auto grad = torch::cos(torch::arange(got.numel(), torch::kFloat64)).view_as(got);
      const auto got_grads = torch::autograd::grad({got}, in, {grad.to(dtype)});
      const auto expected_grads = torch::autograd::grad({expected}, exact, {grad});
      for (std::size_t i = 0; i < in.size(); ++i) {
        EXPECT_LT(relative_difference(got_grads[i], expected_grads[i]), 5 * tolerance) << i;
        EXPECT_EQ(got_grads[i].scalar_type(), in[i].scalar_type());
      }
      // Without gradients the steps are one kernel, which rounds less on the way.
      const c10::InferenceMode inference;
      const auto fused = inner(in, orders_for(s));
      EXPECT_EQ(fused.scalar_type(), dtype);
      EXPECT_LT(relative_difference(fused, expected), tolerance);
      torch::set_num_threads(1);
      EXPECT_TRUE(torch::equal(inner(in, orders_for(s)), fused));
      torch::set_num_threads(threads);
    }
  }
}

Tensor scans(const std::vector<Tensor>& in, const std::vector<ScanOrder>& orders) {
  return cross_scan(in[0], {in[1], in[2], in[3], in[4], in[5]}, orders);
}

// x without z, and the parameters without the convolutions.
std::vector<Tensor> scan_leaves(const Sizes& s, torch::ScalarType dtype) {
  auto all = leaves(s, dtype);
  all[0] = all[0].detach().narrow(-1, 0, s.inner).clone().requires_grad_(true);
  all.erase(all.begin() + 1, all.begin() + 3);
  return all;
}

TEST(CrossScan, EqualsTheComposedOperators) {
  auto sizes = std::vector<Sizes>(std::begin(kSizes), std::end(kSizes));
  sizes.push_back({2, 90, 20, 3, 1, 4, 6});  // a single state
  for (const auto& s : sizes) {
    for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
      SCOPED_TRACE(::testing::Message() << "L " << s.length << " N " << s.states << " " << dtype);
      const auto in = scan_leaves(s, dtype);
      auto exact = in;
      for (auto& t : exact) t = t.detach().to(torch::kFloat64).requires_grad_(true);
      const auto R = s.rank, N = s.states;
      const auto x = exact[0].unsqueeze(0).expand({3, -1, -1, -1});
      const auto projected = torch::matmul(x, exact[1].unsqueeze(1).transpose(-1, -2));
      const auto delta =
          torch::matmul(projected.narrow(-1, 0, R), exact[2].unsqueeze(1).transpose(-1, -2));
      const auto expected = selective_scan_directions(
          x, delta, exact[3], projected.narrow(-1, R, N), projected.narrow(-1, R + N, N), exact[4],
          std::nullopt, exact[5], true, orders_for(s));
      const auto got = scans(in, orders_for(s));
      const double tolerance = dtype == torch::kFloat64   ? 1e-12
                               : dtype == torch::kFloat32 ? 2e-5
                                                          : 4e-2;
      EXPECT_EQ(got.scalar_type(), dtype);
      EXPECT_LT(relative_difference(got, expected), tolerance);
      const auto grad = torch::cos(torch::arange(got.numel(), torch::kFloat64)).view_as(got);
      const auto got_grads = torch::autograd::grad({got}, in, {grad.to(dtype)});
      const auto expected_grads = torch::autograd::grad({expected}, exact, {grad});
      for (std::size_t i = 0; i < in.size(); ++i) {
        EXPECT_LT(relative_difference(got_grads[i], expected_grads[i]), 5 * tolerance) << i;
        EXPECT_EQ(got_grads[i].scalar_type(), in[i].scalar_type());
      }
      // Tokens that lie channel by channel are the same tokens.
      const torch::NoGradGuard no_grad;
      auto strided = in;
      strided[0] = in[0].transpose(1, 2).contiguous().transpose(1, 2);
      EXPECT_TRUE(torch::equal(scans(strided, orders_for(s)), got));
    }
  }
}

TEST(CrossScan, Gradcheck) {
  const Sizes s{2, 12, 3, 2, 1, 4, 4};
  EXPECT_TRUE(segmamba::testing::gradcheck(
      [&](const std::vector<Tensor>& in) { return scans(in, orders_for(s)); },
      scan_leaves(s, torch::kFloat64)));
}

TEST(MambaInner, Gradcheck) {
  const Sizes s{2, 12, 3, 2, 3, 4, 4};
  EXPECT_TRUE(segmamba::testing::gradcheck(
      [&](const std::vector<Tensor>& in) { return inner(in, orders_for(s)); },
      leaves(s, torch::kFloat64)));
}

TEST(MambaInner, ErrorsNameTheArgument) {
  const Sizes s{1, 6, 4, 2, 3, 4, 2};
  const auto error_of = [&](std::size_t i, const Tensor& wrong) -> std::string {
    auto in = leaves(s, torch::kFloat32);
    in[i] = wrong;
    try {
      inner(in, orders_for(s));
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of(0, torch::zeros({1, 6, 7})),
            "mamba_inner: xz must have an even number of channels, got 7");
  EXPECT_EQ(error_of(3, torch::zeros({3, 7, 4})),
            "mamba_inner: x_proj must have shape [K, R + 2N, E] = [3, 8, 4], got [3, 7, 4]");
  EXPECT_EQ(error_of(4, torch::zeros({3, 4, 2}, torch::kFloat64)),
            "mamba_inner: dt_proj must be Float (xz is Float), got Double");
  EXPECT_EQ(error_of(7, torch::zeros({3, 5})),
            "mamba_inner: delta_bias must have shape [K, E] = [3, 4], got [3, 5]");
  EXPECT_EQ(error_of(1, torch::zeros({0})),
            "mamba_inner: conv_weight must have shape [K, E, J] = [3, 4, J], got [0]");
}

TEST(CrossScan, ErrorsNameTheOperatorAndTheArgument) {
  const Sizes s{1, 6, 4, 2, 3, 4, 2};
  const auto error_of = [&](std::size_t i, const Tensor& wrong) -> std::string {
    auto in = scan_leaves(s, torch::kFloat32);
    in[i] = wrong;
    try {
      scans(in, orders_for(s));
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of(0, torch::zeros({6, 4})),
            "cross_scan: x must have shape [B, L, E], got [6, 4]");
  EXPECT_EQ(error_of(1, torch::zeros({3, 8, 4}, torch::kFloat64)),
            "cross_scan: x_proj must be Float (x is Float), got Double");
  EXPECT_EQ(error_of(4, torch::zeros({3, 5})),
            "cross_scan: D must have shape [K, E] = [3, 4], got [3, 5]");
}

}  // namespace
}  // namespace segmamba::ops
