#pragma once
// How the CUDA scan is cut, by architecture and shape: the one table to change when a GPU is at
// hand (`scripts/bench.sh scan` prints what to compare). None of it changes results beyond the
// order of a few additions, and one architecture always cuts a shape the same way, so that results
// keep their bits from run to run.

#include <cstdint>

#include "scan_map.h"

namespace segmamba::kernels {

struct ScanTuning {
  int architecture;     // least compute capability, as 90 for 9.0
  int forward_blocks;   // that fill the GPU: multiprocessors x blocks for each
  int backward_blocks;  // the same for the backward
  // Numbers [K, B, L, D] up to which all directions are scanned in one launch, each into its own
  // buffer, which then fits into the L2 cache. Above it directions follow one another, each adding
  // to one buffer: less memory and less traffic.
  std::int64_t largest_apart;
};

// Ordered by architecture; only H200 has been measured. The forward's first sweep keeps six blocks
// on a multiprocessor and its second one four, by their registers: with twelve both run in whole
// waves. The backward, whose blocks keep 95 KB, is given two waves of two, so that its first sweep,
// which keeps four, finds enough.
inline constexpr ScanTuning kScanTunings[] = {
    {0, 40 * 12, 40 * 4, 1 << 19},      // anything older: 40 multiprocessors
    {80, 108 * 12, 108 * 4, 10 << 20},  // A100: 40 MB of L2
    {86, 84 * 12, 84 * 4, 3 << 19},     // RTX 30, A40: 6 MB of L2
    {89, 128 * 12, 128 * 4, 16 << 20},  // RTX 40, L40: 72 MB of L2
    {90, 132 * 12, 132 * 4, 12 << 20},  // H100, H200: 50 MB of L2
};

inline const ScanTuning& scan_tuning(int architecture) {
  const ScanTuning* best = kScanTunings;
  for (const auto& tuning : kScanTunings) {
    if (tuning.architecture <= architecture) best = &tuning;
  }
  return *best;
}

// Of the 16 exponentials of a step of the sweep that only finds where segments end, how many are
// formed on the FMA pipes instead of the special function unit. That gives 16 results a clock and
// multiprocessor where the FMA pipes give 128, so one moved frees 8 issue slots of the one for
// about 9 of the other; the sweeps that do more per step have no slots to spare.
inline constexpr int kFmaExponentials = 2;

}  // namespace segmamba::kernels
