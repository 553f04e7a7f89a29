// The schedule of a Mamba layer's inner part on the CPU. Directions follow each other. Of each, the
// projections are formed first, tile by tile in any order; then every thread scans its channels.

#include "mamba_inner.h"

#include <algorithm>
#include <type_traits>

#include "column_block.h"
#include "cpu_schedule.h"

namespace segmamba::kernels {
namespace {

// Tiles of one unit of work of the projections.
constexpr int kSpanTiles = 16;
static_assert(kCpuChunk <= kConvTile);

template <class T>
ScanShape scan_shape(const MambaInner<T>& in) {
  return {in.directions, in.batch, in.length, in.channels, in.states};
}

template <class T>
class Inner {
  using S = State<T>;

 public:
  Inner(const MambaInner<T>& inner, const Workers& workers)
      : inner_(inner),
        workers_(usable_workers(scan_shape(inner), workers)),
        lanes_(cpu_lanes<T>()),
        projected_size_(inner.rank + 2 * inner.states),
        column_blocks_(divide_up(projected_size_, kColumnBlock)),
        projected_(static_cast<std::size_t>(inner.batch) * inner.length * projected_size_),
        scan_(scan_inputs()),
        conv_(conv_inputs()),
        layout_(scan_.shape, lanes_.width),
        parameters_(scan_, layout_),
        out_{inner.out, nullptr, nullptr} {
    if (inner.directions == 1) return;
    if constexpr (std::is_same_v<T, S>) {
      sum_ = inner.out;
    } else {
      own_sum_ =
          AlignedBuffer<S>(static_cast<std::size_t>(inner.batch) * inner.length * inner.channels);
      sum_ = own_sum_.data();
    }
  }

  void run() {
    for (int k = 0; k < inner_.directions; ++k) {
      const auto conv = conv_lanes(k);
      project(k, conv);
      scan(k, conv);
    }
  }

 private:
  // A direction's causal convolution in lane order: [blocks, J, W], [blocks, W].
  struct ConvLanes {
    AlignedVector<S> weight, bias;
  };

  ScanInputs<T> scan_inputs() const {
    const std::int64_t row = 2 * inner_.channels;
    const auto projected = [this](int start) {
      return Rows<const T>{projected_.data() + start, 0,
                           static_cast<std::int64_t>(inner_.length) * projected_size_,
                           projected_size_};
    };
    const auto half = [&](int start) {
      return Rows<const T>{inner_.xz + start, 0, inner_.length * row,
                           static_cast<std::int32_t>(row)};
    };
    return {scan_shape(inner_),
            inner_.maps,
            half(0),
            projected(0),
            projected(inner_.rank),
            projected(inner_.rank + inner_.states),
            half(inner_.channels),
            inner_.A,
            inner_.D,
            inner_.delta_bias,
            true};
  }
  ConvInputs<T> conv_inputs() const {
    return {{inner_.directions, inner_.batch, inner_.length, inner_.channels, inner_.taps},
            inner_.maps,
            scan_.x,
            inner_.conv_weight,
            inner_.conv_bias};
  }

  // Numbers [E, count] in lane order: [blocks, count, W].
  template <class From>
  AlignedVector<S> in_lane_order(const From& from, int count) const {
    AlignedVector<S> to(static_cast<std::size_t>(layout_.blocks) * count * layout_.width);
    for (int e = 0; e < inner_.channels; ++e) {
      for (int i = 0; i < count; ++i) {
        to[(static_cast<std::size_t>(e / layout_.width) * count + i) * layout_.width +
           e % layout_.width] = from[static_cast<std::size_t>(e) * count + i];
      }
    }
    return to;
  }
  ConvLanes conv_lanes(int k) const {
    const std::int64_t first = static_cast<std::int64_t>(k) * inner_.channels;
    return {in_lane_order(inner_.conv_weight + first * inner_.taps, inner_.taps),
            in_lane_order(inner_.conv_bias + first, 1)};
  }
  AlignedVector<S> to_state(const T* from, std::size_t count) const {
    AlignedVector<S> to(count + layout_.width);
    lanes_.to_state(from, to.data(), static_cast<int>(count));
    return to;
  }

  // The steps of a tile and those before it that its taps reach; `tokens` has kMaxTaps before it.
  ConvChunk<T> conv_chunk(int k, int b, int begin, std::int32_t* tokens) const {
    ConvChunk<T> chunk{};
    chunk.direction = k;
    chunk.batch = b;
    chunk.steps = std::min(kCpuChunk, inner_.length - begin);
    chunk.history = std::min(inner_.taps - 1, begin);
    list_tokens(inner_.maps[k], begin - chunk.history, chunk.history + chunk.steps,
                tokens - chunk.history);
    chunk.tokens = tokens;
    return chunk;
  }
  void set_block(const ConvLanes& conv, int block, ConvChunk<T>& chunk) const {
    chunk.channel = block * layout_.width;
    chunk.weight = &conv.weight[static_cast<std::size_t>(block) * inner_.taps * layout_.width];
    chunk.bias = &conv.bias[static_cast<std::size_t>(block) * layout_.width];
  }

  // dt, B and C of every token.
  void project(int k, const ConvLanes& conv) {
    const auto weight = projection_columns(k);
    const std::int64_t x_row = static_cast<std::int64_t>(layout_.blocks) * layout_.width;
    const int spans = divide_up(layout_.chunks, kSpanTiles);
    workers_.run(static_cast<std::int64_t>(inner_.batch) * spans, [&](std::int64_t unit) {
      const int b = static_cast<int>(unit / spans), span = static_cast<int>(unit % spans);
      constexpr int kRows = kConvTile + kMostRowsAtOnce;
      AlignedVector<S> x(kRows * x_row), products(kRows * column_blocks_ * kColumnBlock);
      const int end = std::min((span + 1) * kSpanTiles, layout_.chunks);
      for (int tile = span * kSpanTiles; tile < end; ++tile) {
        std::int32_t tokens[kMaxTaps + kCpuChunk];
        auto chunk = conv_chunk(k, b, tile * kCpuChunk, tokens + kMaxTaps);
        for (int block = 0; block < layout_.blocks; ++block) {
          set_block(conv, block, chunk);
          lanes_.conv_rows(conv_, chunk, &x[chunk.channel], x_row);
        }
        lanes_.multiply_rows(x.data(), x_row, chunk.steps, inner_.channels, weight.data(),
                             column_blocks_, products.data());
        for (int i = 0; i < chunk.steps; ++i) {
          const std::int64_t token = static_cast<std::int64_t>(b) * inner_.length + chunk.tokens[i];
          lanes_.from_state(&products[static_cast<std::size_t>(i) * column_blocks_ * kColumnBlock],
                            projected_.data() + token * projected_size_, projected_size_);
        }
      }
    });
  }
  // x_proj of a direction as multiply_rows() takes it.
  AlignedVector<S> projection_columns(int k) const {
    const std::int64_t inputs = inner_.channels;
    const auto rows =
        to_state(inner_.x_proj + k * projected_size_ * inputs, projected_size_ * inputs);
    AlignedVector<S> columns(column_blocks_ * inputs * kColumnBlock);
    for (int p = 0; p < projected_size_; ++p) {
      for (std::int64_t e = 0; e < inputs; ++e) {
        columns[(p / kColumnBlock * inputs + e) * kColumnBlock + p % kColumnBlock] =
            rows[p * inputs + e];
      }
    }
    return columns;
  }

  void scan(int k, const ConvLanes& conv) {
    const std::int64_t first = static_cast<std::int64_t>(k) * inner_.channels * inner_.rank;
    const auto dt_proj =
        in_lane_order(to_state(inner_.dt_proj + first, inner_.channels * inner_.rank), inner_.rank);
    const int groups = std::min(layout_.blocks, divide_up(workers_.threads(), inner_.batch));
    workers_.run(static_cast<std::int64_t>(inner_.batch) * groups, [&](std::int64_t unit) {
      const int b = static_cast<int>(unit / groups);
      const Range blocks = part_of(layout_.blocks, groups, static_cast<int>(unit % groups));
      ChunkCursor<T> cursor(scan_, layout_, parameters_, lanes_, k, b);
      AlignedVector<S> state((blocks.end - blocks.begin) * layout_.state_size);
      AlignedVector<S> dt(static_cast<std::size_t>(kCpuChunk) * inner_.rank + layout_.width);
      cursor.walk(0, layout_.chunks - 1, [&](int chunk) {
        std::int32_t tokens[kMaxTaps + kCpuChunk];
        InnerChunk<T> at{conv_chunk(k, b, chunk * kCpuChunk, tokens + kMaxTaps), dt.data(), nullptr,
                         inner_.rank};
        for (int i = 0; i < cursor.steps(); ++i) {
          lanes_.to_state(scan_.delta.row(0, b, cursor.tokens()[i]), &dt[i * inner_.rank],
                          inner_.rank);
        }
        for (int block = blocks.begin; block < blocks.end; ++block) {
          set_block(conv, block, at.conv);
          at.dt_proj = &dt_proj[static_cast<std::size_t>(block) * inner_.rank * layout_.width];
          lanes_.inner_forward(scan_, out_, cursor.block(block, blocks), conv_, at, sum_,
                               &state[(block - blocks.begin) * layout_.state_size]);
        }
      });
    });
  }

  const MambaInner<T>& inner_;
  Workers workers_;
  const CpuLanes<T>& lanes_;
  int projected_size_, column_blocks_;  // R + 2N
  AlignedBuffer<T> projected_;          // [B, L, R + 2N] of the direction under way
  ScanInputs<T> scan_;                  // delta is dt
  ConvInputs<T> conv_;
  Layout layout_;
  LaneParameters<S> parameters_;
  ScanOutputs<T> out_;
  AlignedBuffer<S> own_sum_;  // [B, L, E], where 16-bit outputs cannot hold the sum
  S* sum_ = nullptr;
};

}  // namespace

template <class T>
bool suits_mamba_inner(const MambaInner<T>& inner) {
  const Layout layout(scan_shape(inner), cpu_lanes<T>().width);
  return layout.segments_for(static_cast<std::int64_t>(inner.batch) * layout.blocks) == 1;
}

template <class T>
void mamba_inner_forward_cpu(const MambaInner<T>& inner, const Workers& workers) {
  if (inner.batch > 0 && inner.length > 0) Inner<T>(inner, workers).run();
}

template bool suits_mamba_inner(const MambaInner<float>&);
template bool suits_mamba_inner(const MambaInner<double>&);
template bool suits_mamba_inner(const MambaInner<BFloat16>&);
template bool suits_mamba_inner(const MambaInner<Float16>&);
template void mamba_inner_forward_cpu(const MambaInner<float>&, const Workers&);
template void mamba_inner_forward_cpu(const MambaInner<double>&, const Workers&);
template void mamba_inner_forward_cpu(const MambaInner<BFloat16>&, const Workers&);
template void mamba_inner_forward_cpu(const MambaInner<Float16>&, const Workers&);

}  // namespace segmamba::kernels
