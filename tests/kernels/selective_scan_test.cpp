#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu_lanes.h"
#include "cuda_blocks.h"
#include "kernels/scan_case.h"
#include "selective_scan_launch.cuh"

namespace segmamba::kernels {

// For the emulator; on the GPU the toolkit converts.
float to_state(Float16 v) { return static_cast<float>(segmamba::testing::to_double(v)); }
void from_state(float v, Float16& to) { cpu_lanes<Float16>().from_state(&v, &to, 1); }

namespace {

using segmamba::testing::convert;
using segmamba::testing::maps_for;
using segmamba::testing::ScanCase;
using segmamba::testing::ScanOptions;
using segmamba::testing::sequential_scan;
using segmamba::testing::to_double;

// Largest difference, relative to the largest expected value.
template <class A, class B>
double difference(const A& got, const B& expected) {
  double largest = 1e-30, apart = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(to_double(expected[i])));
    const double d = std::abs(to_double(got[i]) - to_double(expected[i]));
    apart = std::isnan(d) ? INFINITY : std::max(apart, d);
  }
  return apart / largest;
}

// One segment; a segment a chunk, directions apart; segments of several chunks, directions one
// after another.
const ScanTuning kTunings[] = {{0, 1, 1, 1 << 30}, {0, 1 << 20, 1 << 20, 1 << 30}, {0, 12, 12, 0}};

template <class T>
void run_emulated(ScanCase<T>& c, const ScanTuning& tuning) {
  using S = State<T>;
  c.checkpoints.assign(checkpoint_count(c.shape), NAN);
  std::vector<S> workspace(forward_workspace<S>(c.shape, tuning), NAN);
  launch_forward(c.inputs(), c.outputs(), workspace.data(), tuning, EmulatedLauncher());
  workspace.assign(backward_workspace<S>(c.shape, tuning), NAN);
  launch_backward(c.inputs(), c.gradients(), workspace.data(), tuning, EmulatedLauncher());
}

template <class A, class B>
void expect_same_gradients(const ScanCase<A>& got, const ScanCase<B>& expected, double tolerance) {
  EXPECT_LT(difference(got.dx, expected.dx), tolerance);
  EXPECT_LT(difference(got.ddelta, expected.ddelta), tolerance);
  EXPECT_LT(difference(got.dA, expected.dA), tolerance);
  EXPECT_LT(difference(got.dB, expected.dB), tolerance);
  EXPECT_LT(difference(got.dC, expected.dC), tolerance);
  if (got.options.skip) {
    EXPECT_LT(difference(got.dD, expected.dD), tolerance);
  }
  if (got.options.gate) {
    EXPECT_LT(difference(got.dz, expected.dz), tolerance);
  }
  if (got.options.bias) {
    EXPECT_LT(difference(got.dbias, expected.dbias), tolerance);
  }
}

struct Case {
  ScanShape shape;
  int slices;
  ScanOptions options = {};
};

// K, B, L, D, N: lengths around the chunk, channels around every lane count and the block's 96
// threads, states below and above 16.
const std::vector<Case> kCases{
    {{1, 1, 1, 1, 1}, 1},
    {{3, 2, 6, 5, 16}, 3},
    {{2, 1, 63, 96, 16}, 1, {.gate = false}},
    {{3, 1, 64, 17, 8}, 8, {.skip = false, .bias = false}},
    {{1, 2, 65, 100, 16}, 1},
    {{3, 1, 130, 33, 20}, 10, {.bias = false, .softplus = false}},
    {{3, 1, 320, 24, 16}, 8},
    {{2, 2, 150, 20, 1}, 15, {.gate = false}},
    {{1, 1, 700, 7, 16}, 1, {.gate = false, .skip = false, .bias = false}},
};

ScanCase<double> make_case(const Case& c) {
  ScanCase<double> scan(c.shape, maps_for(c.shape, c.slices), c.options);
  if (!c.options.softplus) {
    for (auto& d : scan.delta) d = std::abs(d) * 0.25;
  }
  return scan;
}

template <class T>
ScanCase<T> in_type(const ScanCase<double>& c) {
  ScanCase<T> scan(c.shape, c.maps, c.options);
  scan.delta = convert<T>(c.delta);
  return scan;
}

class EveryInstructionSet : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    before_ = instruction_set();
    if (!set_instruction_set(GetParam())) GTEST_SKIP() << "this processor lacks it";
  }
  void TearDown() override { set_instruction_set(before_); }
  InstructionSet before_;
};
INSTANTIATE_TEST_SUITE_P(SelectiveScan, EveryInstructionSet,
                         ::testing::Values(InstructionSet::kBaseline, InstructionSet::kAvx2,
                                           InstructionSet::kAvx512));

TEST_P(EveryInstructionSet, EqualsSequentialReference) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(::testing::Message() << "L " << c.shape.length << ", D " << c.shape.channels);
    auto exact = make_case(c);
    exact.run_cpu(2);
    EXPECT_LT(difference(exact.out, sequential_scan(exact)), 1e-12);
    auto single = in_type<float>(exact);
    single.run_cpu(2);
    EXPECT_LT(difference(single.out, sequential_scan(single)), 2e-6);
    expect_same_gradients(single, exact, 1e-5);
  }
}

// Read from memory as they are, computed in float32, rounded once when written.
template <class T>
void expect_rounded_results(const Case& c, double rounding) {
  auto expected = make_case(c);
  expected.run_cpu();
  auto narrow = in_type<T>(expected);
  narrow.run_cpu(2);
  EXPECT_LT(difference(narrow.out, expected.out), rounding);
  for (const auto& [got, exact] : {std::pair{&narrow.dx, &expected.dx},
                                   {&narrow.ddelta, &expected.ddelta},
                                   {&narrow.dB, &expected.dB},
                                   {&narrow.dC, &expected.dC},
                                   {&narrow.dz, &expected.dz}}) {
    if (got == &narrow.dz && !c.options.gate) continue;
    EXPECT_LT(difference(*got, *exact), rounding);
  }
  EXPECT_LT(difference(narrow.dA, expected.dA), 1e-5);
}

TEST_P(EveryInstructionSet, SixteenBitDataIsRoundedOnce) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(::testing::Message() << "L " << c.shape.length << ", D " << c.shape.channels);
    expect_rounded_results<BFloat16>(c, 0x1p-8);
    expect_rounded_results<Float16>(c, 0x1p-11);
  }
}

template <class T>
void expect_every_number_converts() {
  const auto& lanes = cpu_lanes<T>();
  std::vector<T> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
  std::vector<float> floats(all.size());
  lanes.to_state(all.data(), floats.data(), static_cast<int>(all.size()));
  std::vector<T> back(all.size());
  lanes.from_state(floats.data(), back.data(), static_cast<int>(all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (std::isnan(to_double(all[i]))) {
      ASSERT_TRUE(std::isnan(floats[i]) && std::isnan(to_double(back[i]))) << i;
    } else {
      ASSERT_EQ(floats[i], to_double(all[i])) << i;
      ASSERT_EQ(back[i].bits, all[i].bits);
    }
  }
  // Between neighbours: below, at and above the middle, where the even one is taken.
  for (std::size_t i = 0; i + 1 < 0x8000 && !std::isinf(floats[i + 1]); ++i) {
    const float middle = floats[i] + (floats[i + 1] - floats[i]) / 2;
    const float near[3] = {std::nextafter(middle, 0.0F), middle, std::nextafter(middle, INFINITY)};
    T rounded[3];
    lanes.from_state(near, rounded, 3);
    const std::size_t even = i % 2 == 0 ? i : i + 1;
    ASSERT_EQ(rounded[1].bits, even) << middle;
    if (middle == near[0] || middle == near[2]) continue;
    ASSERT_EQ(rounded[0].bits, i) << middle;
    ASSERT_EQ(rounded[2].bits, i + 1) << middle;
  }
}

TEST_P(EveryInstructionSet, SixteenBitNumbersConvertToNearestEven) {
  expect_every_number_converts<BFloat16>();
  expect_every_number_converts<Float16>();
  const float largest[3] = {std::nextafter(65520.0F, 0.0F), 65520.0F, -65520.0F};
  Float16 rounded[3];
  cpu_lanes<Float16>().from_state(largest, rounded, 3);
  EXPECT_EQ(rounded[0].bits, 0x7bff);
  EXPECT_EQ(rounded[1].bits, 0x7c00);
  EXPECT_EQ(rounded[2].bits, 0xfc00);
}

TEST_P(EveryInstructionSet, LongScanKeepsItsPrecision) {
  const ScanShape shape{1, 1, 40000, 3, 16};
  auto exact = make_case({shape, 1});
  // Steps so small that states live for thousands of them.
  for (auto& bias : exact.bias) bias = -9;
  exact.run_cpu();
  auto single = in_type<float>(exact);
  std::fill(single.bias.begin(), single.bias.end(), -9.0F);
  single.run_cpu();
  EXPECT_LT(difference(exact.out, sequential_scan(exact)), 1e-11);
  EXPECT_LT(difference(single.out, exact.out), 2e-5);
  expect_same_gradients(single, exact, 2e-4);
}

TEST_P(EveryInstructionSet, LargestFiniteStepsGiveNoNan) {
  auto scan = in_type<float>(make_case({{1, 1, 80, 20, 16}, 1}));
  for (std::size_t i = 0; i < scan.delta.size(); i += 3) scan.delta[i] = 60000;
  for (std::size_t i = 1; i < scan.delta.size(); i += 3) scan.delta[i] = -60000;
  for (std::size_t i = 0; i < scan.z.size(); i += 2) scan.z[i] = i % 4 ? 60000 : -60000;
  scan.run_cpu();
  EXPECT_LT(difference(scan.out, sequential_scan(scan)), 2e-6);
  for (const auto* values : {&scan.dx, &scan.ddelta, &scan.dB, &scan.dC, &scan.dA, &scan.dz}) {
    EXPECT_TRUE(
        std::all_of(values->begin(), values->end(), [](float v) { return std::isfinite(v); }));
  }
}

TEST(SelectiveScanCpu, BitsDoNotDependOnTheNumberOfThreads) {
  for (const ScanShape& shape : {ScanShape{1, 1, 3000, 16, 16}, ScanShape{3, 1, 2000, 40, 16}}) {
    auto one = in_type<float>(make_case({shape, 8}));
    auto many = one;
    one.run_cpu(1);
    many.run_cpu(7);
    EXPECT_EQ(one.out, many.out);
    EXPECT_EQ(one.dx, many.dx);
    EXPECT_EQ(one.ddelta, many.ddelta);
    EXPECT_EQ(one.dA, many.dA);
    EXPECT_EQ(one.dB, many.dB);
    EXPECT_EQ(one.dC, many.dC);
    EXPECT_EQ(one.dD, many.dD);
    EXPECT_EQ(one.dbias, many.dbias);
    EXPECT_EQ(one.dz, many.dz);
  }
}

template <class T>
void expect_rounded_emulation(const ScanCase<double>& expected, const ScanTuning& tuning,
                              double rounding, double slices) {
  auto narrow = in_type<T>(expected);
  run_emulated(narrow, tuning);
  EXPECT_LT(difference(narrow.out, expected.out), rounding);
  EXPECT_LT(difference(narrow.dx, expected.dx), slices * rounding);
  EXPECT_LT(difference(narrow.dB, expected.dB), rounding);
  EXPECT_LT(difference(narrow.dA, expected.dA), 1e-5);
}

TEST(SelectiveScanCudaBlocks, EqualTheCpuPath) {
  for (const auto& c : kCases) {
    auto expected = make_case(c);
    expected.run_cpu();
    for (const auto& tuning : kTunings) {
      SCOPED_TRACE(::testing::Message() << "L " << c.shape.length << ", D " << c.shape.channels
                                        << ", fill " << tuning.forward_blocks);
      auto emulated = make_case(c);
      run_emulated(emulated, tuning);
      EXPECT_LT(difference(emulated.out, expected.out), 1e-12);
      expect_same_gradients(emulated, expected, 1e-11);
      auto single = in_type<float>(expected);
      run_emulated(single, tuning);
      EXPECT_LT(difference(single.out, expected.out), 2e-6);
      expect_same_gradients(single, expected, 1e-5);
      // Outputs are rounded once for each slice of 16 states; all inside is float.
      const double slices = c.shape.states > 16 ? 2 : 1;
      expect_rounded_emulation<BFloat16>(expected, tuning, 0x1p-8, slices);
      expect_rounded_emulation<Float16>(expected, tuning, 0x1p-11, slices);
    }
  }
}

// Axis scans (all three extents in use) and every length around tiles, spans and chunks.
TEST(SelectiveScanCudaBlocks, EveryMapAndPartialChunk) {
  std::vector<std::vector<ScanMap>> paths{{{{4, 5, 11}, {1, 44, 4}, 220, false},
                                           {{4, 5, 11}, {1, 44, 4}, 220, true},
                                           {{5, 4, 11}, {44, 1, 4}, 220, false}}};
  for (const int length : {2, 3, 4, 7, 8, 9, 15, 16, 17, 63, 65, 71, 72, 127, 128, 129, 200}) {
    paths.push_back(maps_for({2, 1, length, 1, 1}, 1));
  }
  for (const auto& maps : paths) {
    const ScanShape shape{static_cast<std::int32_t>(maps.size()), 1, maps[0].length, 3, 16};
    ScanCase<double> expected(shape, maps);
    expected.run_cpu();
    for (const auto& tuning : kTunings) {
      SCOPED_TRACE(::testing::Message()
                   << "L " << shape.length << ", fill " << tuning.forward_blocks);
      ScanCase<double> emulated(shape, maps);
      run_emulated(emulated, tuning);
      EXPECT_LT(difference(emulated.out, expected.out), 1e-12);
      expect_same_gradients(emulated, expected, 1e-11);
    }
  }
}

// What a layer does that scans its directions one call at a time.
TEST(SelectiveScanCudaBlocks, AddToTheSumOfEarlierCalls) {
  for (const auto& tuning : kTunings) {
    auto once = make_case({{2, 2, 70, 20, 16}, 1});
    run_emulated(once, tuning);
    auto again = once;
    std::fill(again.ungated.begin(), again.ungated.end(), 1.5);
    std::vector<double> workspace(forward_workspace<double>(again.shape, tuning), NAN);
    auto outputs = again.outputs();
    outputs.adds = true;
    outputs.out = nullptr;
    launch_forward(again.inputs(), outputs, workspace.data(), tuning, EmulatedLauncher());
    for (std::size_t i = 0; i < once.ungated.size(); ++i) {
      ASSERT_NEAR(again.ungated[i], once.ungated[i] + 1.5, 1e-12);
    }
  }
}

TEST(SelectiveScanCudaBlocks, BFloat16RoundsToNearestEven) {
  const auto rounded = [](float v) {
    BFloat16 to;
    from_state(v, to);
    return to.bits;
  };
  EXPECT_EQ(rounded(1.0F), 0x3f80);
  EXPECT_EQ(rounded(1.0F + 0x1p-8F), 0x3f80);
  EXPECT_EQ(rounded(1.0F + 0x1p-8F + 0x1p-20F), 0x3f81);
  EXPECT_EQ(rounded(1.0F + 3 * 0x1p-8F), 0x3f82);
  EXPECT_EQ(rounded(3.4e38F), 0x7f80);
  EXPECT_EQ(rounded(NAN) & 0x7fc0, 0x7fc0);
}

TEST(ScanMap, StepIsTheInverseOfToken) {
  const ScanMap axis{{4, 3, 5}, {1, 20, 4}, 60, true};
  for (const auto& map :
       {segmamba::testing::interslice_map(60, 6), axis, segmamba::testing::reverse_map(60)}) {
    std::vector<int> visits(60);
    for (int t = 0; t < 60; ++t) {
      EXPECT_EQ(map.step(map.token(t)), t);
      ++visits[map.token(t)];
    }
    EXPECT_EQ(visits, std::vector<int>(60, 1));
  }
}

}  // namespace
}  // namespace segmamba::kernels
