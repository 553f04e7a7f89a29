#pragma once
// The path of a scan through tokens that stay where they are: an index map, nothing is copied.

#include <cstdint>

#if defined(__CUDACC__)
#define SEGMAMBA_HD __host__ __device__ __forceinline__
// Loops that index registers must vanish in device code; host compilers decide for themselves.
#define SEGMAMBA_UNROLL _Pragma("unroll")
#define SEGMAMBA_UNROLL_TWO _Pragma("unroll 2")
#define SEGMAMBA_UNROLL_NONE _Pragma("unroll 1")
#else
#define SEGMAMBA_HD inline __attribute__((always_inline))
#define SEGMAMBA_UNROLL
#define SEGMAMBA_UNROLL_TWO
#define SEGMAMBA_UNROLL_NONE
#endif

namespace segmamba::kernels {

SEGMAMBA_HD int divide_up(std::int64_t a, std::int64_t b) {
  return static_cast<int>((a + b - 1) / b);
}

// Step t = (i0 * extent[1] + i1) * extent[2] + i2 visits token
//   i0 * stride[0] + i1 * stride[1] + i2 * stride[2];
// `reversed` walks the same path from its end. The path must visit every token of [0, length) once.
struct ScanMap {
  std::int32_t extent[3];
  std::int32_t stride[3];
  std::int32_t length;
  bool reversed;

  SEGMAMBA_HD std::int32_t token(std::int32_t step) const {
    if (reversed) step = length - 1 - step;
    const std::int32_t rest = step / extent[2];
    const std::int32_t i2 = step - rest * extent[2];
    const std::int32_t i0 = rest / extent[1];
    const std::int32_t i1 = rest - i0 * extent[1];
    return i0 * stride[0] + i1 * stride[1] + i2 * stride[2];
  }
  // The step that visits `token`. Strides of a path that visits every token once are products of
  // extents, so each index is a digit of the token.
  SEGMAMBA_HD std::int32_t step(std::int32_t token) const {
    std::int32_t at = 0;
    for (int i = 0; i < 3; ++i) {
      at *= extent[i];
      if (extent[i] > 1) at += token / stride[i] % extent[i];
    }
    return reversed ? length - 1 - at : at;
  }
};

// Rows of channels (or of states): element c of token l of batch item b of direction k lies at
// data[k * direction + b * batch + l * token + c]. The memory belongs to the caller.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t direction = 0;
  std::int64_t batch = 0;
  std::int32_t token = 0;

  SEGMAMBA_HD T* row(std::int64_t k, std::int64_t b, std::int64_t l) const {
    return data + k * direction + b * batch + l * token;
  }
};

// Directions in one launch; the maps travel to the GPU as kernel arguments.
inline constexpr int kMaxDirections = 32;

}  // namespace segmamba::kernels
