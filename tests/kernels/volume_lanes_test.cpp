// Instance norm and Winograd's convolution against their formulas in float64, for every type and
// instruction set.

#include "volume_lanes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "kernels/scan_case.h"

namespace segmamba::kernels {
namespace {

using segmamba::testing::convert;
using segmamba::testing::random_numbers;
using segmamba::testing::to_double;

void on_every_instruction_set(const std::function<void()>& check) {
  const auto before = instruction_set();
  for (const auto set :
       {InstructionSet::kBaseline, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (!set_instruction_set(set)) continue;
    SCOPED_TRACE(volume_lanes<float>().name);
    check();
  }
  set_instruction_set(before);
}

template <class T>
class Volumes : public ::testing::Test {
 public:
  // Numbers that every type holds.
  static AlignedVector<T> data(std::size_t count, Random& random) {
    return convert<T>(convert<BFloat16>(random_numbers(count, 2, 0.5, random)));
  }
  // Allowed difference of a result of size about 1.
  static double tolerance(double of_float) {
    if (std::is_same_v<T, double>) return 1e-12;
    return std::is_same_v<T, BFloat16> ? 2e-2 : std::is_same_v<T, Float16> ? 2e-3 : of_float;
  }
};
using Types = ::testing::Types<float, double, BFloat16, Float16>;
TYPED_TEST_SUITE(Volumes, Types);

struct NormCase {
  std::int64_t batch, channels, voxels;
  bool channels_last, shortcut, normalises_shortcut, residual;
  double slope;
};

// Of voxel v of channel c of item b.
std::size_t place(const NormCase& s, std::int64_t b, std::int64_t c, std::int64_t v) {
  return s.channels_last ? (b * s.voxels + v) * s.channels + c
                         : (b * s.channels + c) * s.voxels + v;
}

template <class T>
std::vector<double> normalised(const NormCase& s, const AlignedVector<T>& x) {
  std::vector<double> out(x.size());
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t c = 0; c < s.channels; ++c) {
      double mean = 0, variance = 0;
      for (std::int64_t v = 0; v < s.voxels; ++v) mean += to_double(x[place(s, b, c, v)]);
      mean /= s.voxels;
      for (std::int64_t v = 0; v < s.voxels; ++v) {
        variance += std::pow(to_double(x[place(s, b, c, v)]) - mean, 2);
      }
      const double scale = 1 / std::sqrt(variance / s.voxels + 1e-5);
      for (std::int64_t v = 0; v < s.voxels; ++v) {
        out[place(s, b, c, v)] = (to_double(x[place(s, b, c, v)]) - mean) * scale;
      }
    }
  }
  return out;
}

// One channel, one voxel, numbers of columns around the vectors, and more than one span.
const NormCase kNorms[] = {
    {1, 1, 1, true, false, false, false, 1},     {2, 3, 1, true, true, false, true, 0},
    {1, 48, 343, true, true, true, false, 0.01}, {2, 5, 77, true, true, true, true, 0.01},
    {1, 17, 40000, true, false, false, true, 0}, {2, 5, 77, false, true, false, true, 0.01},
    {1, 2, 600001, false, true, true, false, 0}, {1, 200, 3, true, false, false, false, 0.01}};

TYPED_TEST(Volumes, InstanceNormEqualsItsFormula) {
  using T = TypeParam;
  on_every_instruction_set([] {
    for (const auto& s : kNorms) {
      SCOPED_TRACE(::testing::Message() << s.channels << " channels of " << s.voxels);
      Random random(3);
      const std::size_t count = s.batch * s.channels * s.voxels;
      const auto x = TestFixture::data(count, random), shortcut = TestFixture::data(count, random),
                 residual = TestFixture::data(count, random);
      AlignedVector<T> out(count), serial(count);
      InstanceNorm<T> norm{s.batch,
                           s.channels,
                           s.voxels,
                           s.channels_last,
                           x.data(),
                           s.shortcut ? shortcut.data() : nullptr,
                           s.normalises_shortcut,
                           s.residual ? residual.data() : nullptr,
                           static_cast<State<T>>(s.slope),
                           1e-5,
                           out.data()};
      instance_norm_cpu(norm, 2);
      const auto first = normalised(s, x), second = normalised(s, shortcut);
      double apart = 0;
      for (std::size_t i = 0; i < count; ++i) {
        double expected = first[i];
        if (s.shortcut) expected += s.normalises_shortcut ? second[i] : to_double(shortcut[i]);
        if (expected < 0) expected *= s.slope;
        if (s.residual) expected += to_double(residual[i]);
        apart = std::max(apart, std::abs(to_double(out[i]) - expected));
      }
      EXPECT_LT(apart, TestFixture::tolerance(1e-5));

      norm.out = serial.data();
      instance_norm_cpu(norm, 1);
      EXPECT_EQ(std::memcmp(serial.data(), out.data(), count * sizeof(T)), 0);
      auto own = x;
      norm.x = norm.out = own.data();
      instance_norm_cpu(norm, 2);
      EXPECT_EQ(std::memcmp(own.data(), out.data(), count * sizeof(T)), 0) << "in place";
    }
  });
}

// Sums of squares would leave nothing of the variance.
TEST(InstanceNorm, BearsALargeMean) {
  on_every_instruction_set([] {
    for (const bool channels_last : {true, false}) {
      const NormCase s{1, 3, 100000, channels_last, false, false, false, 1};
      Random random(5);
      AlignedVector<float> x(s.channels * s.voxels), out(x.size());
      for (auto& value : x) value = 10000 + static_cast<float>(random.integer(2));
      instance_norm_cpu<float>({1, s.channels, s.voxels, channels_last, x.data(), nullptr, false,
                                nullptr, 1, 1e-5, out.data()},
                               2);
      const auto expected = normalised(s, x);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(out[i], expected[i], 2e-3) << i;
      // A constant channel has no variance: zeros, exactly.
      x.assign(x.size(), 12345.678F);
      instance_norm_cpu<float>({1, s.channels, s.voxels, channels_last, x.data(), nullptr, false,
                                nullptr, 1, 1e-5, out.data()},
                               2);
      for (const auto value : out) ASSERT_EQ(value, 0);
    }
  });
}

struct ConvolutionCase {
  std::int64_t batch, depth, height, width, in, out;
  bool bias;
};

// Single voxels, odd sizes, channels around blocks and vectors, several groups of blocks.
const ConvolutionCase kConvolutions[] = {{1, 1, 1, 1, 1, 1, true},
                                         {2, 3, 5, 4, 3, 17, true},
                                         {1, 2, 2, 2, 20, 33, true},
                                         {1, 7, 6, 9, 16, 48, false},
                                         {2, 6, 4, 11, 40, 70, true}};

TYPED_TEST(Volumes, WinogradEqualsTheConvolution) {
  using T = TypeParam;
  using S = State<T>;
  on_every_instruction_set([] {
    for (const auto& s : kConvolutions) {
      SCOPED_TRACE(::testing::Message() << s.in << " -> " << s.out);
      Random random(9);
      const std::int64_t voxels = s.batch * s.depth * s.height * s.width;
      const auto x = TestFixture::data(voxels * s.in, random);
      // Results of size about 1.
      const auto weight =
          convert<S>(random_numbers(s.out * s.in * 27, 1 / std::sqrt(27.0 * s.in), 0, random));
      const auto bias = convert<S>(random_numbers(s.out, 1, 0, random));
      AlignedVector<S> transformed(winograd_weight_count(s.in, s.out));
      transform_winograd_weight(weight.data(), s.in, s.out, transformed.data());
      AlignedVector<T> out(voxels * s.out), serial(out.size());
      Winograd<T> convolution{s.batch,
                              s.depth,
                              s.height,
                              s.width,
                              s.in,
                              s.out,
                              x.data(),
                              transformed.data(),
                              s.bias ? bias.data() : nullptr,
                              out.data()};
      winograd_convolution_cpu(convolution, 2);
      convolution.out = serial.data();
      winograd_convolution_cpu(convolution, 1);
      EXPECT_EQ(std::memcmp(serial.data(), out.data(), out.size() * sizeof(T)), 0);

      double apart = 0;
      for (std::int64_t voxel = 0; voxel < voxels; ++voxel) {
        const std::int64_t at[3] = {voxel / s.width / s.height % s.depth,
                                    voxel / s.width % s.height, voxel % s.width};
        for (std::int64_t o = 0; o < s.out; ++o) {
          double sum = s.bias ? bias[o] : 0;
          for (int tap = 0; tap < 27; ++tap) {
            const std::int64_t z = at[0] + tap / 9 - 1, y = at[1] + tap / 3 % 3 - 1,
                               column = at[2] + tap % 3 - 1;
            if (z < 0 || z >= s.depth || y < 0 || y >= s.height || column < 0 ||
                column >= s.width) {
              continue;
            }
            const std::int64_t item = voxel / (s.depth * s.height * s.width);
            const std::int64_t from = ((item * s.depth + z) * s.height + y) * s.width + column;
            for (std::int64_t i = 0; i < s.in; ++i) {
              sum += to_double(x[from * s.in + i]) * weight[(o * s.in + i) * 27 + tap];
            }
          }
          apart = std::max(apart, std::abs(to_double(out[voxel * s.out + o]) - sum));
        }
      }
      EXPECT_LT(apart, TestFixture::tolerance(1e-5));
    }
  });
}

}  // namespace
}  // namespace segmamba::kernels
