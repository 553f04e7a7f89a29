// The scan where numbers are hard: long sequences, large steps and states, 16-bit inputs, odd
// memory. Everything is held to the float64 answer.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <vector>

#include "segmamba/ops/causal_conv1d.h"
#include "segmamba/ops/mamba_inner.h"
#include "segmamba/ops/selective_scan.h"

namespace segmamba::ops {
namespace {

using torch::Tensor;

double relative_error(const Tensor& got, const Tensor& exact) {
  const auto a = got.to(torch::kFloat64), b = exact.to(torch::kFloat64);
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-300)).item<double>();
}

// x, delta, A, B, C, D, z, delta_bias of one direction; A, D and delta_bias in the state's type.
struct Arguments {
  std::vector<Tensor> all;

  Arguments in_type(torch::ScalarType data) const {
    const auto state = data == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    Arguments result;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool parameter = i == 2 || i == 5 || i == 7;
      result.all.push_back(all[i].detach().to(parameter ? state : data).requires_grad_(true));
    }
    return result;
  }
  Tensor scan(bool softplus = true) const {
    return selective_scan(all[0], all[1], all[2], all[3], all[4], all[5], all[6], all[7], softplus);
  }
  std::vector<Tensor> gradients(const Tensor& out) const {
    return torch::autograd::grad({out}, all, {torch::cos(out.detach())});
  }
};

// Values that 16-bit types hold as well, so that all types see the same numbers.
Arguments arguments(std::int64_t L, std::int64_t D, std::int64_t N) {
  torch::manual_seed(8);
  const auto data = [](const std::vector<std::int64_t>& size, double shift = 0.0) {
    const auto numbers = (torch::randn(size) + shift).clamp(-8, 8);
    return numbers.to(torch::kBFloat16).to(torch::kHalf).to(torch::kFloat64);
  };
  return {{data({1, L, D}), data({1, L, D}, -4), -torch::rand({D, N}, torch::kFloat64) * 16,
           data({1, L, N}), data({1, L, N}), data({D}), data({1, L, D}), data({D})}};
}

TEST(Stress, LongSequences) {
  const auto exact = arguments(262144, 4, 16).in_type(torch::kFloat64);
  const auto expected = exact.scan();
  const auto expected_gradients = exact.gradients(expected);
  for (const auto& [dtype, tolerance] :
       {std::pair{torch::kFloat32, 2e-6}, std::pair{torch::kBFloat16, 4e-3},
        std::pair{torch::kHalf, 5e-4}}) {
    const auto in = exact.in_type(dtype);
    const auto out = in.scan();
    EXPECT_LT(relative_error(out, expected), tolerance) << dtype;
    // cos(out) of a rounded out makes the incoming gradients differ; compare with the same ones.
    const auto got =
        torch::autograd::grad({out}, in.all, {torch::cos(expected.detach()).to(dtype)});
    const double gradient_tolerance = dtype == torch::kFloat32 ? 3e-5 : 2 * tolerance;
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_LT(relative_error(got[i], expected_gradients[i]), gradient_tolerance) << dtype << i;
    }
  }
}

// Trained models hold states of 1e6; outputs stay small because C is.
TEST(Stress, StatesOfAMillion) {
  auto base = arguments(20000, 6, 16);
  base.all[2] = torch::full({6, 16}, -1e-4, torch::kFloat64);
  base.all[0] = base.all[0].abs() * 32;
  base.all[3] = base.all[3].abs() + 1;
  base.all[1] = torch::full({1, 20000, 6}, 3.0, torch::kFloat64);
  base.all[7] = torch::zeros({6}, torch::kFloat64);
  base.all[4] = base.all[4] * 1.52587890625e-05;  // 2^-16
  const auto exact = base.in_type(torch::kFloat64);
  const auto expected = exact.scan();
  // The state itself: C the first unit vector, no skip, no gate.
  const auto probe = torch::zeros({1, 20000, 16}, torch::kFloat64);
  probe.select(-1, 0).fill_(1);
  const auto state = selective_scan(exact.all[0], exact.all[1], exact.all[2], exact.all[3], probe,
                                    std::nullopt, std::nullopt, exact.all[7], true);
  ASSERT_GT(state.max().item<double>(), 1e5);
  for (const auto dtype : {torch::kFloat32, torch::kHalf, torch::kBFloat16}) {
    const auto in = base.in_type(dtype);
    auto same = in;  // what the type made of the inputs
    same = Arguments{in.all}.in_type(torch::kFloat64);
    const auto out = in.scan();
    EXPECT_TRUE(torch::isfinite(out).all().item<bool>()) << dtype;
    EXPECT_LT(relative_error(out, same.scan()), dtype == torch::kFloat32 ? 1e-4 : 8e-3) << dtype;
    for (const auto& gradient : in.gradients(out)) {
      if (gradient.scalar_type() == torch::kHalf) continue;  // may exceed 65504
      EXPECT_TRUE(torch::isfinite(gradient).all().item<bool>()) << dtype;
    }
  }
}

TEST(Stress, ExtremeStepsAndDecays) {
  for (const double scale : {1e-30, 1.0, 1e4}) {
    auto base = arguments(300, 5, 16);
    base.all[2] = -torch::rand({5, 16}, torch::kFloat64) * scale;
    base.all[1].select(1, 7).fill_(60000);
    base.all[1].select(1, 8).fill_(-60000);
    base.all[6].select(1, 9).fill_(60000);
    base.all[6].select(1, 10).fill_(-60000);
    for (const auto dtype : {torch::kFloat32, torch::kHalf, torch::kBFloat16}) {
      const auto in = base.in_type(dtype);
      const auto exact = in.in_type(torch::kFloat64);
      const auto out = in.scan(), expected = exact.scan();
      const auto fits = expected.abs() < (dtype == torch::kHalf ? 6e4 : 3e38);
      EXPECT_TRUE(torch::isfinite(out).logical_or(fits.logical_not()).all().item<bool>());
      EXPECT_FALSE(torch::isnan(out).any().item<bool>());
      EXPECT_LT(relative_error(out.masked_fill(fits.logical_not(), 0),
                               expected.masked_fill(fits.logical_not(), 0)),
                dtype == torch::kFloat32 ? 2e-6 : 5e-3)
          << scale << dtype;
      for (const auto& gradient :
           torch::autograd::grad({out}, in.all, {torch::full_like(out, 1e-3)})) {
        EXPECT_FALSE(torch::isnan(gradient).any().item<bool>()) << scale << dtype;
      }
    }
  }
}

// The second part of a sequence, started by one step that puts the first part's state in place,
// gives the second part of the whole.
TEST(Stress, SplitSequencesEqualTheWhole) {
  const std::int64_t L = 500, N = 16;
  auto in = arguments(L, 1, N);
  in.all[1] = in.all[1].abs() * 0.1;  // without softplus and bias
  const auto scan = [&](const Tensor& x, const Tensor& delta, const Tensor& B, const Tensor& C) {
    return selective_scan(x, delta, in.all[2], B, C);
  };
  const auto whole = scan(in.all[0], in.all[1], in.all[3], in.all[4]);
  for (const std::int64_t at : {1, 63, 64, 65, 300}) {
    const auto first = [&](int i) { return in.all[i].narrow(1, 0, at); };
    // The state after the first part, one entry a run.
    std::vector<Tensor> state;
    for (std::int64_t n = 0; n < N; ++n) {
      const auto C = torch::zeros({1, at, N}, torch::kFloat64);
      C.select(-1, n).fill_(1);
      state.push_back(scan(first(0), first(1), first(3), C).index({0, -1, 0}));
    }
    const auto with_step = [&](int i, const Tensor& step) {
      return torch::cat({step, in.all[i].narrow(1, at, L - at)}, 1);
    };
    const auto one = torch::ones({1, 1, 1}, torch::kFloat64);
    const auto second = scan(with_step(0, one), with_step(1, one),
                             with_step(3, torch::stack(state).view({1, 1, N})),
                             with_step(4, torch::zeros({1, 1, N}, torch::kFloat64)))
                            .narrow(1, 1, L - at);
    EXPECT_LT(relative_error(second, whole.narrow(1, at, L - at)), 1e-13) << at;
  }
}

TEST(Stress, OddMemoryGivesTheSame) {
  const auto in = arguments(77, 20, 16).in_type(torch::kFloat32);
  const auto expected = in.scan();
  const auto expected_gradients = in.gradients(expected);
  for (const int way : {0, 1, 2}) {
    Arguments odd;
    for (const auto& tensor : in.all) {
      auto wide_sizes = tensor.sizes().vec();
      wide_sizes.back() += 3;
      const auto wide = torch::zeros(wide_sizes);
      auto view =
          way == 0 ? wide.narrow(-1, 1, tensor.size(-1))  // starts 4 bytes into a line
          : way == 1
              ? torch::zeros(tensor.sizes().vec())
                    .transpose(0, -1)
                    .contiguous()
                    .transpose(0, -1)  // strides the other way round
              : torch::zeros(tensor.numel() + 5).narrow(0, 5, tensor.numel()).view(tensor.sizes());
      view.copy_(tensor.detach());
      odd.all.push_back(view.detach().requires_grad_(true));
    }
    const auto out = odd.scan();
    EXPECT_TRUE(torch::equal(out, expected)) << way;
    const auto gradients = odd.gradients(out);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      EXPECT_TRUE(torch::equal(gradients[i], expected_gradients[i])) << way << " " << i;
    }
  }
}

TEST(Stress, NoTokensAndOneToken) {
  for (const auto& [batch, length] : {std::pair{0, 5}, std::pair{2, 0}, std::pair{1, 1}}) {
    const auto data = [&, b = batch, l = length](std::int64_t width) {
      return torch::rand({b, l, width}).requires_grad_(true);
    };
    const std::vector<Tensor> in{data(4), data(4), torch::full({4, 3}, -1.0).requires_grad_(true),
                                 data(3), data(3)};
    const auto out = selective_scan(in[0], in[1], in[2], in[3], in[4]);
    EXPECT_EQ(out.sizes(), in[0].sizes());
    EXPECT_LT(relative_error(out.sum(), (in[1] * in[0] * (in[3] * in[4]).sum(-1, true)).sum()),
              1e-6);
    const auto gradients = torch::autograd::grad({out.sum()}, in);
    EXPECT_EQ(gradients[2].abs().sum().item<float>(), 0) << "one step does not decay";
    const auto convolved = causal_conv1d_silu(in[0], torch::ones({1, 4, 4}), torch::ones({1, 4}),
                                              {ScanOrder::forward(length)});
    EXPECT_EQ(convolved.numel(), out.numel());
    const auto xz = torch::rand({batch, length, 8}).requires_grad_(true);
    const auto inner = mamba_inner(
        xz,
        {torch::ones({1, 4, 4}), torch::ones({1, 4}), torch::ones({1, 7, 4}),
         torch::ones({1, 4, 1}), -torch::ones({1, 4, 3}), torch::ones({1, 4}), torch::ones({1, 4})},
        {ScanOrder::forward(length)});
    EXPECT_EQ(inner.sizes(), out.sizes());
    EXPECT_EQ(torch::autograd::grad({inner.sum()}, {xz})[0].sizes(), xz.sizes());
  }
}

}  // namespace
}  // namespace segmamba::ops
