#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "causal_conv1d_blocks.cuh"
#include "cpu_lanes.h"
#include "kernels/scan_case.h"

namespace segmamba::kernels {
namespace {

using segmamba::testing::maps_for;
using segmamba::testing::random_numbers;

struct ConvCase {
  ConvShape shape;
  std::vector<ScanMap> maps;
  std::vector<double> x, weight, bias, grad_out;
  std::vector<double> out, dx, dweight, dbias;

  ConvCase(const ConvShape& s, int slices)
      : shape(s), maps(maps_for({s.directions, s.batch, s.length, s.channels, 1}, slices)) {
    Random random(11);
    const std::size_t tokens = static_cast<std::size_t>(s.batch) * s.length * s.channels;
    const std::size_t channels = static_cast<std::size_t>(s.directions) * s.channels;
    x = random_numbers(tokens, 2, 0, random);
    weight = random_numbers(channels * s.taps, 1, 0, random);
    bias = random_numbers(channels, 1, 0, random);
    grad_out = random_numbers(tokens * s.directions, 1, 0, random);
    out.resize(grad_out.size());
    dx.resize(x.size());
    dweight.resize(weight.size());
    dbias.resize(bias.size());
  }
  ConvInputs<double> inputs() const {
    const std::int32_t row = shape.channels;
    return {shape,
            maps.data(),
            {x.data(), 0, std::int64_t{shape.length} * row, row},
            weight.data(),
            bias.data()};
  }
  ConvGradients<double> gradients() {
    return {grad_out.data(), dx.data(), dweight.data(), dbias.data()};
  }
};

double difference(const std::vector<double>& got, const std::vector<double>& expected) {
  double apart = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    apart = std::max(apart, std::abs(got[i] - expected[i]));
  }
  return apart;
}

// Lengths below the taps and around the CPU's tiles and spans; channels around the lane counts.
const ConvShape kShapes[] = {{1, 1, 1, 1, 4},   {3, 2, 2, 5, 4},    {3, 1, 66, 17, 4},
                             {2, 1, 128, 8, 1}, {3, 1, 1090, 3, 8}, {2, 1, 600, 100, 3}};

TEST(CausalConv1dCpu, EqualsTheFormulaOnEveryInstructionSet) {
  const auto before = instruction_set();
  for (const auto set :
       {InstructionSet::kBaseline, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (!set_instruction_set(set)) continue;
    for (const auto& shape : kShapes) {
      ConvCase c(shape, shape.length % 2 ? 1 : 2);
      causal_conv1d_silu_forward_cpu(c.inputs(), c.out.data(), 2);
      const auto in = c.inputs();
      std::vector<double> expected(c.out.size());
      for (int sequence = 0; sequence < shape.directions * shape.batch; ++sequence) {
        const int k = sequence / shape.batch, b = sequence % shape.batch;
        for (int t = 0; t < shape.length; ++t) {
          for (int d = 0; d < shape.channels; ++d) {
            double sum = in.bias[k * shape.channels + d];
            for (int j = 0; j < shape.taps; ++j) {
              const int from = t - (shape.taps - 1) + j;
              if (from < 0) continue;
              sum += in.weight[(k * shape.channels + d) * shape.taps + j] *
                     in.x.row(0, b, c.maps[k].token(from))[d];
            }
            const std::size_t row =
                static_cast<std::size_t>(sequence) * shape.length + c.maps[k].token(t);
            expected[row * shape.channels + d] = sum / (1 + std::exp(-sum));
          }
        }
      }
      EXPECT_LT(difference(c.out, expected), 1e-12) << "L " << shape.length;
    }
  }
  set_instruction_set(before);
}

TEST(CausalConv1dCudaBlocks, EqualTheCpuPath) {
  for (const auto& shape : kShapes) {
    SCOPED_TRACE(::testing::Message() << "L " << shape.length);
    ConvCase cpu(shape, shape.length % 2 ? 1 : 2), emulated = cpu;
    causal_conv1d_silu_forward_cpu(cpu.inputs(), cpu.out.data(), 2);
    causal_conv1d_silu_backward_cpu(cpu.inputs(), cpu.gradients(), 2);
    const EmulatedLauncher launcher;
    std::vector<double> workspace(conv_backward_workspace(shape), NAN);
    launch_conv_forward(emulated.inputs(), emulated.out.data(), launcher);
    launch_conv_backward(emulated.inputs(), emulated.gradients(), workspace.data(), launcher);
    EXPECT_LT(difference(emulated.out, cpu.out), 1e-12);
    EXPECT_LT(difference(emulated.dx, cpu.dx), 1e-12);
    EXPECT_LT(difference(emulated.dweight, cpu.dweight), 1e-10);
    EXPECT_LT(difference(emulated.dbias, cpu.dbias), 1e-10);
  }
}

// What a layer does that treats its directions one call at a time: x's gradient adds up over calls.
TEST(CausalConv1d, GradientsOfDirectionsAddUpOverCalls) {
  const ConvShape shape{3, 2, 90, 17, 4};
  ConvCase whole(shape, 9);
  causal_conv1d_silu_backward_cpu(whole.inputs(), whole.gradients(), 2);
  for (const bool emulate : {false, true}) {
    std::vector<double> sum(whole.dx.size(), NAN), dx(whole.dx.size(), NAN);
    for (int k = 0; k < shape.directions; ++k) {
      ConvCase one({1, shape.batch, shape.length, shape.channels, shape.taps}, 1);
      const auto take = [&](const std::vector<double>& from, std::vector<double>& to) {
        std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(k * to.size()), to.size(),
                    to.begin());
      };
      one.maps[0] = whole.maps[k];
      one.x = whole.x;
      take(whole.weight, one.weight);
      take(whole.bias, one.bias);
      take(whole.grad_out, one.grad_out);
      const ConvGradients<double> grad{
          one.grad_out.data(), k + 1 == shape.directions ? dx.data() : nullptr,
          one.dweight.data(),  one.dbias.data(),
          sum.data(),          k > 0};
      if (emulate) {
        std::vector<double> workspace(conv_backward_workspace(one.shape), NAN);
        launch_conv_backward(one.inputs(), grad, workspace.data(), EmulatedLauncher());
      } else {
        causal_conv1d_silu_backward_cpu(one.inputs(), grad, 2);
      }
    }
    EXPECT_LT(difference(sum, whole.dx), 1e-12);
    EXPECT_LT(difference(dx, whole.dx), 1e-12);
  }
}

}  // namespace
}  // namespace segmamba::kernels
