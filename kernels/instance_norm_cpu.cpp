// A chunk's sums count from its first row, one of its own numbers, so that a large mean takes
// little from them; chunks of a span, then spans, are merged in float64 (Chan, Golub and LeVeque,
// 1979).

#include <cmath>
#include <utility>
#include <vector>

#include "instance_norm_schedule.h"

namespace segmamba::kernels {
namespace {

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
  using Schedule = NormSchedule<T>;

 public:
  Norm(const InstanceNorm<T>& norm, const Workers& workers)
      : norm_(norm), schedule_(norm.shape, workers) {}

  void run() {
    const auto x = affine(norm_.x, norm_.scaling.weight, norm_.statistics);
    Affine shortcut;
    if (norm_.shortcut && norm_.normalises_shortcut) {
      shortcut = affine(norm_.shortcut, norm_.shortcut_scaling.weight, norm_.shortcut_statistics);
    }
    schedule_.for_each_span(
        [&](std::int64_t sequence, std::int64_t span) { normalise(x, shortcut, sequence, span); });
  }

 private:
  // (number - mean) scale, for each sequence and channel; empty: numbers stay as they are.
  struct Affine {
    std::vector<S> mean, scale;
  };

  Moments span_moments(const T* sequence, std::int64_t span) const {
    Moments total(schedule_.period);
    auto origin = schedule_.columns(), sum = schedule_.columns(), squares = schedule_.columns();
    schedule_.for_each_chunk(span, [&](const typename Schedule::Part& part) {
      schedule_.lanes.sum_columns(sequence + part.begin, part.rows, part.columns,
                                  {origin.data(), sum.data(), squares.data()});
      for (std::int64_t begin = 0; begin < part.columns; begin += schedule_.period) {
        total.merge(part.rows, [&](std::size_t c) {
          const double apart = static_cast<double>(sum[begin + c]) / part.rows;
          return std::pair(origin[begin + c] + apart, squares[begin + c] - sum[begin + c] * apart);
        });
      }
    });
    return total;
  }

  Affine affine(const T* from, const S* weight, const NormStatistics<S>& kept) const {
    const auto sequences = schedule_.sequences, spans = schedule_.spans, period = schedule_.period;
    std::vector<Moments> parts(sequences * spans, Moments(0));
    schedule_.for_each_span([&](std::int64_t sequence, std::int64_t span) {
      parts[sequence * spans + span] = span_moments(from + sequence * schedule_.length, span);
    });
    Affine result{std::vector<S>(sequences * period), std::vector<S>(sequences * period)};
    for (std::int64_t sequence = 0; sequence < sequences; ++sequence) {
      Moments& total = parts[sequence * spans];
      for (std::int64_t span = 1; span < spans; ++span) total.merge(parts[sequence * spans + span]);
      for (std::int64_t c = 0; c < period; ++c) {
        const auto at = sequence * period + c;
        const double inverse = 1 / std::sqrt(total.squares[c] / total.count + norm_.eps);
        result.mean[at] = static_cast<S>(total.mean[c]);
        result.scale[at] =
            static_cast<S>((weight ? weight[schedule_.channel(sequence, c)] : 1) * inverse);
        if (kept.mean == nullptr) continue;
        kept.mean[at] = static_cast<S>(total.mean[c]);
        kept.inverse_deviation[at] = static_cast<S>(inverse);
      }
    }
    return result;
  }

  // What is added to each column of a sequence; empty: nothing.
  AlignedVector<S> shift(std::int64_t sequence) const {
    const S* bias = norm_.scaling.bias;
    const S* shortcut_bias = norm_.normalises_shortcut ? norm_.shortcut_scaling.bias : nullptr;
    if (!bias && !shortcut_bias) return {};
    return schedule_.spread([&](std::int64_t c) {
      const auto channel = schedule_.channel(sequence, c);
      return (bias ? bias[channel] : 0) + (shortcut_bias ? shortcut_bias[channel] : 0);
    });
  }

  void normalise(const Affine& x, const Affine& shortcut, std::int64_t sequence,
                 std::int64_t span) const {
    // A sequence's numbers, one a channel, for every column.
    const auto spread = [&](const std::vector<S>& values, S otherwise) {
      return schedule_.spread([&](std::int64_t c) {
        return values.empty() ? otherwise : values[sequence * schedule_.period + c];
      });
    };
    const auto mean = spread(x.mean, 0), scale = spread(x.scale, 1);
    const auto shortcut_mean = spread(shortcut.mean, 0), shortcut_scale = spread(shortcut.scale, 1);
    const auto shifts = shift(sequence);
    schedule_.for_whole_span(span, [&](const typename Schedule::Part& part) {
      const std::int64_t at = sequence * schedule_.length + part.begin;
      const auto from = [at](const T* data) { return data ? data + at : nullptr; };
      schedule_.lanes.normalise(
          {norm_.x + at, from(norm_.shortcut), from(norm_.residual), mean.data(), scale.data(),
           shortcut_mean.data(), shortcut_scale.data(), shifts.empty() ? nullptr : shifts.data(),
           norm_.slope, norm_.out + at},
          part.rows, part.columns);
    });
  }

  const InstanceNorm<T>& norm_;
  NormSchedule<T> schedule_;
};

}  // namespace

template <class T>
void instance_norm_cpu(const InstanceNorm<T>& norm, const Workers& workers) {
  if (norm.shape.count() > 0) Norm<T>(norm, workers).run();
}

template void instance_norm_cpu(const InstanceNorm<float>&, const Workers&);
template void instance_norm_cpu(const InstanceNorm<double>&, const Workers&);
template void instance_norm_cpu(const InstanceNorm<BFloat16>&, const Workers&);
template void instance_norm_cpu(const InstanceNorm<Float16>&, const Workers&);

}  // namespace segmamba::kernels
