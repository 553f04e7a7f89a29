// Winograd's convolution on the CPU: weights, and which thread treats which tiles. The inner loops
// are those of volume_lanes.h.

#include <algorithm>

#include "aligned_vector.h"
#include "volume_lanes.h"
#include "winograd.h"

namespace segmamba::kernels {
namespace {

constexpr int kPoints = 64;
// Runs of tiles a thread: so that none waits long for the last one.
constexpr std::int64_t kRunsPerThread = 8;

std::int64_t blocks_of(std::int64_t out_channels) {
  return (out_channels + kColumnBlock - 1) / kColumnBlock;
}

// Three taps along one axis, `stride` numbers apart, become four points.
void transform_taps(const double* taps, int tap_stride, double* points, int point_stride) {
  const double first = taps[0], second = taps[tap_stride], third = taps[2 * tap_stride];
  points[0] = first;
  points[point_stride] = (first + second + third) / 2;
  points[2 * point_stride] = (first - second + third) / 2;
  points[3 * point_stride] = third;
}

void transform_filter(const double* taps, double* points) {
  double rows[3][3][4], planes[3][4][4];
  for (int z = 0; z < 3; ++z) {
    for (int y = 0; y < 3; ++y) transform_taps(taps + (z * 3 + y) * 3, 1, rows[z][y], 1);
    for (int x = 0; x < 4; ++x) transform_taps(&rows[z][0][x], 4, &planes[z][0][x], 4);
  }
  for (int i = 0; i < 16; ++i) transform_taps(&planes[0][0][0] + i, 16, points + i, 16);
}

}  // namespace

std::size_t winograd_weight_count(std::int64_t in_channels, std::int64_t out_channels) {
  return static_cast<std::size_t>(kPoints * blocks_of(out_channels) * in_channels * kColumnBlock);
}

template <class S>
void transform_winograd_weight(const S* weight, std::int64_t in_channels, std::int64_t out_channels,
                               S* transformed) {
  const std::int64_t blocks = blocks_of(out_channels);
  std::fill_n(transformed, winograd_weight_count(in_channels, out_channels), S(0));
  for (std::int64_t out = 0; out < out_channels; ++out) {
    for (std::int64_t in = 0; in < in_channels; ++in) {
      double taps[27], points[kPoints];
      std::copy_n(weight + (out * in_channels + in) * 27, 27, taps);
      transform_filter(taps, points);
      for (int point = 0; point < kPoints; ++point) {
        transformed[((point * blocks + out / kColumnBlock) * in_channels + in) * kColumnBlock +
                    out % kColumnBlock] = static_cast<S>(points[point]);
      }
    }
  }
}

template <class T>
void winograd_convolution_cpu(const Winograd<T>& at, const Workers& workers) {
  const auto& lanes = volume_lanes<T>();
  const auto half = [](std::int64_t size) { return (size + 1) / 2; };
  const std::int64_t tiles = at.batch * half(at.depth) * half(at.height) * half(at.width);
  const std::int64_t calls = (tiles + kWinogradTiles - 1) / kWinogradTiles;
  const std::int64_t runs = std::min(calls, workers.threads() * kRunsPerThread);
  workers.run(runs, [&](std::int64_t run) {
    const AlignedBuffer<State<T>> workspace(lanes.winograd_workspace(at.in_channels));
    for (std::int64_t call = calls * run / runs; call < calls * (run + 1) / runs; ++call) {
      const std::int64_t first = call * kWinogradTiles;
      const auto count = static_cast<int>(std::min<std::int64_t>(kWinogradTiles, tiles - first));
      lanes.winograd_tiles(at, first, count, workspace.data());
    }
  });
}

template void transform_winograd_weight(const float*, std::int64_t, std::int64_t, float*);
template void transform_winograd_weight(const double*, std::int64_t, std::int64_t, double*);
template void winograd_convolution_cpu(const Winograd<float>&, const Workers&);
template void winograd_convolution_cpu(const Winograd<double>&, const Workers&);
template void winograd_convolution_cpu(const Winograd<BFloat16>&, const Workers&);
template void winograd_convolution_cpu(const Winograd<Float16>&, const Workers&);

}  // namespace segmamba::kernels
