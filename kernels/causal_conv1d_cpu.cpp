// The CPU schedule of the causal convolution; its inner loops are those of cpu_lanes.h.

#include "causal_conv1d.h"

#include <algorithm>
#include <type_traits>

#include "aligned_vector.h"
#include "cpu_lanes.h"

namespace segmamba::kernels {
namespace {

// Steps of one unit of work: tiles walked one after another.
constexpr int kSpan = 16 * kConvTile;
constexpr std::int64_t kMinThreadedWork = 1 << 16;

template <class T>
class Conv {
  using S = State<T>;

 public:
  Conv(const ConvInputs<T>& in, const Workers& workers)
      : in_(in),
        s_(in.shape),
        lanes_(cpu_lanes<T>()),
        blocks_(divide_up(s_.channels, lanes_.width)),
        spans_(divide_up(s_.length, kSpan)),
        weight_size_(static_cast<std::int64_t>(s_.taps) * lanes_.width),
        weight_(s_.directions * blocks_ * weight_size_),
        bias_(static_cast<std::size_t>(s_.directions) * blocks_ * lanes_.width),
        workers_(static_cast<std::int64_t>(s_.directions) * s_.batch * s_.length * s_.channels <
                         kMinThreadedWork
                     ? Workers(1)
                     : workers) {
    for (int k = 0; k < s_.directions; ++k) {
      for (int d = 0; d < s_.channels; ++d) {
        const std::int64_t block = block_of(k, d / lanes_.width);
        const int lane = d % lanes_.width;
        const std::int64_t channel = static_cast<std::int64_t>(k) * s_.channels + d;
        bias_[block * lanes_.width + lane] = in.bias[channel];
        for (int j = 0; j < s_.taps; ++j) {
          weight_[block * weight_size_ + j * lanes_.width + lane] =
              in.weight[channel * s_.taps + j];
        }
      }
    }
  }

  void forward(T* out) {
    workers_.run(static_cast<std::int64_t>(s_.directions) * s_.batch * spans_, [&](std::int64_t i) {
      const int sequence = static_cast<int>(i / spans_);
      for_each_chunk(sequence / s_.batch, sequence % s_.batch, static_cast<int>(i % spans_),
                     [&](const ConvChunk<T>& at, int) { lanes_.conv_forward(in_, out, at); });
    });
  }

  // Directions one after another, since each adds to the gradient of x.
  void backward(const ConvGradients<T>& grad) {
    const std::int64_t size = static_cast<std::int64_t>(s_.batch) * s_.length * s_.channels;
    AlignedBuffer<S> own_sum;
    S* dx = grad.x_sum;
    if (!dx) {
      if constexpr (std::is_same_v<T, S>) {
        dx = grad.x;
      } else {
        own_sum = AlignedBuffer<S>(size);
        dx = own_sum.data();
      }
    }
    const std::int64_t parts = static_cast<std::int64_t>(s_.batch) * spans_;
    AlignedVector<S> dweight(parts * blocks_ * weight_size_);
    AlignedVector<S> dbias(parts * blocks_ * lanes_.width);
    for (int k = 0; k < s_.directions; ++k) {
      std::fill(dweight.begin(), dweight.end(), S(0));
      std::fill(dbias.begin(), dbias.end(), S(0));
      workers_.run(parts, [&](std::int64_t i) {
        for_each_chunk(k, static_cast<int>(i / spans_), static_cast<int>(i % spans_),
                       [&](const ConvChunk<T>& at, int block) {
                         const std::int64_t piece = i * blocks_ + block;
                         lanes_.conv_backward(in_, grad.out, at, dx, &dweight[piece * weight_size_],
                                              &dbias[piece * lanes_.width], k == 0 && !grad.adds);
                       });
      });
      sum_parts(k, parts, dweight, dbias, grad);
    }
    if (!grad.x || static_cast<void*>(grad.x) == dx) return;
    constexpr std::int64_t kPiece = 1 << 14;
    workers_.run((size + kPiece - 1) / kPiece, [&](std::int64_t i) {
      lanes_.from_state(dx + i * kPiece, grad.x + i * kPiece,
                        static_cast<int>(std::min(kPiece, size - i * kPiece)));
    });
  }

 private:
  // In order, so that the gradients do not depend on the threads.
  void sum_parts(int k, std::int64_t parts, const AlignedVector<S>& dweight,
                 const AlignedVector<S>& dbias, const ConvGradients<T>& grad) const {
    for (int d = 0; d < s_.channels; ++d) {
      const int block = d / lanes_.width, lane = d % lanes_.width;
      const std::int64_t channel = static_cast<std::int64_t>(k) * s_.channels + d;
      grad.bias[channel] = S(0);
      std::fill_n(grad.weight + channel * s_.taps, s_.taps, S(0));
      for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t piece = part * blocks_ + block;
        grad.bias[channel] += dbias[piece * lanes_.width + lane];
        for (int j = 0; j < s_.taps; ++j) {
          grad.weight[channel * s_.taps + j] +=
              dweight[piece * weight_size_ + j * lanes_.width + lane];
        }
      }
    }
  }

  std::int64_t block_of(int k, int block) const {
    return static_cast<std::int64_t>(k) * blocks_ + block;
  }

  // Calls body(chunk, block) for the tiles of a span, all blocks of channels of each.
  template <class Body>
  void for_each_chunk(int k, int b, int span, const Body& body) const {
    const int halo = s_.taps - 1;
    std::int32_t tokens[kConvTile + 2 * kMaxTaps];
    const int end = std::min((span + 1) * kSpan, s_.length);
    for (int begin = span * kSpan; begin < end; begin += kConvTile) {
      ConvChunk<T> chunk{};
      chunk.direction = k;
      chunk.batch = b;
      chunk.steps = std::min(kConvTile, end - begin);
      chunk.history = std::min(halo, begin);
      chunk.future = std::min(halo, s_.length - begin - chunk.steps);
      for (int i = -chunk.history; i < chunk.steps + chunk.future; ++i) {
        tokens[halo + i] = in_.maps[k].token(begin + i);
      }
      chunk.tokens = tokens + halo;
      for (int block = 0; block < blocks_; ++block) {
        chunk.channel = block * lanes_.width;
        chunk.weight = &weight_[block_of(k, block) * weight_size_];
        chunk.bias = &bias_[block_of(k, block) * lanes_.width];
        body(chunk, block);
      }
    }
  }

  const ConvInputs<T>& in_;
  const ConvShape& s_;
  const CpuLanes<T>& lanes_;
  int blocks_, spans_;
  std::int64_t weight_size_;
  AlignedVector<S> weight_, bias_;  // [K, blocks, J, W], [K, blocks, W]
  Workers workers_;
};

}  // namespace

template <class T>
void causal_conv1d_silu_forward_cpu(const ConvInputs<T>& in, T* out, const Workers& workers) {
  if (in.shape.batch > 0 && in.shape.length > 0) Conv<T>(in, workers).forward(out);
}

template <class T>
void causal_conv1d_silu_backward_cpu(const ConvInputs<T>& in, const ConvGradients<T>& grad,
                                     const Workers& workers) {
  if (in.shape.batch > 0 && in.shape.length > 0) Conv<T>(in, workers).backward(grad);
}

template void causal_conv1d_silu_forward_cpu(const ConvInputs<float>&, float*, const Workers&);
template void causal_conv1d_silu_backward_cpu(const ConvInputs<float>&, const ConvGradients<float>&,
                                              const Workers&);
template void causal_conv1d_silu_forward_cpu(const ConvInputs<double>&, double*, const Workers&);
template void causal_conv1d_silu_backward_cpu(const ConvInputs<double>&,
                                              const ConvGradients<double>&, const Workers&);
template void causal_conv1d_silu_forward_cpu(const ConvInputs<BFloat16>&, BFloat16*,
                                             const Workers&);
template void causal_conv1d_silu_backward_cpu(const ConvInputs<BFloat16>&,
                                              const ConvGradients<BFloat16>&, const Workers&);
template void causal_conv1d_silu_forward_cpu(const ConvInputs<Float16>&, Float16*, const Workers&);
template void causal_conv1d_silu_backward_cpu(const ConvInputs<Float16>&,
                                              const ConvGradients<Float16>&, const Workers&);

}  // namespace segmamba::kernels
