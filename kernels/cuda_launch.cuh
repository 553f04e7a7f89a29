#pragma once
// Runs the blocks and items of cuda_blocks.h on the GPU. For .cu files.

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <string>

#include "cuda_blocks.h"
#include "segmamba/core/error.h"

namespace segmamba::kernels {

SEGMAMBA_HD float to_state(Float16 v) {
  __half_raw raw;
  raw.x = v.bits;
  return __half2float(__half(raw));
}
SEGMAMBA_HD void from_state(float v, Float16& to) {
  to.bits = static_cast<__half_raw>(__float2half_rn(v)).x;
}

template <class Block>
__global__ void __launch_bounds__(kBlockThreads) run_block(typename Block::Params p) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<typename Block::Shared*>(memory);
  const Place place{static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y),
                    static_cast<int>(blockIdx.z)};
  const int thread = static_cast<int>(threadIdx.x);
  typename Block::Registers registers;
  Block::begin(p, place, thread, registers);
  const int rounds = Block::rounds(p, place);
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int phase = 0; phase < Block::kPhases; ++phase) {
      Block::phase(p, place, phase, round, thread, registers, shared);
      __syncthreads();
    }
  }
  Block::end(p, place, thread, registers);
}

template <class Item>
__global__ void run_items(typename Item::Params p, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) Item::run(p, i);
}

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(std::string(what) +
              " could not be launched on the GPU: " + cudaGetErrorString(status));
}

class CudaLauncher {
 public:
  // `name` stands in error messages.
  CudaLauncher(const char* name, CudaStream stream) : name_(name), stream_(stream) {}

  template <class Block>
  void blocks(const typename Block::Params& p, const Grid& grid) const {
    constexpr int kUsualLimit = 48 * 1024;
    constexpr int kSize = sizeof(typename Block::Shared);
    if (kSize > kUsualLimit) {
      check_cuda(cudaFuncSetAttribute(run_block<Block>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      kSize),
                 name_);
    }
    const dim3 size(grid.chunks, grid.tiles, grid.sequences);
    run_block<Block><<<size, kBlockThreads, kSize, stream_>>>(p);
    check_cuda(cudaGetLastError(), name_);
  }
  template <class Item>
  void items(const typename Item::Params& p, std::int64_t count) const {
    constexpr int kThreads = 256;
    const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
    run_items<Item><<<blocks, kThreads, 0, stream_>>>(p, count);
    check_cuda(cudaGetLastError(), name_);
  }

 private:
  const char* name_;
  CudaStream stream_;
};

}  // namespace segmamba::kernels
