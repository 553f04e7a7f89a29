// The scan and the convolution at the four stages of a 128^3 patch (B = 1, three directions), and
// the sequential formula for comparison. Items are directions x tokens x channels.
//   cmake -B build -DSEGMAMBA_BUILD_BENCH=ON && ninja -C build bench_scan
//   build/tests/bench_scan --benchmark_min_time=2

#include <benchmark/benchmark.h>

#include <vector>

#include "causal_conv1d.h"
#include "kernels/scan_case.h"
#include "segmamba/core/parallel.h"

namespace segmamba::kernels {
namespace {

// Stage 0 is the first: 64^3 tokens of 96 channels.
ScanShape stage_shape(std::int64_t stage) {
  const std::int32_t side = 64 >> stage;
  return {3, 1, side * side * side, 96 << stage, 16};
}

testing::ScanCase<float> stage_case(std::int64_t stage) {
  const ScanShape shape = stage_shape(stage);
  testing::ScanCase<float> scan(shape, testing::maps_for(shape, 64 >> stage));
  scan.checkpoints.resize(scan_checkpoint_count_cpu(shape));
  return scan;
}

void count_items(benchmark::State& state) {
  const ScanShape s = stage_shape(state.range(0));
  state.SetItemsProcessed(state.iterations() * s.directions * s.length * s.channels);
}

void forward(benchmark::State& state) {
  auto scan = stage_case(state.range(0));
  for (auto _ : state) {
    selective_scan_forward_cpu(scan.inputs(), scan.outputs(), thread_count());
  }
  count_items(state);
}

void backward(benchmark::State& state) {
  auto scan = stage_case(state.range(0));
  selective_scan_forward_cpu(scan.inputs(), scan.outputs(), thread_count());
  for (auto _ : state) {
    selective_scan_backward_cpu(scan.inputs(), scan.gradients(), thread_count());
  }
  count_items(state);
}

void sequential_reference(benchmark::State& state) {
  const auto scan = stage_case(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(testing::sequential_scan(scan));
  count_items(state);
}

// The scan case's z serves as the convolution's input, its delta_bias as the bias.
struct ConvBuffers {
  explicit ConvBuffers(std::int64_t stage)
      : scan(stage_case(stage)), weight(scan.bias.size() * 4, 0.25F), dweight(weight.size()) {}
  ConvInputs<float> inputs() const {
    const ScanShape& s = scan.shape;
    return {{s.directions, s.batch, s.length, s.channels, 4},
            scan.maps.data(),
            {scan.z.data(), 0, static_cast<std::int64_t>(s.length) * s.channels, s.channels},
            weight.data(),
            scan.bias.data()};
  }
  testing::ScanCase<float> scan;
  std::vector<float> weight, dweight;
};

void conv_forward(benchmark::State& state) {
  ConvBuffers c(state.range(0));
  for (auto _ : state) {
    causal_conv1d_silu_forward_cpu(c.inputs(), c.scan.dx.data(), thread_count());
  }
  count_items(state);
}

void conv_backward(benchmark::State& state) {
  ConvBuffers c(state.range(0));
  const ConvGradients<float> grad{c.scan.x.data(), c.scan.dz.data(), c.dweight.data(),
                                  c.scan.dbias.data()};
  for (auto _ : state) causal_conv1d_silu_backward_cpu(c.inputs(), grad, thread_count());
  count_items(state);
}

BENCHMARK(forward)->DenseRange(0, 3)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(backward)->DenseRange(0, 3)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(conv_forward)->DenseRange(0, 3)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(conv_backward)->DenseRange(0, 3)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(sequential_reference)->DenseRange(1, 3)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace segmamba::kernels

BENCHMARK_MAIN();
