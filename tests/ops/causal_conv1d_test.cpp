#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/nn/weights.h"
#include "segmamba/ops/causal_conv1d.h"
#include "support/gradcheck.h"

namespace segmamba::ops {
namespace {

using torch::Tensor;

std::vector<ScanOrder> three_orders(std::int64_t length, std::int64_t slices) {
  return {ScanOrder::forward(length), ScanOrder::reverse(length),
          ScanOrder::interslice(length, slices)};
}

// Token at each step, as an index tensor.
Tensor path_of(const ScanOrder& order, std::int64_t length) {
  const auto grid =
      torch::arange(length).as_strided({order.extent[0], order.extent[1], order.extent[2]},
                                       {order.stride[0], order.stride[1], order.stride[2]});
  const auto path = grid.reshape({-1});
  return order.reversed ? path.flip(0) : path;
}

// Reorders, pads, convolves, puts back: what the operator does without copying.
Tensor reference(const Tensor& x, const Tensor& weight, const Tensor& bias,
                 const std::vector<ScanOrder>& orders) {
  std::vector<Tensor> out;
  const auto taps = weight.size(2);
  for (std::size_t k = 0; k < orders.size(); ++k) {
    const auto path = path_of(orders[k], x.size(1));
    const auto sequence =
        torch::constant_pad_nd(x.index_select(1, path).transpose(1, 2), {taps - 1, 0});
    const auto y = torch::conv1d(sequence, weight[k].unsqueeze(1), bias[k], torch::IntArrayRef{1},
                                 torch::IntArrayRef{0}, torch::IntArrayRef{1}, x.size(2));
    out.push_back(torch::silu(y).transpose(1, 2).index_select(1, torch::argsort(path)));
  }
  return torch::stack(out);
}

double relative_difference(const Tensor& got, const Tensor& expected) {
  return ((got.to(torch::kFloat64) - expected.to(torch::kFloat64)).abs().max() /
          expected.to(torch::kFloat64).abs().max().clamp_min(1e-30))
      .item<double>();
}

TEST(CausalConv1d, Golden) {
  const auto file = nn::read_safetensors(std::filesystem::path(SEGMAMBA_TEST_DATA) / "ops" /
                                         "conv1d_silu.safetensors");
  for (const auto dtype : {torch::kFloat64, torch::kFloat32}) {
    const double tolerance = dtype == torch::kFloat64 ? 1e-6 : 2e-5;
    const auto leaf = [&](const Tensor& t) {
      return t.to(dtype, false, true).requires_grad_(true);
    };
    const auto x = leaf(file.tensors.at("x"));
    const auto weight = leaf(file.tensors.at("weight").squeeze(1).unsqueeze(0));
    const auto bias = leaf(file.tensors.at("bias").unsqueeze(0));
    const auto out = causal_conv1d_silu(x, weight, bias, {ScanOrder::forward(x.size(1))});
    EXPECT_LT(relative_difference(out[0], file.tensors.at("out")), tolerance);
    out.backward(file.tensors.at("grad_out").to(dtype).unsqueeze(0));
    EXPECT_LT(relative_difference(x.grad(), file.tensors.at("grad.x")), tolerance);
    EXPECT_LT(relative_difference(weight.grad()[0], file.tensors.at("grad.weight").squeeze(1)),
              tolerance);
    EXPECT_LT(relative_difference(bias.grad()[0], file.tensors.at("grad.bias")), tolerance);
  }
}

TEST(CausalConv1d, EqualsReorderedConvolution) {
  struct Case {
    std::int64_t batch, length, channels, taps, slices;
  };
  // Lengths below the taps, and past one and two chunks of the CPU schedule.
  for (const auto& c : {Case{1, 1, 1, 4, 1}, Case{2, 3, 5, 4, 3}, Case{1, 36, 17, 1, 4},
                        Case{2, 1040, 20, 4, 8}, Case{1, 513, 33, 3, 3}}) {
    SCOPED_TRACE(::testing::Message() << "L " << c.length << ", D " << c.channels);
    torch::manual_seed(3);
    const auto options = torch::TensorOptions(torch::kFloat64);
    for (const auto dtype : {torch::kFloat64, torch::kFloat32}) {
      const double tolerance = dtype == torch::kFloat64 ? 1e-11 : 2e-5;
      // x as the first half of a wider projection, as in the Mamba layer.
      const auto wide =
          torch::randn({c.batch, c.length, 2 * c.channels}, options).to(dtype).requires_grad_(true);
      const auto weight =
          torch::randn({3, c.channels, c.taps}, options).to(dtype).requires_grad_(true);
      const auto bias = torch::randn({3, c.channels}, options).to(dtype).requires_grad_(true);
      const auto orders = three_orders(c.length, c.slices);
      const auto got = causal_conv1d_silu(wide.slice(-1, 0, c.channels), weight, bias, orders);
      const auto wide64 = wide.detach().to(torch::kFloat64).clone().requires_grad_(true);
      const auto weight64 = weight.detach().to(torch::kFloat64).clone().requires_grad_(true);
      const auto bias64 = bias.detach().to(torch::kFloat64).clone().requires_grad_(true);
      const auto expected = reference(wide64.slice(-1, 0, c.channels), weight64, bias64, orders);
      EXPECT_LT(relative_difference(got, expected), tolerance);
      const auto grad = torch::cos(torch::arange(got.numel(), options)).view_as(got);
      const auto got_grads = torch::autograd::grad({got}, {wide, weight, bias}, {grad.to(dtype)});
      const auto expected_grads =
          torch::autograd::grad({expected}, {wide64, weight64, bias64}, {grad});
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_LT(relative_difference(got_grads[i], expected_grads[i]), tolerance) << i;
      }
    }
  }
}

TEST(CausalConv1d, Gradcheck) {
  const auto options = torch::TensorOptions(torch::kFloat64);
  torch::manual_seed(4);
  const auto x = torch::randn({2, 12, 3}, options).requires_grad_(true);
  const auto weight = torch::randn({3, 3, 4}, options).requires_grad_(true);
  const auto bias = torch::randn({3, 3}, options).requires_grad_(true);
  EXPECT_TRUE(segmamba::testing::gradcheck(
      [](const std::vector<Tensor>& in) {
        return causal_conv1d_silu(in[0], in[1], in[2], three_orders(12, 4));
      },
      {x, weight, bias}));
}

TEST(CausalConv1d, BitsDoNotDependOnTheNumberOfThreads) {
  const int threads = torch::get_num_threads();
  std::vector<std::vector<Tensor>> results;
  for (const int count : {1, 2, 5}) {
    torch::set_num_threads(count);
    torch::manual_seed(5);
    const auto x = torch::randn({2, 1600, 24}).requires_grad_(true);
    const auto weight = torch::randn({3, 24, 4}).requires_grad_(true);
    const auto bias = torch::randn({3, 24}).requires_grad_(true);
    const auto out = causal_conv1d_silu(x, weight, bias, three_orders(1600, 8));
    auto all = torch::autograd::grad({out}, {x, weight, bias}, {torch::cos(out.detach())});
    all.push_back(out.detach());
    results.push_back(all);
  }
  torch::set_num_threads(threads);
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    EXPECT_TRUE(torch::equal(results[0][i], results[1][i])) << i;
    EXPECT_TRUE(torch::equal(results[0][i], results[2][i])) << i;
  }
}

TEST(CausalConv1d, ErrorsNameTheArgument) {
  const auto x = torch::zeros({1, 6, 4}), weight = torch::zeros({1, 4, 4});
  const auto bias = torch::zeros({1, 4});
  const auto error_of = [](const Tensor& x, const Tensor& weight, const Tensor& bias,
                           const std::vector<ScanOrder>& orders) -> std::string {
    try {
      causal_conv1d_silu(x, weight, bias, orders);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const std::vector<ScanOrder> orders{ScanOrder::forward(6)};
  EXPECT_EQ(error_of(x, weight[0], bias, orders),
            "causal_conv1d_silu: weight must have shape [K, D, J] = [1, 4, J], got [4, 4]");
  EXPECT_EQ(error_of(x, weight, bias[0], orders),
            "causal_conv1d_silu: bias must have shape [K, D] = [1, 4], got [4]");
  EXPECT_EQ(error_of(x, weight.to(torch::kFloat64), bias, orders),
            "causal_conv1d_silu: weight must be Float (x is Float), got Double");
  EXPECT_EQ(error_of(x, torch::zeros({1, 4, 9}), bias, orders),
            "causal_conv1d_silu: weight must have at most 8 taps, got 9");
  EXPECT_EQ(error_of(x, weight, bias, {}),
            "causal_conv1d_silu: orders must name 1 to 32 directions, got 0");
}

}  // namespace
}  // namespace segmamba::ops
