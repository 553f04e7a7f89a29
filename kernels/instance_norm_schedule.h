#pragma once
// How the instance norm's passes walk through memory on the CPU; their inner loops are those of
// volume_lanes.h.
//
// Memory is a list of sequences in which the channels follow each other with a period: an item with
// all its channels (channels last), or one channel of an item, whose period is 1. A sequence is cut
// into rows of many periods, so that every column belongs to one channel, and rows into spans of
// chunks. Sums of a chunk have the type State<T>; chunks of a span, then spans, are added in
// float64.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "aligned_vector.h"
#include "instance_norm.h"
#include "volume_lanes.h"

namespace segmamba::kernels {

template <class T>
class NormSchedule {
 public:
  using S = State<T>;
  struct Part {
    std::int64_t begin;  // a number of a sequence
    int rows, columns;
  };

  NormSchedule(const VolumeShape& shape, const Workers& workers)
      : lanes(volume_lanes<T>()),
        sequences(shape.channels_last ? shape.batch : shape.batch * shape.channels),
        period(shape.channels_last ? shape.channels : 1),
        length(shape.voxels * period),
        spans(0),
        workers_(shape.count() < kMinThreadedWork ? Workers(1) : workers),
        channels_(shape.channels) {
    const std::int64_t whole = std::lcm<std::int64_t>(period, lanes.width);
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): none is made of an empty shape
    columns_ = std::min(length, (kMinColumns + whole - 1) / whole * whole);
    rows_ = length / columns_;
    chunk_rows_ = std::max<std::int64_t>(1, kChunkNumbers / columns_);
    span_rows_ = std::max<std::int64_t>(1, kSpanNumbers / columns_);
    spans = (rows_ + span_rows_ - 1) / span_rows_;
  }

  // body(sequence, span) by all workers.
  template <class Body>
  void for_each_span(const Body& body) const {
    workers_.run(sequences * spans, [&](std::int64_t i) { body(i / spans, i % spans); });
  }

  // body(part) for the chunks of a span, and for what is left behind the last row of the sequence.
  template <class Body>
  void for_each_chunk(std::int64_t span, const Body& body) const {
    for_each_part(span, chunk_rows_, body);
  }
  // The same, the rows of the span as one part.
  template <class Body>
  void for_whole_span(std::int64_t span, const Body& body) const {
    for_each_part(span, span_rows_, body);
  }

  // The channel of number c of a period.
  std::int64_t channel(std::int64_t sequence, std::int64_t c) const {
    return period == 1 ? sequence % channels_ : c;
  }
  // Room for a number a column.
  AlignedVector<S> columns(S value = 0) const {
    return AlignedVector<S>(columns_ + lanes.width, value);
  }
  // of(c) for the number c of a period, for every column.
  template <class Of>
  AlignedVector<S> spread(const Of& of) const {
    auto result = columns();
    for (std::int64_t i = 0; i < columns_; ++i) result[i] = of(i % period);
    return result;
  }

  const VolumeLanes<T>& lanes;
  std::int64_t sequences, period, length;  // length in numbers
  std::int64_t spans;                      // of a sequence

 private:
  static constexpr std::int64_t kChunkNumbers = 8192, kSpanNumbers = 64 * kChunkNumbers;
  static constexpr std::int64_t kMinColumns = 64;
  // Below this many numbers, threads cost more than they bring.
  static constexpr std::int64_t kMinThreadedWork = 1 << 16;

  template <class Body>
  void for_each_part(std::int64_t span, std::int64_t step, const Body& body) const {
    const std::int64_t end = std::min((span + 1) * span_rows_, rows_);
    for (std::int64_t row = span * span_rows_; row < end; row += step) {
      body(Part{row * columns_, static_cast<int>(std::min(step, end - row)),
                static_cast<int>(columns_)});
    }
    const std::int64_t rest = length - rows_ * columns_;
    if (end == rows_ && rest > 0) body(Part{rows_ * columns_, 1, static_cast<int>(rest)});
  }

  Workers workers_;
  std::int64_t channels_, columns_, rows_, chunk_rows_, span_rows_;
};

}  // namespace segmamba::kernels
