#pragma once
// The CPU path's inner loops, compiled once for each instruction set, as a table of functions. A
// call treats one chunk of steps of one vector of channels; the schedule around it (threads,
// chunks, carries) is plain C++ and lives in cpu_schedule.h and the *_cpu.cpp files.
//
// Arrays named [.., W] are in lane order: W channels that belong to one vector lie together, and
// the lanes beyond the last channel hold zeros. P is N rounded up to kStateGroup; what belongs to
// states beyond N is zero and stays so.

#include "causal_conv1d.h"
#include "selective_scan.h"

namespace segmamba::kernels {

// States whose recurrences run side by side through a chunk: enough to hide the latency of one, few
// enough for 16 registers.
inline constexpr int kStateGroup = 4;

// Which chunk of which sequence, and its parameters in lane order.
template <class T>
struct ScanChunk {
  int direction, batch;
  int channel;                 // first of W
  const std::int32_t* tokens;  // [kCpuChunk]: the path through this chunk, and its last token again
  const std::int32_t* ahead_token;    // [kCpuChunk]: what is read later, and prefetched one vector
  const std::int32_t* ahead_channel;  // a step: tokens, and channels counted from `channel`
  int steps;                          // at most kCpuChunk
  int states;                         // P
  const State<T>* a_log2e;            // [P, W]: A log2(e)
  const State<T>* skip;               // [W]: D, or zeros
  const State<T>* bias;               // [W]: delta_bias, or zeros
  const State<T>* B;                  // [kCpuChunk, P], zeros beyond the last step
  const State<T>* C;                  // the same, where the call uses it
};

template <class T>
struct ConvChunk {
  int direction, batch;
  int channel;                 // first of W
  const std::int32_t* tokens;  // tokens[i] is the token of step begin + i, for i in
                               // [-history, steps + future)
  int steps;                   // at most kConvTile
  int history;                 // steps before this chunk that exist, at most J - 1
  int future;                  // steps after it that exist, at most J - 1
  const State<T>* weight;      // [J, W]
  const State<T>* bias;        // [W]
};

inline constexpr int kConvTile = 64;

// What a Mamba layer adds to a scan's chunk.
template <class T>
struct InnerChunk {
  ConvChunk<T> conv;        // the same steps of the same channels
  const State<T>* dt;       // [kCpuChunk, R]
  const State<T>* dt_proj;  // [R, W]
  int rank;                 // R
};

template <class T>
struct CpuLanes {
  using S = State<T>;
  const char* name;
  int width;       // W
  int tile_steps;  // see scan_backward

  void (*to_state)(const T* from, S* to, int count);
  void (*from_state)(const S* from, T* to, int count);

  // Advances state [P, W] over the chunk and writes what ScanOutputs asks for. Directions must come
  // in order: each adds to what the one before it left in `sum` [B, L, D] (nullptr where there is
  // one direction and no sum is kept).
  void (*scan_forward)(const ScanInputs<T>&, const ScanOutputs<T>&, const ScanChunk<T>&, S* sum,
                       S* state);
  // Advances state only, and adds each step's delta to delta_sum [W].
  void (*scan_state)(const ScanInputs<T>&, const ScanChunk<T>&, S* state, S* delta_sum);
  // Takes the gradient g [P, W] of the state after the chunk back to that of the state before it,
  // and adds each step's delta to delta_sum [W].
  void (*scan_adjoint)(const ScanInputs<T>&, const ScanGradients<T>&, const ScanChunk<T>&, S* g,
                       S* delta_sum);
  // The whole backward of a chunk: start [P, W] is the state before it, g as above; adds to
  // dA [P, W] (gradient of A), dD and dbias [W]; dB and dC are overwritten where `first`, else
  // added to. They hold kCpuChunk * P numbers: tiles of tile_steps steps one after another, in a
  // tile groups of kStateGroup states, in a group [tile_steps, kStateGroup].
  void (*scan_backward)(const ScanInputs<T>&, const ScanGradients<T>&, const ScanChunk<T>&,
                        const S* start, S* g, S* dA, S* dD, S* dbias, S* dB, S* dC, bool first);

  void (*conv_forward)(const ConvInputs<T>&, T* out, const ConvChunk<T>&);
  // Adds to dweight [J, W] and dbias [W]; writes x's gradient [B, L, D] to `dx` where `first`, else
  // adds to it.
  void (*conv_backward)(const ConvInputs<T>&, const T* grad_out, const ConvChunk<T>&, S* dx,
                        S* dweight, S* dbias, bool first);

  // As scan_forward, with x after the causal convolution in place of x, and with dt_proj dt in
  // place of delta: neither is ever in memory.
  void (*inner_forward)(const ScanInputs<T>&, const ScanOutputs<T>&, const ScanChunk<T>&,
                        const ConvInputs<T>&, const InnerChunk<T>&, S* sum, S* state);
  // As conv_forward, to the vector at the start of each of `rows`.
  void (*conv_rows)(const ConvInputs<T>&, const ConvChunk<T>&, S* rows, std::int64_t stride);
  // out [rows, blocks * kColumnBlock] = a [rows, count] b [blocks, count, kColumnBlock]; a's rows
  // lie a_row apart. Reads and writes up to kMostRowsAtOnce - 1 rows more.
  void (*multiply_rows)(const S* a, std::int64_t a_row, int rows, int count, const S* b, int blocks,
                        S* out);
};

inline constexpr int kMostRowsAtOnce = 8;

enum class InstructionSet { kBaseline, kAvx2, kAvx512 };

// The best set of this processor, unless set_instruction_set() chose another.
InstructionSet instruction_set();
// For tests. False where this processor or this build lacks it.
bool set_instruction_set(InstructionSet set);

template <class T>
const CpuLanes<T>& cpu_lanes();

namespace baseline {
template <class T>
const CpuLanes<T>& cpu_lanes();
}
namespace avx2 {
template <class T>
const CpuLanes<T>& cpu_lanes();
}
namespace avx512 {
template <class T>
const CpuLanes<T>& cpu_lanes();
}

}  // namespace segmamba::kernels
