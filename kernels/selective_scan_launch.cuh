#pragma once
// Which kernels run in which order, and the buffers that pass between them. Launcher is
// CudaLauncher, or the emulator's.

#include "selective_scan_bwd_blocks.cuh"
#include "selective_scan_fwd_blocks.cuh"
#include "selective_scan_items.cuh"

namespace segmamba::kernels {

template <class S>
ScanPlan forward_plan(const ScanShape& s, const ScanTuning& tuning) {
  return {s, tuning.forward_blocks, kBlockChannels<S>, tuning.largest_apart};
}
template <class S>
ScanPlan backward_plan(const ScanShape& s, const ScanTuning& tuning) {
  return {s, tuning.backward_blocks, kBlockChannels<S>, 0};
}

// Buffers one after another in a workspace; without one it only counts.
template <class S>
class Workspace {
 public:
  explicit Workspace(S* memory) : memory_(memory) {}
  S* take(std::int64_t count) {
    S* const at = memory_ ? memory_ + used_ : nullptr;
    used_ += count;
    return at;
  }
  std::size_t used() const { return static_cast<std::size_t>(used_); }

 private:
  S* memory_;
  std::int64_t used_ = 0;
};

template <class S>
struct ForwardBuffers {
  ForwardBuffers(const ScanShape& s, const ScanPlan& plan, Workspace<S>& workspace) {
    const std::int64_t tokens = static_cast<std::int64_t>(s.batch) * s.length * s.channels;
    const std::int64_t segment_channels =
        static_cast<std::int64_t>(s.directions) * s.batch * plan.segments * s.channels;
    if (plan.segments > 1) {
      starts = workspace.take(segment_channels * s.states);
      delta_sums = workspace.take(segment_channels);
    }
    if (plan.apart) {
      apart = workspace.take(tokens * s.directions * plan.slices);
    } else if (s.directions * plan.slices > 1) {
      sum = workspace.take(tokens);
    }
  }
  S *starts = nullptr, *delta_sums = nullptr, *apart = nullptr, *sum = nullptr;
};

template <class S>
struct BackwardBuffers {
  BackwardBuffers(const ScanShape& s, const ScanPlan& plan, Workspace<S>& workspace) {
    const std::int64_t sequences = static_cast<std::int64_t>(s.directions) * s.batch;
    const std::int64_t segment_channels = sequences * plan.segments * s.channels;
    if (plan.segments > 1) {
      adjoints = workspace.take(segment_channels * s.states);
      delta_sums = workspace.take(segment_channels);
    }
    dA = workspace.take(segment_channels * s.states);
    dD = workspace.take(segment_channels);
    dbias = workspace.take(segment_channels);
    if (plan.tiles > 1) dBC = workspace.take(sequences * plan.tiles * s.length * 2 * kSliceStates);
  }
  S *adjoints = nullptr, *delta_sums = nullptr, *dA = nullptr, *dD = nullptr, *dbias = nullptr;
  S* dBC = nullptr;
};

inline std::size_t checkpoint_count(const ScanShape& s) {
  return static_cast<std::size_t>(s.directions) * s.batch * divide_up(s.length, kCudaChunk) *
         s.states * s.channels;
}
template <class S>
std::size_t forward_workspace(const ScanShape& s, const ScanTuning& tuning) {
  if (s.batch == 0 || s.length == 0) return 0;
  Workspace<S> counter(nullptr);
  ForwardBuffers<S>(s, forward_plan<S>(s, tuning), counter);
  return counter.used();
}
template <class S>
std::size_t backward_workspace(const ScanShape& s, const ScanTuning& tuning) {
  if (s.batch == 0 || s.length == 0) return 0;
  Workspace<S> counter(nullptr);
  BackwardBuffers<S>(s, backward_plan<S>(s, tuning), counter);
  return counter.used();
}

template <class T, class Launcher>
void launch_forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, State<T>* memory,
                    const ScanTuning& tuning, const Launcher& launcher) {
  using S = State<T>;
  const ScanShape& s = in.shape;
  const auto plan = forward_plan<S>(s, tuning);
  Workspace<S> workspace(memory);
  const ForwardBuffers<S> buffers(s, plan, workspace);
  ForwardParams<T> p{DeviceScan<T>(in, plan), buffers.starts, buffers.delta_sums, out.checkpoints,
                     buffers.apart,
                     // Directions that follow one another add to one buffer.
                     out.ungated ? out.ungated : buffers.sum, out.adds, true, out.out};
  for (int slice = 0; slice < plan.slices; ++slice) {
    p.scan.set_slice(slice);
    Grid grid = plan.grid(s);
    if (plan.segments > 1) {
      launcher.template blocks<SegmentScan<T, Emit::kEnd>>(p, grid);
      launcher.template items<Carry<T>>({p.scan, p.delta_sums, p.starts, false},
                                        Carry<T>::rows(p.scan), s.channels);
    }
    if (plan.apart) {
      launcher.template blocks<SegmentScan<T, Emit::kApart>>(p, grid);
      continue;
    }
    for (int k = 0; k < s.directions; ++k) {
      const bool first = slice == 0 && k == 0;
      const bool last = slice + 1 == plan.slices && k + 1 == s.directions;
      p.adds = !first || out.adds;
      p.keeps = !last || out.ungated;
      p.out = last ? out.out : nullptr;
      grid.first_sequence = k * s.batch;
      grid.sequences = s.batch;
      launcher.template blocks<SegmentScan<T, Emit::kInOrder>>(p, grid);
    }
  }
  if (plan.apart) {
    launcher.template items<SumAndGate<T>>(
        {p, plan.slices * s.directions, out.ungated, out.out, out.adds},
        static_cast<std::int64_t>(s.batch) * s.length, s.channels);
  }
}

template <class T, class Launcher>
void launch_backward(const ScanInputs<T>& in, const ScanGradients<T>& grad, State<T>* memory,
                     const ScanTuning& tuning, const Launcher& launcher) {
  using S = State<T>;
  const ScanShape& s = in.shape;
  const auto plan = backward_plan<S>(s, tuning);
  Workspace<S> workspace(memory);
  const BackwardBuffers<S> buffers(s, plan, workspace);
  BackwardParams<T> p{DeviceScan<T>(in, plan),
                      grad,
                      plan.tiles,
                      buffers.adjoints,
                      buffers.delta_sums,
                      buffers.dA,
                      buffers.dD,
                      buffers.dbias,
                      buffers.dBC};
  const Grid grid = plan.grid(s);
  const std::int64_t tokens = static_cast<std::int64_t>(s.batch) * s.length;
  if (grad.z) launcher.template items<GateGradient<T>>(p, tokens, s.channels);
  for (int slice = 0; slice < plan.slices; ++slice) {
    p.scan.set_slice(slice);
    if (plan.segments > 1) {
      launcher.template blocks<SegmentAdjoint<T>>(p, grid);
      launcher.template items<Carry<T>>({p.scan, p.delta_sums, p.adjoints, true},
                                        Carry<T>::rows(p.scan), s.channels);
    }
    launcher.template blocks<SegmentBackward<T>>(p, grid);
    if (p.dBC) {
      launcher.template items<SumTiles<T>>(p, tokens * s.directions, 2 * kSliceStates);
    }
  }
  launcher.template items<SumSegments<T>>(p, SumSegments<T>::rows(s), s.channels);
}

}  // namespace segmamba::kernels
