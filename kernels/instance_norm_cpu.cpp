// The instance norm's schedule on the CPU; its inner loops are those of volume_lanes.h.
//
// Memory is a list of sequences in which the channels follow each other with a period: an item with
// all its channels (channels last), or one channel of an item, whose period is 1. A sequence is cut
// into rows of many periods, so that every column belongs to one channel, and rows into spans of
// chunks. A chunk's sums count from its first row, one of its own numbers, so that a large mean
// takes little from them; chunks of a span, then spans, are merged in float64 (Chan, Golub and
// LeVeque, 1979).

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "aligned_vector.h"
#include "instance_norm.h"
#include "volume_lanes.h"

namespace segmamba::kernels {
namespace {

constexpr std::int64_t kChunkNumbers = 8192, kSpanNumbers = 64 * kChunkNumbers;
constexpr std::int64_t kMinColumns = 64;
// Below this many numbers, threads cost more than they bring.
constexpr std::int64_t kMinThreadedWork = 1 << 16;

// Of some voxels of each channel of a sequence.
struct Moments {
  explicit Moments(std::int64_t channels) : mean(channels), squares(channels) {}

  // Adds `more` voxels, of which of(c) gives mean and squares of channel c.
  template <class Of>
  void merge(double more, const Of& of) {
    const double share = more / (count + more), common = count * share;
    for (std::size_t c = 0; c < mean.size(); ++c) {
      const auto [more_mean, more_squares] = of(c);
      const double apart = more_mean - mean[c];
      mean[c] += apart * share;
      squares[c] += more_squares + apart * apart * common;
    }
    count += more;
  }
  void merge(const Moments& more) {
    merge(more.count, [&more](std::size_t c) { return std::pair(more.mean[c], more.squares[c]); });
  }

  double count = 0;
  std::vector<double> mean, squares;  // squares of deviations from the mean, summed
};

template <class T>
class Norm {
  using S = State<T>;

 public:
  Norm(const InstanceNorm<T>& norm, const Workers& workers)
      : norm_(norm),
        lanes_(volume_lanes<T>()),
        sequences_(norm.channels_last ? norm.batch : norm.batch * norm.channels),
        period_(norm.channels_last ? norm.channels : 1),
        length_(norm.voxels * period_),
        columns_(columns()),
        rows_(length_ / columns_),
        chunk_rows_(std::max<std::int64_t>(1, kChunkNumbers / columns_)),
        span_rows_(std::max<std::int64_t>(1, kSpanNumbers / columns_)),
        spans_((rows_ + span_rows_ - 1) / span_rows_),
        workers_(sequences_ * length_ < kMinThreadedWork ? Workers(1) : workers) {}

  void run() {
    const auto x = statistics(norm_.x, norm_.weight);
    Scaling shortcut;
    if (norm_.shortcut && norm_.normalises_shortcut) {
      shortcut = statistics(norm_.shortcut, norm_.shortcut_weight);
    }
    workers_.run(sequences_ * spans_,
                 [&](std::int64_t i) { normalise(x, shortcut, i / spans_, i % spans_); });
  }

 private:
  // (number - mean) scale, for each sequence and channel; empty: numbers stay as they are.
  struct Scaling {
    std::vector<S> mean, scale;
  };
  struct Part {
    std::int64_t begin;  // a number of a sequence
    int rows, columns;
  };

  std::int64_t columns() const {
    const std::int64_t whole = std::lcm<std::int64_t>(period_, lanes_.width);
    return std::min(length_, (kMinColumns + whole - 1) / whole * whole);
  }

  // Calls body(part) for the rows of a span, at most `step` at a time, and for what is left behind
  // the last row of the sequence.
  template <class Body>
  void for_each_part(std::int64_t span, std::int64_t step, const Body& body) const {
    const std::int64_t end = std::min((span + 1) * span_rows_, rows_);
    for (std::int64_t row = span * span_rows_; row < end; row += step) {
      body(Part{row * columns_, static_cast<int>(std::min(step, end - row)),
                static_cast<int>(columns_)});
    }
    const std::int64_t rest = length_ - rows_ * columns_;
    if (end == rows_ && rest > 0) body(Part{rows_ * columns_, 1, static_cast<int>(rest)});
  }

  Moments span_moments(const T* sequence, std::int64_t span) const {
    Moments total(period_);
    const std::int64_t room = columns_ + lanes_.width;
    AlignedVector<S> origin(room), sum(room), squares(room);
    for_each_part(span, chunk_rows_, [&](const Part& part) {
      lanes_.sum_columns(sequence + part.begin, part.rows, part.columns,
                         {origin.data(), sum.data(), squares.data()});
      for (std::int64_t begin = 0; begin < part.columns; begin += period_) {
        total.merge(part.rows, [&](std::size_t c) {
          const double apart = static_cast<double>(sum[begin + c]) / part.rows;
          return std::pair(origin[begin + c] + apart, squares[begin + c] - sum[begin + c] * apart);
        });
      }
    });
    return total;
  }

  // `weight` [channels] or nullptr.
  Scaling statistics(const T* from, const S* weight) const {
    std::vector<Moments> parts(sequences_ * spans_, Moments(0));
    workers_.run(sequences_ * spans_, [&](std::int64_t i) {
      parts[i] = span_moments(from + i / spans_ * length_, i % spans_);
    });
    Scaling scaling{std::vector<S>(sequences_ * period_), std::vector<S>(sequences_ * period_)};
    for (std::int64_t sequence = 0; sequence < sequences_; ++sequence) {
      Moments& total = parts[sequence * spans_];
      for (std::int64_t span = 1; span < spans_; ++span) {
        total.merge(parts[sequence * spans_ + span]);
      }
      for (std::int64_t c = 0; c < period_; ++c) {
        scaling.mean[sequence * period_ + c] = static_cast<S>(total.mean[c]);
        scaling.scale[sequence * period_ + c] =
            static_cast<S>((weight ? weight[channel(sequence, c)] : 1) /
                           std::sqrt(total.squares[c] / total.count + norm_.eps));
      }
    }
    return scaling;
  }

  std::int64_t channel(std::int64_t sequence, std::int64_t c) const {
    return norm_.channels_last ? c : sequence % norm_.channels;
  }

  // What is added to each channel of a sequence; empty: nothing.
  AlignedVector<S> shift(std::int64_t sequence) const {
    AlignedVector<S> columns;
    for (const S* bias : {norm_.bias, norm_.normalises_shortcut ? norm_.shortcut_bias : nullptr}) {
      if (bias == nullptr) continue;
      columns.resize(columns_ + lanes_.width, 0);
      for (std::int64_t i = 0; i < columns_; ++i)
        columns[i] += bias[channel(sequence, i % period_)];
    }
    return columns;
  }

  // A sequence's numbers, one a channel, for every column.
  AlignedVector<S> spread(const std::vector<S>& values, std::int64_t sequence, S otherwise) const {
    AlignedVector<S> columns(columns_ + lanes_.width, otherwise);
    if (values.empty()) return columns;
    for (std::int64_t i = 0; i < columns_; ++i)
      columns[i] = values[sequence * period_ + i % period_];
    return columns;
  }

  void normalise(const Scaling& x, const Scaling& shortcut, std::int64_t sequence,
                 std::int64_t span) const {
    const auto mean = spread(x.mean, sequence, 0), scale = spread(x.scale, sequence, 1);
    const auto shortcut_mean = spread(shortcut.mean, sequence, 0);
    const auto shortcut_scale = spread(shortcut.scale, sequence, 1);
    const auto shifts = shift(sequence);
    for_each_part(span, span_rows_, [&](const Part& part) {
      const std::int64_t at = sequence * length_ + part.begin;
      const auto from = [at](const T* data) { return data ? data + at : nullptr; };
      lanes_.normalise({norm_.x + at, from(norm_.shortcut), from(norm_.residual), mean.data(),
                        scale.data(), shortcut_mean.data(), shortcut_scale.data(),
                        shifts.empty() ? nullptr : shifts.data(), norm_.slope, norm_.out + at},
                       part.rows, part.columns);
    });
  }

  const InstanceNorm<T>& norm_;
  const VolumeLanes<T>& lanes_;
  std::int64_t sequences_, period_, length_;
  std::int64_t columns_, rows_, chunk_rows_, span_rows_, spans_;
  Workers workers_;
};

}  // namespace

template <class T>
void instance_norm_cpu(const InstanceNorm<T>& norm, const Workers& workers) {
  if (norm.batch * norm.channels * norm.voxels > 0) Norm<T>(norm, workers).run();
}

template void instance_norm_cpu(const InstanceNorm<float>&, const Workers&);
template void instance_norm_cpu(const InstanceNorm<double>&, const Workers&);
template void instance_norm_cpu(const InstanceNorm<BFloat16>&, const Workers&);
template void instance_norm_cpu(const InstanceNorm<Float16>&, const Workers&);

}  // namespace segmamba::kernels
