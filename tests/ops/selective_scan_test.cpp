#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/nn/weights.h"
#include "segmamba/ops/selective_scan.h"
#include "support/gradcheck.h"

namespace segmamba::ops {
namespace {

using torch::Tensor;
using OptionalTensor = std::optional<Tensor>;

// The arguments of selective_scan_directions.
struct Scan {
  Tensor x, delta, A, B, C;
  OptionalTensor D, z, delta_bias;
  bool delta_softplus = true;
  std::vector<ScanOrder> orders;

  Tensor run() const {
    return selective_scan_directions(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  }
  std::vector<Tensor> tensors() const {
    std::vector<Tensor> all{x, delta, A, B, C};
    for (const auto* optional : {&D, &z, &delta_bias}) {
      if (*optional) all.push_back(**optional);
    }
    return all;
  }
  Scan map(const std::function<Tensor(const Tensor&)>& function) const {
    Scan result = *this;
    for (auto* tensor : {&result.x, &result.delta, &result.A, &result.B, &result.C}) {
      *tensor = function(*tensor);
    }
    for (auto* optional : {&result.D, &result.z, &result.delta_bias}) {
      if (*optional) *optional = function(**optional);
    }
    return result;
  }
  Scan leaves() const {
    return map([](const Tensor& t) { return t.detach().clone().requires_grad_(true); });
  }
};

struct Sizes {
  std::int64_t K, B, L, D, N;
};

Scan random_scan(const Sizes& s, std::vector<ScanOrder> orders,
                 torch::ScalarType dtype = torch::kFloat64, std::uint64_t seed = 1) {
  torch::manual_seed(seed);
  const auto options = torch::TensorOptions(torch::kFloat64);
  Scan scan;
  scan.x = torch::randn({s.K, s.B, s.L, s.D}, options);
  scan.delta = torch::randn({s.K, s.B, s.L, s.D}, options);
  scan.A = -torch::exp(torch::randn({s.K, s.D, s.N}, options));
  scan.B = torch::randn({s.K, s.B, s.L, s.N}, options);
  scan.C = torch::randn({s.K, s.B, s.L, s.N}, options);
  scan.D = torch::randn({s.K, s.D}, options);
  scan.z = torch::randn({s.B, s.L, s.D}, options);
  scan.delta_bias = torch::randn({s.K, s.D}, options);
  scan.orders = std::move(orders);
  return scan.map([&](const Tensor& t) { return t.to(dtype); });
}

std::int64_t token_of(const ScanOrder& order, std::int64_t step) {
  const auto* e = order.extent;
  if (order.reversed) step = e[0] * e[1] * e[2] - 1 - step;
  return step / (e[1] * e[2]) * order.stride[0] + step / e[2] % e[1] * order.stride[1] +
         step % e[2] * order.stride[2];
}

// The formula, step by step, in differentiable tensor operations.
Tensor sequential_scan(const Scan& s) {
  Tensor sum;
  for (std::int64_t k = 0; k < s.x.size(0); ++k) {
    auto delta = s.delta[k];
    if (s.delta_bias) delta = delta + (*s.delta_bias)[k];
    if (s.delta_softplus) delta = torch::softplus(delta);
    auto h = torch::zeros({s.x.size(1), s.x.size(3), s.A.size(2)}, s.x.options());
    std::vector<Tensor> rows(s.x.size(2));
    for (std::int64_t t = 0; t < s.x.size(2); ++t) {
      const auto l = token_of(s.orders[k], t);
      const auto d = delta.select(1, l).unsqueeze(-1);
      const auto x = s.x[k].select(1, l);
      h = torch::exp(d * s.A[k]) * h + d * x.unsqueeze(-1) * s.B[k].select(1, l).unsqueeze(1);
      rows[l] = (h * s.C[k].select(1, l).unsqueeze(1)).sum(-1);
      if (s.D) rows[l] = rows[l] + (*s.D)[k] * x;
    }
    const auto y = torch::stack(rows, 1);
    sum = sum.defined() ? sum + y : y;
  }
  return s.z ? sum * torch::silu(*s.z) : sum;
}

double relative_difference(const Tensor& got, const Tensor& expected) {
  const auto scale = expected.abs().max().item<double>();
  return (got.to(torch::kFloat64) - expected.to(torch::kFloat64)).abs().max().item<double>() /
         std::max(scale, 1e-30);
}

std::vector<Tensor> gradients(const Tensor& out, const Tensor& grad_out, const Scan& leaves) {
  return torch::autograd::grad({out}, leaves.tensors(), {grad_out});
}

void expect_equals_sequential(const Scan& scan, double tolerance) {
  const auto reference = scan.map([](const Tensor& t) { return t.to(torch::kFloat64); }).leaves();
  const auto expected = sequential_scan(reference);
  const auto leaves = scan.leaves();
  const auto got = leaves.run();
  EXPECT_LT(relative_difference(got, expected), tolerance);
  const auto grad_out = torch::cos(torch::arange(got.numel(), torch::kFloat64)).view_as(got);
  const auto expected_gradients = gradients(expected, grad_out, reference);
  const auto got_gradients = gradients(got, grad_out.to(got.scalar_type()), leaves);
  for (std::size_t i = 0; i < got_gradients.size(); ++i) {
    EXPECT_LT(relative_difference(got_gradients[i], expected_gradients[i]), tolerance)
        << "gradient of argument " << i;
  }
}

// --- Golden files: the published recurrence in float64 -------------------------------------------

class GoldenScan : public ::testing::TestWithParam<std::tuple<std::string, torch::ScalarType>> {};

TEST_P(GoldenScan, ForwardAndEveryGradient) {
  const auto& [name, dtype] = GetParam();
  const double tolerance = dtype == torch::kFloat64 ? 1e-6 : 2e-5;
  auto file = nn::read_safetensors(std::filesystem::path(SEGMAMBA_TEST_DATA) / "ops" /
                                   (name + ".safetensors"));
  const bool softplus =
      file.metadata.at("info").find("\"delta_softplus\": true") != std::string::npos;
  std::map<std::string, Tensor> leaf;
  for (const auto* key : {"x", "delta", "A", "B", "C", "D", "z", "delta_bias"}) {
    if (!file.tensors.count(key)) continue;
    leaf[key] = file.tensors.at(key).to(dtype, false, true).requires_grad_(true);
  }
  const auto optional = [&](const std::string& key) {
    return leaf.count(key) ? OptionalTensor(leaf.at(key)) : std::nullopt;
  };
  const auto out =
      selective_scan(leaf.at("x"), leaf.at("delta"), leaf.at("A"), leaf.at("B"), leaf.at("C"),
                     optional("D"), optional("z"), optional("delta_bias"), softplus);
  EXPECT_LT(relative_difference(out, file.tensors.at("out")), tolerance);
  out.backward(file.tensors.at("grad_out").to(dtype));
  for (const auto& [key, tensor] : leaf) {
    EXPECT_LT(relative_difference(tensor.grad(), file.tensors.at("grad." + key)), tolerance)
        << "gradient of " << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenScan,
                         ::testing::Combine(::testing::Values("scan_basic", "scan_no_gate",
                                                              "scan_one_token", "scan_257_n8_plain",
                                                              "scan_stress", "scan_long"),
                                            ::testing::Values(torch::kFloat64, torch::kFloat32)),
                         [](const auto& info) {
                           return std::get<0>(info.param) +
                                  (std::get<1>(info.param) == torch::kFloat64 ? "_float64"
                                                                              : "_float32");
                         });

// --- Against the sequential reference ------------------------------------------------------------

TEST(SelectiveScan, EqualsSequentialReferenceAtAwkwardSizes) {
  for (const Sizes& s : {Sizes{1, 1, 1, 1, 1}, Sizes{1, 2, 3, 5, 2}, Sizes{1, 1, 63, 17, 16},
                         Sizes{1, 1, 64, 8, 8}, Sizes{2, 1, 65, 33, 16}, Sizes{1, 2, 191, 20, 5}}) {
    SCOPED_TRACE(::testing::Message() << "L " << s.L << ", D " << s.D << ", N " << s.N);
    std::vector<ScanOrder> orders{ScanOrder::forward(s.L)};
    if (s.K == 2) orders.push_back(ScanOrder::reverse(s.L));
    expect_equals_sequential(random_scan(s, orders), 1e-11);
    expect_equals_sequential(random_scan(s, orders, torch::kFloat32), 2e-5);
  }
}

TEST(SelectiveScan, ThreeDirectionsShareOneGate) {
  const std::vector<ScanOrder> orders{ScanOrder::forward(120), ScanOrder::reverse(120),
                                      ScanOrder::interslice(120, 8)};
  expect_equals_sequential(random_scan({3, 2, 120, 18, 16}, orders), 1e-11);
}

TEST(SelectiveScan, AxisOrdersWithReversal) {
  // A [4, 3, 5] grid walked with each axis fastest in turn.
  const std::vector<ScanOrder> orders{
      {{3, 5, 4}, {5, 1, 15}, true}, {{5, 4, 3}, {1, 15, 5}, false}, {{4, 3, 5}, {15, 5, 1}, true}};
  expect_equals_sequential(random_scan({3, 1, 60, 7, 4}, orders), 1e-11);
}

TEST(SelectiveScan, WithoutGateSkipBiasOrSoftplus) {
  auto scan = random_scan({2, 1, 70, 9, 16}, {ScanOrder::forward(70), ScanOrder::reverse(70)});
  for (auto* optional : {&scan.z, &scan.D, &scan.delta_bias}) optional->reset();
  scan.delta_softplus = false;
  scan.delta = torch::rand_like(scan.delta);
  expect_equals_sequential(scan, 1e-11);
}

TEST(SelectiveScan, StridedViewsGiveWhatCopiesGive) {
  auto scan = random_scan({2, 2, 66, 12, 16}, {ScanOrder::forward(66), ScanOrder::reverse(66)});
  const auto expected = scan.run();
  auto strided = scan;
  // z and x as halves of a wider projection; C with a last dimension that is not contiguous.
  strided.z = torch::cat({torch::randn_like(*scan.z), *scan.z}, -1).slice(-1, 12);
  strided.x = torch::cat({scan.x, scan.x}, -1).slice(-1, 0, 12);
  strided.C = scan.C.transpose(2, 3).contiguous().transpose(2, 3);
  strided.B = scan.B.transpose(0, 1).contiguous().transpose(0, 1);
  EXPECT_TRUE(torch::equal(strided.run(), expected));
  expect_equals_sequential(strided, 1e-11);
}

TEST(SelectiveScan, Gradcheck) {
  for (const bool gated : {true, false}) {
    auto scan = random_scan({2, 1, 67, 2, 3}, {ScanOrder::forward(67), ScanOrder::reverse(67)});
    if (!gated) scan.z.reset();
    const auto leaves = scan.leaves();
    EXPECT_TRUE(
        segmamba::testing::gradcheck([&](const std::vector<Tensor>&) { return leaves.run(); },
                                     leaves.tensors(), {.relative = 1e-5, .elements = 60}));
  }
}

// A scan of a whole equals the scan of its second part plus what the first part's last state leaves
// there; with C = 0 in the second part except at its first token that state is seen directly.
TEST(SelectiveScan, ScanOfASplitSequence) {
  const std::int64_t length = 150, cut = 71;
  auto whole = random_scan({1, 1, length, 6, 4}, {ScanOrder::forward(length)});
  whole.z.reset();
  const auto out = whole.run();
  auto head = whole;
  for (auto* t : {&head.x, &head.delta, &head.B, &head.C}) *t = t->slice(2, 0, cut);
  head.orders = {ScanOrder::forward(cut)};
  EXPECT_TRUE(torch::allclose(head.run(), out.slice(1, 0, cut), 0, 0));
  // Silence the head by x = 0: what is left is the tail from a zero state.
  auto tail = whole;
  for (auto* t : {&tail.x, &tail.delta, &tail.B, &tail.C}) *t = t->slice(2, cut);
  tail.orders = {ScanOrder::forward(length - cut)};
  auto silenced = whole;
  silenced.x = whole.x.clone();
  silenced.x.slice(2, 0, cut).zero_();
  auto carried = whole;
  carried.x = whole.x.clone();
  carried.x.slice(2, cut).zero_();
  EXPECT_LT(relative_difference(silenced.run().slice(1, cut), tail.run()), 1e-12);
  // The recurrence is linear in x.
  EXPECT_LT(relative_difference(silenced.run() + carried.run(), out), 1e-12);
}

// Few sequences (chunk-parallel schedule) and many (one sweep each).
TEST(SelectiveScan, BitsDoNotDependOnTheNumberOfThreads) {
  const int threads = torch::get_num_threads();
  for (const Sizes& s : {Sizes{1, 1, 1500, 8, 16}, Sizes{3, 2, 300, 40, 16}}) {
    std::vector<ScanOrder> orders;
    for (int k = 0; k < s.K; ++k) {
      orders.push_back(k == 2 ? ScanOrder::interslice(s.L, 4)
                              : (k ? ScanOrder::reverse(s.L) : ScanOrder::forward(s.L)));
    }
    std::vector<std::vector<Tensor>> results;
    for (const int count : {1, 2, 5}) {
      torch::set_num_threads(count);
      const auto leaves = random_scan(s, orders, torch::kFloat32).leaves();
      const auto out = leaves.run();
      auto all = gradients(out, torch::cos(out.detach()), leaves);
      all.push_back(out.detach());
      results.push_back(all);
    }
    torch::set_num_threads(threads);
    for (std::size_t i = 0; i < results[0].size(); ++i) {
      EXPECT_TRUE(torch::equal(results[0][i], results[1][i])) << "tensor " << i;
      EXPECT_TRUE(torch::equal(results[0][i], results[2][i])) << "tensor " << i;
    }
  }
}

TEST(SelectiveScan, LongDecayAndLargeDeltaStayExact) {
  auto scan = random_scan({1, 1, 200, 16, 16}, {ScanOrder::forward(200)}, torch::kFloat32);
  scan.delta = scan.delta * 30;  // softplus from 1e-40 to 100; decays down to exp(-1000)
  expect_equals_sequential(scan, 2e-5);
}

TEST(SelectiveScan, SixteenBitDataComputesInFloat32) {
  const auto scan = random_scan({1, 1, 90, 8, 16}, {ScanOrder::forward(90)}, torch::kFloat32);
  auto narrow = scan;
  for (auto* t : {&narrow.x, &narrow.delta, &narrow.B, &narrow.C}) *t = t->to(torch::kBFloat16);
  narrow.z = narrow.z->to(torch::kBFloat16);
  auto widened = narrow;
  for (auto* t : {&widened.x, &widened.delta, &widened.B, &widened.C}) *t = t->to(torch::kFloat32);
  widened.z = widened.z->to(torch::kFloat32);
  const auto out = narrow.run();
  EXPECT_EQ(out.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::equal(out, widened.run().to(torch::kBFloat16)));
}

TEST(SelectiveScan, MetaTensorsGiveShapesOnly) {
  const auto scan = random_scan({2, 3, 10, 4, 16}, {ScanOrder::forward(10), ScanOrder::reverse(10)})
                        .map([](const Tensor& t) { return t.to(torch::kMeta); });
  const auto leaves = scan.map([](const Tensor& t) { return t.detach().requires_grad_(true); });
  const auto out = leaves.run();
  EXPECT_TRUE(out.is_meta());
  EXPECT_EQ(out.sizes(), torch::IntArrayRef({3, 10, 4}));
  const auto grads = gradients(out, torch::empty_like(out), leaves);
  EXPECT_EQ(grads[2].sizes(), leaves.A.sizes());
}

// --- Errors --------------------------------------------------------------------------------------

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SelectiveScan, ErrorsNameTheArgument) {
  const auto good =
      random_scan({2, 1, 12, 4, 16}, {ScanOrder::forward(12), ScanOrder::reverse(12)});
  const auto error_with = [&](const std::function<void(Scan&)>& change) {
    Scan bad = good;
    change(bad);
    return error_of([&] { bad.run(); });
  };
  const std::string op = "selective_scan_directions: ";
  EXPECT_EQ(error_with([](Scan& s) { s.A = s.A[0][0]; }),
            op + "A must have shape [K, D, N] = [2, 4, N], got [16]");
  EXPECT_EQ(error_with([](Scan& s) { s.delta = s.delta.slice(2, 0, 11); }),
            op + "delta must have shape [K, B, L, D] = [2, 1, 12, 4], got [2, 1, 11, 4]");
  EXPECT_EQ(error_with([](Scan& s) { s.z = s.x; }),
            op + "z must have shape [B, L, D] = [1, 12, 4], got [2, 1, 12, 4]");
  EXPECT_EQ(error_with([](Scan& s) { s.B = s.B.to(torch::kFloat32); }),
            op + "B must be Double (x is Double), got Float");
  EXPECT_EQ(error_with([](Scan& s) { s.D = s.D->to(torch::kFloat32); }),
            op + "D must be Double (x is Double), got Float");
  EXPECT_EQ(error_with([](Scan& s) { s.x = s.x.to(torch::kInt64); }),
            op + "x must be Float, Double, BFloat16 or Half, got Long");
  EXPECT_EQ(error_with([](Scan& s) { s.orders.pop_back(); }),
            op + "orders must name 2 directions, as x has, got 1");
  EXPECT_EQ(error_with([](Scan& s) {
              s.orders[1] = {{1, 3, 4}, {0, 1, 4}, false};
            }),
            op + "orders[1] must visit each of 12 tokens once, got extent [1, 3, 4] and stride "
                 "[0, 1, 4]");
  EXPECT_EQ(error_of([] { ScanOrder::interslice(10, 4); }),
            "ScanOrder::interslice: length must be a multiple of slices, got length 10 and 4 "
            "slices");
  EXPECT_EQ(error_of([&] {
              selective_scan(good.x[0], good.delta[0], good.A[0].flatten(), good.B[0], good.C[0]);
            }),
            "selective_scan: A must have shape [D, N] = [4, N], got [64]");
}

TEST(ScanOrder, InterslicePathOfTheOriginal) {
  const auto order = ScanOrder::interslice(12, 3);
  std::vector<std::int64_t> path;
  for (int t = 0; t < 12; ++t) path.push_back(token_of(order, t));
  EXPECT_THAT(path, ::testing::ElementsAre(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
}

}  // namespace
}  // namespace segmamba::ops
