// Two passes: with g the gradient before the activation, n voxels a channel and y the normalised x,
//   sums   G = sum g, Y = sum g y, the same with the shortcut's y
//   grad_x = w inverse_deviation (g - G / n - y Y / n)
// so that nothing of the size of a volume is written but the results.

#include <array>
#include <vector>

#include "instance_norm_schedule.h"

namespace segmamba::kernels {
namespace {

template <class T>
class NormBackward {
  using S = State<T>;
  using Schedule = NormSchedule<T>;
  // G, Y and the shortcut's Y of each channel of a sequence.
  using Sums = std::array<std::vector<double>, 3>;

 public:
  NormBackward(const InstanceNormBackward<T>& norm, const Workers& workers)
      : norm_(norm), schedule_(norm.shape, workers), sums_(schedule_.sequences * schedule_.spans) {}

  void run() {
    schedule_.for_each_span([&](std::int64_t sequence, std::int64_t span) {
      sums_[sequence * schedule_.spans + span] = span_sums(sequence, span);
    });
    for (std::int64_t sequence = 0; sequence < schedule_.sequences; ++sequence) {
      for (std::int64_t span = 1; span < schedule_.spans; ++span) {
        const auto& more = sums_[sequence * schedule_.spans + span];
        for (std::size_t i = 0; i < more.size(); ++i) {
          for (std::int64_t c = 0; c < schedule_.period; ++c) total(sequence)[i][c] += more[i][c];
        }
      }
    }
    add_up_parameters();
    if (!norm_.grad_x && !norm_.grad_shortcut) return;
    schedule_.for_each_span(
        [&](std::int64_t sequence, std::int64_t span) { gradients(sequence, span); });
  }

 private:
  Sums& total(std::int64_t sequence) { return sums_[sequence * schedule_.spans]; }

  // What the columns of a sequence are computed with.
  struct Columns {
    AlignedVector<S> mean, scale, weight, shift, shortcut_mean, shortcut_scale, shortcut_weight;
  };
  Columns columns(std::int64_t sequence) const {
    const auto of_channel = [&](const S* values, S otherwise) {
      return schedule_.spread([&](std::int64_t c) {
        return values ? values[schedule_.channel(sequence, c)] : otherwise;
      });
    };
    const auto of_item = [&](const S* values, S otherwise) {
      return schedule_.spread([&](std::int64_t c) {
        return values ? values[sequence * schedule_.period + c] : otherwise;
      });
    };
    const bool normalises = norm_.normalises_shortcut;
    auto shift = of_channel(norm_.scaling.bias, 0);
    if (normalises) {
      const auto more = of_channel(norm_.shortcut_scaling.bias, 0);
      for (std::size_t i = 0; i < shift.size(); ++i) shift[i] += more[i];
    }
    const auto& shortcut = norm_.shortcut_statistics;
    return {of_item(norm_.statistics.mean, 0),
            of_item(norm_.statistics.inverse_deviation, 1),
            of_channel(norm_.scaling.weight, 1),
            std::move(shift),
            of_item(normalises ? shortcut.mean : nullptr, 0),
            of_item(normalises ? shortcut.inverse_deviation : nullptr, 1),
            of_channel(normalises ? norm_.shortcut_scaling.weight : nullptr, 1)};
  }
  NormGradientRows<T> rows(const Columns& of, std::int64_t at) const {
    const auto from = [at](const T* data) { return data ? data + at : nullptr; };
    return {norm_.grad_out + at,
            from(norm_.x),
            from(norm_.out),
            from(norm_.shortcut),
            of.mean.data(),
            of.scale.data(),
            of.weight.data(),
            of.shift.data(),
            of.shortcut_mean.data(),
            of.shortcut_scale.data(),
            of.shortcut_weight.data(),
            norm_.slope};
  }

  Sums span_sums(std::int64_t sequence, std::int64_t span) const {
    const auto of = columns(sequence);
    std::array<AlignedVector<S>, 3> chunk{schedule_.columns(), schedule_.columns(),
                                          schedule_.columns()};
    Sums result;
    for (auto& sums : result) sums.resize(schedule_.period);
    schedule_.for_each_chunk(span, [&](const typename Schedule::Part& part) {
      schedule_.lanes.sum_gradients(rows(of, sequence * schedule_.length + part.begin), part.rows,
                                    part.columns,
                                    {chunk[0].data(), chunk[1].data(), chunk[2].data()});
      for (std::size_t i = 0; i < result.size(); ++i) {
        for (std::int64_t begin = 0; begin < part.columns; begin += schedule_.period) {
          for (std::int64_t c = 0; c < schedule_.period; ++c) result[i][c] += chunk[i][begin + c];
        }
      }
    });
    return result;
  }

  void add_up_parameters() {
    S* const results[] = {norm_.grad_bias, norm_.grad_weight, norm_.grad_shortcut_weight};
    for (std::size_t i = 0; i < std::size(results); ++i) {
      if (results[i] == nullptr) continue;
      std::vector<double> sums(norm_.shape.channels);
      for (std::int64_t sequence = 0; sequence < schedule_.sequences; ++sequence) {
        for (std::int64_t c = 0; c < schedule_.period; ++c) {
          sums[schedule_.channel(sequence, c)] += total(sequence)[i][c];
        }
      }
      for (std::size_t c = 0; c < sums.size(); ++c) results[i][c] = static_cast<S>(sums[c]);
    }
  }

  void gradients(std::int64_t sequence, std::int64_t span) {
    const auto of = columns(sequence);
    const auto mean = [&](std::size_t i, bool is_taken) {
      return schedule_.spread([&](std::int64_t c) {
        return is_taken ? static_cast<S>(total(sequence)[i][c] / norm_.shape.voxels) : S(0);
      });
    };
    const bool normalises = norm_.normalises_shortcut;
    const auto gradient = mean(0, true), along = mean(1, true),
               shortcut_gradient = mean(0, normalises), shortcut_along = mean(2, normalises);
    schedule_.for_whole_span(span, [&](const typename Schedule::Part& part) {
      const std::int64_t at = sequence * schedule_.length + part.begin;
      const auto to = [at](T* data) { return data ? data + at : nullptr; };
      schedule_.lanes.norm_gradients(
          rows(of, at),
          {gradient.data(), along.data(), shortcut_gradient.data(), shortcut_along.data(),
           to(norm_.grad_x), to(norm_.grad_shortcut)},
          part.rows, part.columns);
    });
  }

  const InstanceNormBackward<T>& norm_;
  NormSchedule<T> schedule_;
  std::vector<Sums>
      sums_;  // of each span of each sequence; in the end of the sequence in the first
};

}  // namespace

template <class T>
void instance_norm_backward_cpu(const InstanceNormBackward<T>& norm, const Workers& workers) {
  if (norm.shape.count() > 0) NormBackward<T>(norm, workers).run();
}

template void instance_norm_backward_cpu(const InstanceNormBackward<float>&, const Workers&);
template void instance_norm_backward_cpu(const InstanceNormBackward<double>&, const Workers&);
template void instance_norm_backward_cpu(const InstanceNormBackward<BFloat16>&, const Workers&);
template void instance_norm_backward_cpu(const InstanceNormBackward<Float16>&, const Workers&);

}  // namespace segmamba::kernels
