// The forward of the selective scan on the CPU; see cpu_schedule.h.

#include <type_traits>

#include "cpu_schedule.h"
#include "selective_scan.h"

namespace segmamba::kernels {
namespace {

template <class T>
class Forward {
  using S = State<T>;

 public:
  Forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, const Workers& workers)
      : in_(in),
        out_(out),
        workers_(usable_workers(in.shape, workers)),
        lanes_(cpu_lanes<T>()),
        layout_(in.shape, lanes_.width),
        parameters_(in, layout_),
        segments_(layout_.segments_for(static_cast<std::int64_t>(in.shape.batch) * layout_.blocks)),
        groups_(std::min(
            layout_.blocks,
            divide_up(workers_.threads(), static_cast<std::int64_t>(in.shape.batch) * segments_))),
        state_(static_cast<std::size_t>(in.shape.batch) * layout_.blocks * segments_ *
               layout_.state_size),
        delta_sum_(static_cast<std::size_t>(in.shape.batch) * layout_.blocks * segments_ *
                   layout_.width) {
    sum_ = out.ungated;
    if (sum_ || in.shape.directions == 1) return;
    if constexpr (std::is_same_v<T, S>) {
      sum_ = out.out;
    } else {
      own_sum_ = AlignedBuffer<S>(static_cast<std::size_t>(in.shape.batch) * in.shape.length *
                                  in.shape.channels);
      sum_ = own_sum_.data();
    }
  }

  // Directions one after another, since each adds to the sum of those before it.
  void run() {
    if (segments_ == 1) {
      for_each_unit(1, [&](int b, Range blocks, int) {
        for (int k = 0; k < in_.shape.directions; ++k) {
          for (int block = blocks.begin; block < blocks.end; ++block) {
            std::fill_n(state(sequence_of(b, block), 0), layout_.state_size, S(0));
          }
          scan(k, b, blocks, 0);
        }
      });
      return;
    }
    const std::int64_t sequences = static_cast<std::int64_t>(in_.shape.batch) * layout_.blocks;
    for (int k = 0; k < in_.shape.directions; ++k) {
      std::fill(state_.begin(), state_.end(), S(0));
      std::fill(delta_sum_.begin(), delta_sum_.end(), S(0));
      for_each_unit(segments_ - 1,
                    [&](int b, Range blocks, int segment) { find_ends(k, b, blocks, segment); });
      for (std::int64_t sequence = 0; sequence < sequences; ++sequence) carry(k, sequence);
      for_each_unit(segments_,
                    [&](int b, Range blocks, int segment) { scan(k, b, blocks, segment); });
    }
  }

 private:
  std::int64_t sequence_of(int b, int block) const {
    return static_cast<std::int64_t>(b) * layout_.blocks + block;
  }
  S* state(std::int64_t sequence, std::int64_t segment) {
    return &state_[(sequence * segments_ + segment) * layout_.state_size];
  }
  S* delta_sum(std::int64_t sequence, std::int64_t segment) {
    return &delta_sum_[(sequence * segments_ + segment) * layout_.width];
  }
  ChunkCursor<T> cursor(int k, int b) const { return {in_, layout_, parameters_, lanes_, k, b}; }

  // Blocks of channels do not meet in the forward, so that their groups may follow the threads: the
  // fewer there are, the longer the pieces of rows that each reads.
  template <class Body>
  void for_each_unit(int segments, const Body& body) {
    workers_.run(static_cast<std::int64_t>(in_.shape.batch) * groups_ * segments,
                 [&](std::int64_t i) {
                   const int segment = static_cast<int>(i % segments);
                   const int group = static_cast<int>(i / segments % groups_);
                   body(static_cast<int>(i / segments / groups_),
                        part_of(layout_.blocks, groups_, group), segment);
                 });
  }

  void find_ends(int k, int b, Range blocks, int segment) {
    auto at = cursor(k, b);
    const Range range = part_of(layout_.chunks, segments_, segment);
    at.walk(range.begin, range.end - 1, [&](int) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        lanes_.scan_state(in_, at.block(block, blocks), state(sequence_of(b, block), segment),
                          delta_sum(sequence_of(b, block), segment));
      }
    });
  }

  // Turns the ends of segments into the starts of those that follow.
  void carry(int k, std::int64_t sequence) {
    const std::int64_t block = layout_.block_of(k, static_cast<int>(sequence % layout_.blocks));
    AlignedVector<S> start(layout_.state_size), end(layout_.state_size);
    for (int segment = 0; segment < segments_; ++segment) {
      std::copy_n(state(sequence, segment), layout_.state_size, end.begin());
      std::copy_n(start.begin(), layout_.state_size, state(sequence, segment));
      carry_over(layout_, &parameters_.a_log2e[block * layout_.state_size],
                 delta_sum(sequence, segment), end.data(), start.data());
    }
  }

  void scan(int k, int b, Range blocks, int segment) {
    auto at = cursor(k, b);
    const Range range = part_of(layout_.chunks, segments_, segment);
    at.walk(range.begin, range.end - 1, [&](int chunk) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        S* const h = state(sequence_of(b, block), segment);
        if (out_.checkpoints) {
          std::copy_n(h, layout_.state_size,
                      out_.checkpoints + layout_.checkpoint(k, b, chunk, block));
        }
        lanes_.scan_forward(in_, out_, at.block(block, blocks), sum_, h);
      }
    });
  }

  const ScanInputs<T>& in_;
  const ScanOutputs<T>& out_;
  Workers workers_;
  const CpuLanes<T>& lanes_;
  Layout layout_;
  LaneParameters<S> parameters_;
  int segments_, groups_;
  AlignedVector<S> state_, delta_sum_;  // [B * blocks, segments, P, W], [B * blocks, segments, W]
  AlignedBuffer<S> own_sum_;            // [B, L, D], where 16-bit outputs cannot hold the sum
  S* sum_;
};

}  // namespace

std::size_t scan_checkpoint_count_cpu(const ScanShape& s) {
  return static_cast<std::size_t>(s.directions) * s.batch * divide_up(s.length, kCpuChunk) *
         Layout::padded_states(s) * divide_up(s.channels, kWidestLanes) * kWidestLanes;
}

template <class T>
void selective_scan_forward_cpu(const ScanInputs<T>& in, const ScanOutputs<T>& out,
                                const Workers& workers) {
  if (in.shape.batch > 0 && in.shape.length > 0) Forward<T>(in, out, workers).run();
}

template void selective_scan_forward_cpu(const ScanInputs<float>&, const ScanOutputs<float>&,
                                         const Workers&);
template void selective_scan_forward_cpu(const ScanInputs<double>&, const ScanOutputs<double>&,
                                         const Workers&);
template void selective_scan_forward_cpu(const ScanInputs<BFloat16>&, const ScanOutputs<BFloat16>&,
                                         const Workers&);
template void selective_scan_forward_cpu(const ScanInputs<Float16>&, const ScanOutputs<Float16>&,
                                         const Workers&);

}  // namespace segmamba::kernels
