#pragma once
// Convolution with 3^3 taps, stride 1 and zero padding 1 by Winograd's filtering F(2, 3) along each
// axis (Lavin and Gray, arXiv 1509.09308): 2^3 outputs of a channel pair take 4^3 products instead
// of 6^3, with float's rounding. For inference on the CPU. T: float, double, BFloat16, Float16;
// products and sums have the type State<T>.

#include <cstddef>
#include <cstdint>

#include "column_block.h"
#include "segmamba/core/parallel.h"
#include "selective_scan.h"

namespace segmamba::kernels {

// Weights [out, in, 3, 3, 3] become [4^3, blocks, in, kColumnBlock], filled up with zeros.
std::size_t winograd_weight_count(std::int64_t in_channels, std::int64_t out_channels);
template <class S>
void transform_winograd_weight(const S* weight, std::int64_t in_channels, std::int64_t out_channels,
                               S* transformed);

template <class T>
struct Winograd {
  std::int64_t batch, depth, height, width;
  std::int64_t in_channels, out_channels;
  const T* x;              // [batch, depth, height, width, in_channels]
  const State<T>* weight;  // transformed
  const State<T>* bias;    // [out_channels], or nullptr
  T* out;                  // [batch, depth, height, width, out_channels]
};

// Results do not depend on the number of threads.
template <class T>
void winograd_convolution_cpu(const Winograd<T>& convolution, const Workers& workers);

}  // namespace segmamba::kernels
