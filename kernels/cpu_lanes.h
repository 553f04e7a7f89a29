#pragma once
// The CPU path's inner loops, compiled once for each instruction set, as a table of functions. A
// call treats one chunk of steps of one vector of channels; the schedule around it (threads,
// chunks, carries) is plain C++ and lives in selective_scan_cpu.cpp and causal_conv1d_cpu.cpp.
//
// Arrays named [.., W] are in lane order: W channels that belong to one vector lie together, and
// the lanes beyond the last channel hold zeros.

#include "causal_conv1d.h"
#include "selective_scan.h"

namespace segmamba::kernels {

// Which chunk of which sequence, and its parameters in lane order.
template <class T>
struct ScanChunk {
  int direction, batch;
  int channel;                 // first of W
  const std::int32_t* tokens;  // [steps]: the path through this chunk
  int steps;                   // at most kCpuChunk
  const T* a_log2e;            // [N, W]: A log2(e)
  const T* skip;               // [W]: D, or zeros
  const T* bias;               // [W]: delta_bias, or zeros
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
  const T* weight;             // [J, W]
  const T* bias;               // [W]
};

inline constexpr int kConvTile = 64;

template <class T>
struct CpuLanes {
  const char* name;
  int width;  // W

  // Advances state [N, W] over the chunk and writes what ScanOutputs asks for. Directions must come
  // in order: each adds to what the one before it wrote.
  void (*scan_forward)(const ScanInputs<T>&, const ScanOutputs<T>&, const ScanChunk<T>&, T* state);
  // Advances state only, and adds each step's delta to delta_sum [W].
  void (*scan_state)(const ScanInputs<T>&, const ScanChunk<T>&, T* state, T* delta_sum);
  // Takes the gradient g [N, W] of the state after the chunk back to that of the state before it,
  // and adds each step's delta to delta_sum [W].
  void (*scan_adjoint)(const ScanInputs<T>&, const ScanGradients<T>&, const ScanChunk<T>&, T* g,
                       T* delta_sum);
  // The whole backward of a chunk: start [N, W] is the state before it, g as above; adds to
  // dA [N, W] (gradient of A), dD and dbias [W]; dB, dC [steps, P] with P = N rounded up to W are
  // overwritten where `first`, else added to.
  void (*scan_backward)(const ScanInputs<T>&, const ScanGradients<T>&, const ScanChunk<T>&,
                        const T* start, T* g, T* dA, T* dD, T* dbias, T* dB, T* dC, bool first);

  void (*conv_forward)(const ConvInputs<T>&, T* out, const ConvChunk<T>&);
  // Adds to dweight [J, W] and dbias [W]; writes x's gradient where `first`, else adds to it.
  void (*conv_backward)(const ConvInputs<T>&, const ConvGradients<T>&, const ConvChunk<T>&,
                        T* dweight, T* dbias, bool first);
};

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
