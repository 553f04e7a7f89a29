#pragma once
// CUDA blocks as plain code that also runs on the host.
//
// A block is a struct of static functions over a parameter struct:
//   begin(p, place, thread, registers)                       once a thread
//   phase(p, place, phase, round, thread, registers, shared) kPhases a round, a barrier after each
//   end(p, place, thread, registers)                         once a thread
// A kernel (cuda_launch.cuh) runs the threads of a block side by side; emulate() below runs them
// one after another between the barriers, so that staging, partial chunks and index maps are tested
// on machines without a GPU.

#include <cstring>
#include <memory>
#include <vector>

#include "selective_scan.h"

namespace segmamba::kernels {

// Channels of one block, one a thread: three warps, the 96 channels of SegMamba's first stage.
inline constexpr int kBlockThreads = 96;

struct Place {
  int chunk;     // grid x
  int tile;      // grid y: which kBlockThreads channels
  int sequence;  // grid z: k * B + b
};

struct Grid {
  int chunks, tiles, sequences;
};

SEGMAMBA_HD int divide_up(std::int64_t a, std::int64_t b) {
  return static_cast<int>((a + b - 1) / b);
}

SEGMAMBA_HD Grid grid_of(const ScanShape& s) {
  return {divide_up(s.length, kCudaChunk), divide_up(s.channels, kBlockThreads),
          s.directions * s.batch};
}

// bfloat16 by its bits: the upper half of a float, rounded to nearest even.
SEGMAMBA_HD float to_state(BFloat16 v) {
  const std::uint32_t bits = static_cast<std::uint32_t>(v.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
SEGMAMBA_HD float to_state(float v) { return v; }
SEGMAMBA_HD double to_state(double v) { return v; }

SEGMAMBA_HD void from_state(float v, BFloat16& to) {
  std::uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  to.bits = static_cast<std::uint16_t>(is_nan ? (bits >> 16) | 0x40U
                                              : (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
SEGMAMBA_HD void from_state(float v, float& to) { to = v; }
SEGMAMBA_HD void from_state(double v, double& to) { to = v; }

template <class Block>
void emulate_block(const typename Block::Params& p, const Place& place) {
  std::vector<typename Block::Registers> registers(kBlockThreads);
  const auto shared = std::make_unique<typename Block::Shared>();
  for (int i = 0; i < kBlockThreads; ++i) Block::begin(p, place, i, registers[i]);
  for (int round = 0; round < Block::rounds(p, place); ++round) {
    for (int phase = 0; phase < Block::kPhases; ++phase) {
      for (int i = 0; i < kBlockThreads; ++i) {
        Block::phase(p, place, phase, round, i, registers[i], *shared);
      }
    }
  }
  for (int i = 0; i < kBlockThreads; ++i) Block::end(p, place, i, registers[i]);
}

// How the emulator stands in for the GPU: the same two calls as CudaLauncher in cuda_launch.cuh.
struct EmulatedLauncher {
  template <class Block>
  void blocks(const typename Block::Params& p, const Grid& grid) const {
    for (int z = 0; z < grid.sequences; ++z) {
      for (int y = 0; y < grid.tiles; ++y) {
        for (int x = 0; x < grid.chunks; ++x) emulate_block<Block>(p, {x, y, z});
      }
    }
  }
  // Independent items: Item::run(p, i) for i in [0, count).
  template <class Item>
  void items(const typename Item::Params& p, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) Item::run(p, i);
  }
};

}  // namespace segmamba::kernels
