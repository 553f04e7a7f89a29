#pragma once
// The inner loops of Winograd's convolution; see cpu_lanes_impl.h for what may stand here.
//
// A set of tiles is treated in three steps: each tile's 4^3 inputs are transformed, which gives 4^3
// matrices [tiles, in]; each is multiplied with its matrix of weights [in, out]; the products of a
// tile are transformed into its 2^3 outputs. The output channels take the last two steps group by
// group.

#include "lanes_multiply.h"
#include "volume_lanes.h"

namespace segmamba::kernels {
namespace {

constexpr int kPoints = 64;  // 4^3

static_assert(kWinogradTiles % kRowsAtOnce<float> == 0 &&
              kWinogradTiles % kRowsAtOnce<double> == 0);

// Where the matrices lie in the workspace. The gap keeps them off each other's cache sets.
constexpr std::int64_t kGap = 16;
template <class T>
SEGMAMBA_LANES std::int64_t input_row(std::int64_t in_channels) {
  constexpr std::int64_t W = kLanes<T>;
  return (in_channels + W - 1) / W * W;
}
template <class T>
SEGMAMBA_LANES std::int64_t input_step(std::int64_t in_channels) {
  return kWinogradTiles * input_row<T>(in_channels) + kGap;
}
constexpr std::int64_t kProductStep = kWinogradTiles * kGroupBlocks * kColumnBlock + kGap;

template <class T>
std::size_t winograd_workspace(std::int64_t in_channels) {
  return kPoints * (input_step<T>(in_channels) + kProductStep);
}

struct Tile {
  std::int64_t item, z, y, x;  // of its first output
};

template <class T>
SEGMAMBA_LANES Tile tile_of(const Winograd<T>& at, std::int64_t index) {
  const std::int64_t columns = (at.width + 1) / 2, rows = (at.height + 1) / 2;
  const std::int64_t slices = (at.depth + 1) / 2;
  return {index / columns / rows / slices, index / columns / rows % slices * 2,
          index / columns % rows * 2, index % columns * 2};
}

template <class V>
SEGMAMBA_LANES void transform_input(V& a, V& b, V& c, V& d) {
  const V first = a - c, second = b + c, third = c - b, fourth = b - d;
  a = first;
  b = second;
  c = third;
  d = fourth;
}

// One vector of channels of a tile's inputs; where kInside, all of them lie in the volume.
template <bool kInside, class T>
SEGMAMBA_LANES void transform_tile(const Winograd<T>& at, const Tile& tile, int channel, int lanes,
                                   State<T>* to, std::int64_t step) {
  using V = Lanes<T>;
  const std::int64_t row = at.width * at.in_channels, slice = at.height * row;
  const T* const corner = at.x + ((tile.item * at.depth + tile.z - 1) * slice) +
                          (tile.y - 1) * row + (tile.x - 1) * at.in_channels + channel;
  V all[4][16];
  for (int z = 0; z < 4; ++z) {
    V plane[16];
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) {
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) {
        const bool inside =
            kInside ||
            (static_cast<std::uint64_t>(tile.z - 1 + z) < static_cast<std::uint64_t>(at.depth) &&
             static_cast<std::uint64_t>(tile.y - 1 + y) < static_cast<std::uint64_t>(at.height) &&
             static_cast<std::uint64_t>(tile.x - 1 + x) < static_cast<std::uint64_t>(at.width));
        plane[y * 4 + x] =
            inside ? load(corner + z * slice + y * row + x * at.in_channels, lanes) : V{};
      }
      transform_input(plane[y * 4], plane[y * 4 + 1], plane[y * 4 + 2], plane[y * 4 + 3]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < 4; ++x) {
      transform_input(plane[x], plane[4 + x], plane[8 + x], plane[12 + x]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) all[z][i] = plane[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; ++i) {
    transform_input(all[0][i], all[1][i], all[2][i], all[3][i]);
#pragma GCC unroll 4
    for (int z = 0; z < 4; ++z) store(to + (z * 16 + i) * step, all[z][i]);
  }
}

template <class T>
SEGMAMBA_LANES void transform_inputs(const Winograd<T>& at, const Tile& tile, State<T>* to,
                                     std::int64_t step) {
  constexpr int W = kLanes<T>;
  const bool inside = tile.z > 0 && tile.y > 0 && tile.x > 0 && tile.z + 3 <= at.depth &&
                      tile.y + 3 <= at.height && tile.x + 3 <= at.width;
  const int channels = static_cast<int>(at.in_channels);
  for (int channel = 0; channel < channels; channel += W) {
    const int lanes = channels - channel < W ? channels - channel : W;
    if (inside && lanes == W) {
      transform_tile<true>(at, tile, channel, W, to + channel, step);
    } else {
      transform_tile<false>(at, tile, channel, lanes, to + channel, step);
    }
  }
}

template <class T, int kBlocks>
void multiply_points(const State<T>* v, std::int64_t v_row, std::int64_t v_step,
                     const State<T>* weight, std::int64_t weight_step, int in, int tiles,
                     State<T>* products) {
  for (int point = 0; point < kPoints; ++point) {
    for (int tile = 0; tile < tiles; tile += kRowsAtOnce<T>) {
      multiply<T, kBlocks>(v + point * v_step + tile * v_row, v_row, weight + point * weight_step,
                           in, products + point * kProductStep + tile * kBlocks * kColumnBlock,
                           kBlocks * kColumnBlock);
    }
  }
}

// One vector of output channels of a tile.
template <class T>
SEGMAMBA_LANES void transform_output(const Winograd<T>& at, const Tile& tile, const State<T>* from,
                                     int channel, int lanes) {
  using V = Lanes<T>;
  V bias{};
  if (at.bias) bias = load(at.bias + channel, lanes);
  V halves[2][16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; ++i) {
    V m[4];
#pragma GCC unroll 4
    for (int z = 0; z < 4; ++z) m[z] = load(from + (z * 16 + i) * kProductStep);
    halves[0][i] = m[0] + m[1] + m[2];
    halves[1][i] = m[1] - m[2] - m[3];
  }
  for (int z = 0; z < 2 && tile.z + z < at.depth; ++z) {
    V rows[2][4];
#pragma GCC unroll 4
    for (int x = 0; x < 4; ++x) {
      const V* const m = halves[z] + x;
      rows[0][x] = m[0] + m[4] + m[8];
      rows[1][x] = m[4] - m[8] - m[12];
    }
    for (int y = 0; y < 2 && tile.y + y < at.height; ++y) {
      const V* const m = rows[y];
      T* const to =
          at.out +
          (((tile.item * at.depth + tile.z + z) * at.height + tile.y + y) * at.width + tile.x) *
              at.out_channels +
          channel;
      store(to, m[0] + m[1] + m[2] + bias, lanes);
      if (tile.x + 1 < at.width) store(to + at.out_channels, m[1] - m[2] - m[3] + bias, lanes);
    }
  }
}

template <class T>
void winograd_tiles(const Winograd<T>& at, std::int64_t first, int count, State<T>* workspace) {
  constexpr int W = kLanes<T>;
  const std::int64_t v_row = input_row<T>(at.in_channels), v_step = input_step<T>(at.in_channels);
  State<T>* const v = workspace;
  State<T>* const products = workspace + kPoints * v_step;
  for (int i = 0; i < count; ++i) {
    transform_inputs(at, tile_of(at, first + i), v + i * v_row, v_step);
  }
  for (int i = count; i % kRowsAtOnce<T> != 0; ++i) {  // tiles that fill the last rows
    for (int point = 0; point < kPoints; ++point) {
      for (std::int64_t k = 0; k < v_row; ++k) v[point * v_step + i * v_row + k] = 0;
    }
  }
  const int in = static_cast<int>(at.in_channels), out = static_cast<int>(at.out_channels);
  const int blocks = (out + kColumnBlock - 1) / kColumnBlock;
  const std::int64_t block_size = at.in_channels * kColumnBlock;
  for (int block = 0; block < blocks; block += kGroupBlocks) {
    const int here = blocks - block < kGroupBlocks ? blocks - block : kGroupBlocks;
    const auto multiply_all = here == 1 ? multiply_points<T, 1> : here == 2 ? multiply_points < T,
               kGroupBlocks == 1 ? 1 : 2 > : multiply_points<T, kGroupBlocks>;
    multiply_all(v, v_row, v_step, at.weight + block * block_size, blocks * block_size, in, count,
                 products);
    const int begin = block * kColumnBlock;
    const int end = out < begin + here * kColumnBlock ? out : begin + here * kColumnBlock;
    for (int i = 0; i < count; ++i) {
      const Tile tile = tile_of(at, first + i);
      for (int channel = begin; channel < end; channel += W) {
        const int lanes = end - channel < W ? end - channel : W;
        transform_output(at, tile, products + i * here * kColumnBlock + channel - begin, channel,
                         lanes);
      }
    }
  }
}

}  // namespace
}  // namespace segmamba::kernels
