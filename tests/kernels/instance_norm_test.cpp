// The instance norm and its gradients against their formulas in float64: on the CPU for every type
// and instruction set, and the GPU's kernels by the emulator.

#include "instance_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/volume_case.h"

// The emulator's conversions, before the kernels that use them.
#include "cuda_blocks.h"

namespace segmamba::kernels {
static float to_state(Float16 v) { return static_cast<float>(segmamba::testing::to_double(v)); }
static void from_state(float v, Float16& to) { cpu_lanes<Float16>().from_state(&v, &to, 1); }
}  // namespace segmamba::kernels

#include "instance_norm_blocks.cuh"

namespace segmamba::kernels {
namespace {

using segmamba::testing::convert;
using segmamba::testing::on_every_instruction_set;
using segmamba::testing::random_numbers;
using segmamba::testing::to_double;
using segmamba::testing::Volumes;
using segmamba::testing::VolumeTypes;

TYPED_TEST_SUITE(Volumes, VolumeTypes);

struct NormCase {
  VolumeShape shape;
  bool shortcut, normalises_shortcut, residual, scaling;
  double slope;

  std::string name() const {
    return std::to_string(shape.channels) + " channels of " + std::to_string(shape.voxels) +
           (shape.channels_last ? ", channels last" : "");
  }
  // Whether the backward pass can do with the output.
  bool is_invertible() const { return slope > 0 && !residual && !scaling; }
  // Of voxel v of channel c of item b.
  std::size_t place(std::int64_t b, std::int64_t c, std::int64_t v) const {
    return shape.channels_last ? (b * shape.voxels + v) * shape.channels + c
                               : (b * shape.channels + c) * shape.voxels + v;
  }
};

// One channel, one voxel, numbers of columns around the vectors, more than one span, and channels
// and voxels that GPUs load by 16 bytes.
const NormCase kNorms[] = {{{1, 1, 1, true}, false, false, false, false, 1},
                           {{2, 3, 1, true}, true, false, true, true, 0},
                           {{1, 48, 343, true}, true, true, false, false, 0.01},
                           {{2, 5, 77, true}, true, true, true, true, 0.01},
                           {{1, 17, 40000, true}, false, false, true, false, 0},
                           {{2, 5, 77, false}, true, false, true, true, 0.01},
                           {{3, 4, 96, false}, true, true, false, true, 0.2},
                           {{2, 3, 64, false}, true, false, false, false, 0.01},
                           {{1, 2, 600001, false}, true, true, false, false, 0.01},
                           {{1, 2, 150000, false}, true, true, false, false, 0},
                           {{2, 768, 8, true}, false, false, false, false, 0.01},
                           {{1, 200, 3, true}, false, false, false, false, 0.01}};

template <class T>
struct NormData {
  using S = State<T>;

  explicit NormData(const NormCase& norm_case)
      : s(norm_case),
        count(s.shape.count()),
        items(s.shape.batch * s.shape.channels),
        x(data()),
        shortcut(data()),
        residual(data()),
        grad_out(data()),
        out(count),
        grad_x(count),
        grad_shortcut(count) {
    for (auto* values : {&weight, &bias, &shortcut_weight, &shortcut_bias}) {
      *values = convert<S>(random_numbers(s.shape.channels, 1, 0.5, random));
    }
    for (auto* values : {&mean, &deviation, &shortcut_mean, &shortcut_deviation}) {
      values->resize(items);
    }
    for (auto* values : {&grad_bias, &grad_weight, &grad_shortcut_weight}) {
      values->resize(s.shape.channels);
    }
  }

  InstanceNorm<T> forward() {
    return {s.shape,
            x.data(),
            s.shortcut ? shortcut.data() : nullptr,
            s.normalises_shortcut,
            s.residual ? residual.data() : nullptr,
            static_cast<S>(s.slope),
            1e-5,
            out.data(),
            scaling(),
            shortcut_scaling(),
            {mean.data(), deviation.data()},
            {shortcut_mean.data(), shortcut_deviation.data()}};
  }
  InstanceNormBackward<T> backward(bool from_out) {
    return {s.shape,
            grad_out.data(),
            from_out ? nullptr : x.data(),
            out.data(),
            s.shortcut ? shortcut.data() : nullptr,
            s.normalises_shortcut,
            static_cast<S>(s.slope),
            scaling(),
            shortcut_scaling(),
            {mean.data(), deviation.data()},
            {shortcut_mean.data(), shortcut_deviation.data()},
            grad_x.data(),
            s.shortcut ? grad_shortcut.data() : nullptr,
            grad_weight.data(),
            s.normalises_shortcut ? grad_shortcut_weight.data() : nullptr,
            grad_bias.data()};
  }
  NormScaling<S> scaling() const {
    return s.scaling ? NormScaling<S>{weight.data(), bias.data()} : NormScaling<S>{};
  }
  NormScaling<S> shortcut_scaling() const {
    return s.scaling ? NormScaling<S>{shortcut_weight.data(), shortcut_bias.data()}
                     : NormScaling<S>{};
  }

  Random random{3};
  NormCase s;
  std::size_t count, items;
  AlignedVector<T> x, shortcut, residual, grad_out, out, grad_x, grad_shortcut;
  AlignedVector<S> weight, bias, shortcut_weight, shortcut_bias;
  AlignedVector<S> mean, deviation, shortcut_mean, shortcut_deviation;
  AlignedVector<S> grad_bias, grad_weight, grad_shortcut_weight;

 private:
  AlignedVector<T> data() { return Volumes<T>::data(count, random); }
};

// All results by their formulas.
template <class T>
struct Expected {
  std::vector<double> out, grad_x, grad_shortcut, grad_bias, grad_weight, grad_shortcut_weight;

  explicit Expected(const NormData<T>& d)
      : out(d.count),
        grad_x(d.count),
        grad_shortcut(d.count),
        grad_bias(d.s.shape.channels),
        grad_weight(d.s.shape.channels),
        grad_shortcut_weight(d.s.shape.channels) {
    const auto batch = d.s.shape.batch, channels = d.s.shape.channels;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t c = 0; c < channels; ++c) compute(d, b, c);
    }
  }

 private:
  void compute(const NormData<T>& d, std::int64_t b, std::int64_t c) {
    const auto& s = d.s;
    const auto voxels = s.shape.voxels;
    const auto values = [&](const AlignedVector<T>& of) {
      std::vector<double> result(voxels);
      for (std::int64_t v = 0; v < voxels; ++v) result[v] = to_double(of[s.place(b, c, v)]);
      return result;
    };
    // Normalises, and gives 1 / sqrt(var + eps).
    const auto normalise = [&](std::vector<double>& of) {
      double mean = 0, variance = 0;
      for (const double value : of) mean += value / voxels;
      for (const double value : of) variance += (value - mean) * (value - mean) / voxels;
      const double scale = 1 / std::sqrt(variance + 1e-5);
      for (double& value : of) value = (value - mean) * scale;
      return scale;
    };
    auto y = values(d.x), other = values(d.shortcut);
    const auto residual = values(d.residual), gradient = values(d.grad_out);
    const double scale = normalise(y);
    const double other_scale = s.normalises_shortcut ? normalise(other) : 1;
    const double w = s.scaling ? d.weight[c] : 1, bias = s.scaling ? d.bias[c] : 0;
    const double other_w = s.scaling && s.normalises_shortcut ? d.shortcut_weight[c] : 1;
    const double other_bias = s.scaling && s.normalises_shortcut ? d.shortcut_bias[c] : 0;
    std::vector<double> g(voxels);
    double sum = 0, along = 0, other_along = 0;
    for (std::int64_t v = 0; v < voxels; ++v) {
      double before = w * y[v] + bias;
      if (s.shortcut) before += other_w * other[v] + other_bias;
      g[v] = before > 0 ? gradient[v] : s.slope * gradient[v];
      out[s.place(b, c, v)] =
          (before > 0 ? before : s.slope * before) + (s.residual ? residual[v] : 0);
      sum += g[v];
      along += g[v] * y[v];
      other_along += g[v] * other[v];
    }
    for (std::int64_t v = 0; v < voxels; ++v) {
      grad_x[s.place(b, c, v)] = w * scale * (g[v] - sum / voxels - y[v] * along / voxels);
      grad_shortcut[s.place(b, c, v)] =
          s.normalises_shortcut
              ? other_w * other_scale * (g[v] - sum / voxels - other[v] * other_along / voxels)
              : g[v];
    }
    grad_bias[c] += sum;
    grad_weight[c] += along;
    grad_shortcut_weight[c] += other_along;
  }
};

template <class Got>
double apart(const Got& got, const std::vector<double>& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(to_double(got[i]) - expected[i]);
    // NaN counts.
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

double size_of(const std::vector<double>& values) {
  double size = 1;
  for (const double value : values) size = std::max(size, std::abs(value));
  return size;
}

template <class T>
void expect_gradients(const NormData<T>& d, const Expected<T>& expected, bool from_out) {
  // A 16-bit output says its x only to its rounding.
  const double tolerance = Volumes<T>::tolerance(2e-5) * (from_out ? 2 : 1);
  EXPECT_LT(apart(d.grad_x, expected.grad_x) / size_of(expected.grad_x), tolerance);
  if (d.s.shortcut) {
    EXPECT_LT(apart(d.grad_shortcut, expected.grad_shortcut) / size_of(expected.grad_shortcut),
              tolerance);
  }
  // Of terms of size 1, and of float64's own rounding of the formula.
  const auto count = static_cast<double>(d.count);
  const double sums = tolerance * (std::sqrt(count) + count / 20);
  EXPECT_LT(apart(d.grad_bias, expected.grad_bias), sums);
  EXPECT_LT(apart(d.grad_weight, expected.grad_weight), sums);
  if (d.s.normalises_shortcut) {
    EXPECT_LT(apart(d.grad_shortcut_weight, expected.grad_shortcut_weight), sums);
  }
}

template <class T>
bool same_bits(const AlignedVector<T>& a, const AlignedVector<T>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

TYPED_TEST(Volumes, InstanceNormEqualsItsFormula) {
  using T = TypeParam;
  on_every_instruction_set([] {
    for (const auto& s : kNorms) {
      SCOPED_TRACE(s.name());
      NormData<T> d(s);
      instance_norm_cpu(d.forward(), 2);
      EXPECT_LT(apart(d.out, Expected<T>(d).out), TestFixture::tolerance(1e-5));

      NormData<T> serial(s);
      instance_norm_cpu(serial.forward(), 1);
      EXPECT_TRUE(same_bits(serial.out, d.out));
      auto norm = serial.forward();
      norm.out = serial.x.data();
      instance_norm_cpu(norm, 2);
      EXPECT_TRUE(same_bits(serial.x, d.out)) << "in place";
    }
  });
}

TYPED_TEST(Volumes, GradientsOfInstanceNormEqualTheirFormulas) {
  using T = TypeParam;
  on_every_instruction_set([] {
    for (const auto& s : kNorms) {
      SCOPED_TRACE(s.name());
      NormData<T> d(s);
      instance_norm_cpu(d.forward(), 2);
      const Expected<T> expected(d);
      for (const bool from_out : {false, true}) {
        if (from_out && !s.is_invertible()) continue;
        SCOPED_TRACE(from_out ? "from the output" : "from the input");
        instance_norm_backward_cpu(d.backward(from_out), 2);
        expect_gradients(d, expected, from_out);
        NormData<T> serial(s);
        instance_norm_cpu(serial.forward(), 1);
        instance_norm_backward_cpu(serial.backward(from_out), 1);
        EXPECT_TRUE(same_bits(serial.grad_x, d.grad_x));
        EXPECT_TRUE(same_bits(serial.grad_weight, d.grad_weight));
      }
    }
  });
}

TYPED_TEST(Volumes, InstanceNormOfTheGpuEqualsItsFormula) {
  using T = TypeParam;
  for (const auto& s : kNorms) {
    SCOPED_TRACE(s.name());
    NormData<T> d(s);
    // Nothing that was not written may matter.
    AlignedVector<State<T>> workspace(norm_workspace<T>(s.shape), std::nan(""));
    launch_norm_forward(d.forward(), workspace.data(), EmulatedLauncher());
    const Expected<T> expected(d);
    EXPECT_LT(apart(d.out, expected.out), TestFixture::tolerance(1e-5));
    for (const bool from_out : {false, true}) {
      if (from_out && !s.is_invertible()) continue;
      SCOPED_TRACE(from_out ? "from the output" : "from the input");
      workspace.assign(workspace.size(), std::nan(""));
      launch_norm_backward(d.backward(from_out), workspace.data(), EmulatedLauncher());
      expect_gradients(d, expected, from_out);
    }
  }
}

// Sums of squares would leave nothing of the variance.
TEST(InstanceNorm, BearsALargeMean) {
  const auto check = [](const auto& run) {
    for (const bool channels_last : {true, false}) {
      const NormCase s{{1, 3, 100000, channels_last}, false, false, false, false, 1};
      NormData<float> d(s);
      for (auto& value : d.x) value = 10000 + static_cast<float>(d.random.integer(2));
      run(d);
      EXPECT_LT(apart(d.out, Expected<float>(d).out), 2e-3);
      // A constant channel has no variance: zeros, exactly.
      d.x.assign(d.x.size(), 12345.678F);
      run(d);
      for (const auto value : d.out) ASSERT_EQ(value, 0);
    }
  };
  on_every_instruction_set(
      [&] { check([](NormData<float>& d) { instance_norm_cpu(d.forward(), 2); }); });
  check([](NormData<float>& d) {
    AlignedVector<float> workspace(norm_workspace<float>(d.s.shape));
    launch_norm_forward(d.forward(), workspace.data(), EmulatedLauncher());
  });
}

}  // namespace
}  // namespace segmamba::kernels
