// The backward of the selective scan on the CPU; see cpu_schedule.h.

#include <type_traits>

#include "cpu_schedule.h"
#include "selective_scan.h"

namespace segmamba::kernels {
namespace {

template <class T>
class Backward {
  using S = State<T>;

 public:
  Backward(const ScanInputs<T>& in, const ScanGradients<T>& grad, const Workers& workers)
      : in_(in),
        grad_(grad),
        workers_(usable_workers(in.shape, workers)),
        lanes_(cpu_lanes<T>()),
        layout_(in.shape, lanes_.width),
        parameters_(in, layout_),
        sequences_(in.shape.directions * in.shape.batch),
        groups_(std::min({layout_.blocks, divide_up(kWantedUnits, sequences_), kMostGroups})),
        segments_(layout_.segments_for(static_cast<std::int64_t>(sequences_) * groups_)),
        g_(pieces() * layout_.state_size),
        dA_(pieces() * layout_.state_size),
        delta_sum_(pieces() * layout_.width),
        dD_(delta_sum_.size()),
        dbias_(delta_sum_.size()) {
    if (groups_ == 1) return;
    dB_ = AlignedBuffer<S>((groups_ - kFirstKept) * group_size());
    dC_ = AlignedBuffer<S>((groups_ - kFirstKept) * group_size());
  }

  void run() {
    if (segments_ > 1) {
      for_each_unit([&](int sequence, int group, int segment) {
        if (segment > 0) find_adjoint(sequence, group, segment);
      });
      for (int sequence = 0; sequence < sequences_; ++sequence) {
        for (int block = 0; block < layout_.blocks; ++block) carry(sequence, block);
      }
    }
    for_each_unit(
        [&](int sequence, int group, int segment) { differentiate(sequence, group, segment); });
    add_groups();
    for (int k = 0; k < in_.shape.directions; ++k) add_segments(k);
  }

 private:
  // The first group whose dB and dC wait beside the result where there are several.
  static constexpr int kFirstKept = std::is_same_v<T, S> ? 1 : 0;

  std::size_t pieces() const {
    return static_cast<std::size_t>(sequences_) * layout_.blocks * segments_;
  }
  std::size_t piece(int sequence, int block, int segment) const {
    return (static_cast<std::size_t>(sequence) * layout_.blocks + block) * segments_ + segment;
  }
  int direction_of(int sequence) const { return sequence / in_.shape.batch; }
  ChunkCursor<T> cursor(int sequence) const {
    return {in_, layout_, parameters_, lanes_, direction_of(sequence), sequence % in_.shape.batch};
  }

  template <class Body>
  void for_each_unit(const Body& body) {
    workers_.run(static_cast<std::int64_t>(sequences_) * groups_ * segments_, [&](std::int64_t i) {
      const int segment = static_cast<int>(i % segments_);
      const int group = static_cast<int>(i / segments_ % groups_);
      body(static_cast<int>(i / segments_ / groups_), group, segment);
    });
  }

  void find_adjoint(int sequence, int group, int segment) {
    auto at = cursor(sequence);
    const Range blocks = part_of(layout_.blocks, groups_, group);
    const Range range = part_of(layout_.chunks, segments_, segment);
    at.walk(range.end - 1, range.begin, [&](int) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        const std::size_t i = piece(sequence, block, segment);
        lanes_.scan_adjoint(in_, grad_, at.block(block, blocks), &g_[i * layout_.state_size],
                            &delta_sum_[i * layout_.width]);
      }
    });
  }

  // Turns what each segment passes back into what the segment before it receives.
  void carry(int sequence, int block) {
    const std::int64_t parameters = layout_.block_of(direction_of(sequence), block);
    AlignedVector<S> received(layout_.state_size), passed(layout_.state_size);
    for (int segment = segments_ - 1; segment >= 0; --segment) {
      const std::size_t i = piece(sequence, block, segment);
      S* const g = &g_[i * layout_.state_size];
      std::copy_n(g, layout_.state_size, passed.begin());
      std::copy_n(received.begin(), layout_.state_size, g);
      carry_over(layout_, &parameters_.a_log2e[parameters * layout_.state_size],
                 &delta_sum_[i * layout_.width], passed.data(), received.data());
    }
  }

  void differentiate(int sequence, int group, int segment) {
    const int k = direction_of(sequence), b = sequence % in_.shape.batch;
    auto at = cursor(sequence);
    const Range blocks = part_of(layout_.blocks, groups_, group);
    const Range range = part_of(layout_.chunks, segments_, segment);
    AlignedVector<S> dB(static_cast<std::size_t>(kCpuChunk) * layout_.states), dC(dB.size());
    at.walk(range.end - 1, range.begin, [&](int chunk) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        const std::size_t i = piece(sequence, block, segment);
        lanes_.scan_backward(in_, grad_, at.block(block, blocks),
                             grad_.checkpoints + layout_.checkpoint(k, b, chunk, block),
                             &g_[i * layout_.state_size], &dA_[i * layout_.state_size],
                             &dD_[i * layout_.width], &dbias_[i * layout_.width], dB.data(),
                             dC.data(), block == blocks.begin);
      }
      store_rows(sequence, group, at, dB.data(), grad_.B, dB_.data());
      store_rows(sequence, group, at, dC.data(), grad_.C, dC_.data());
    });
  }

  // A chunk's rows of dB or dC: to the result where there is one group, or where it is the first
  // and the result can hold it unrounded; else beside it.
  void store_rows(int sequence, int group, const ChunkCursor<T>& at, const S* sums, T* result,
                  S* kept) {
    const int states = in_.shape.states, tile = lanes_.tile_steps;
    for (int i = 0; i < at.steps(); ++i) {
      S row[kMaxStates];
      const S* const groups = sums + static_cast<std::int64_t>(i / tile) * tile * layout_.states +
                              static_cast<std::int64_t>(i % tile) * kStateGroup;
      for (int n = 0; n < layout_.states; n += kStateGroup) {
        std::copy_n(groups + static_cast<std::int64_t>(n) * tile, kStateGroup, row + n);
      }
      const std::int64_t to =
          (static_cast<std::int64_t>(sequence) * in_.shape.length + at.tokens()[i]) * states;
      if (groups_ == 1 || group < kFirstKept) {
        lanes_.from_state(row, result + to, states);
      } else {
        std::copy_n(row, states, kept + (group - kFirstKept) * group_size() + to);
      }
    }
  }

  std::int64_t group_size() const {
    return static_cast<std::int64_t>(sequences_) * in_.shape.length * in_.shape.states;
  }

  void add_groups() {
    if (groups_ == 1) return;
    constexpr std::int64_t kPiece = 1 << 12;
    workers_.run(divide_up(group_size(), kPiece), [&](std::int64_t i) {
      const std::int64_t begin = i * kPiece;
      const int count = static_cast<int>(std::min(kPiece, group_size() - begin));
      add_groups(grad_.B + begin, dB_.data() + begin, count);
      add_groups(grad_.C + begin, dC_.data() + begin, count);
    });
  }
  void add_groups(T* result, S* kept, int count) const {
    for (int group = 1; group < groups_; ++group) {
      const S* const other = kept + (group - kFirstKept) * group_size();
      if constexpr (kFirstKept == 1) {
        for (int i = 0; i < count; ++i) result[i] += other[i];
      } else {
        for (int i = 0; i < count; ++i) kept[i] += other[i];
      }
    }
    if (kFirstKept == 0) lanes_.from_state(kept, result, count);
  }

  // Sums over batch items and segments, in order.
  void add_segments(int k) {
    const ScanShape& s = in_.shape;
    for (int d = 0; d < s.channels; ++d) {
      const int block = d / layout_.width, lane = d % layout_.width;
      const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
      const auto sum = [&](const AlignedVector<S>& parts, std::int64_t stride,
                           std::int64_t offset) {
        S total = 0;
        for (int b = 0; b < s.batch; ++b) {
          for (int segment = 0; segment < segments_; ++segment) {
            total += parts[piece(k * s.batch + b, block, segment) * stride + offset];
          }
        }
        return total;
      };
      for (int n = 0; n < s.states; ++n) {
        grad_.A[channel * s.states + n] =
            sum(dA_, layout_.state_size, static_cast<std::int64_t>(n) * layout_.width + lane);
      }
      if (grad_.D) grad_.D[channel] = sum(dD_, layout_.width, lane);
      if (grad_.delta_bias) grad_.delta_bias[channel] = sum(dbias_, layout_.width, lane);
    }
  }

  const ScanInputs<T>& in_;
  const ScanGradients<T>& grad_;
  Workers workers_;
  const CpuLanes<T>& lanes_;
  Layout layout_;
  LaneParameters<S> parameters_;
  int sequences_;  // K * B
  int groups_, segments_;
  AlignedVector<S> g_, dA_;                  // [K * B, blocks, segments, P, W]
  AlignedVector<S> delta_sum_, dD_, dbias_;  // [K * B, blocks, segments, W]
  AlignedBuffer<S> dB_, dC_;                 // [groups - kFirstKept, K * B, L, N]
};

}  // namespace

template <class T>
void selective_scan_backward_cpu(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                 const Workers& workers) {
  if (in.shape.batch > 0 && in.shape.length > 0) Backward<T>(in, grad, workers).run();
}

template void selective_scan_backward_cpu(const ScanInputs<float>&, const ScanGradients<float>&,
                                          const Workers&);
template void selective_scan_backward_cpu(const ScanInputs<double>&, const ScanGradients<double>&,
                                          const Workers&);
template void selective_scan_backward_cpu(const ScanInputs<BFloat16>&,
                                          const ScanGradients<BFloat16>&, const Workers&);
template void selective_scan_backward_cpu(const ScanInputs<Float16>&, const ScanGradients<Float16>&,
                                          const Workers&);

}  // namespace segmamba::kernels
