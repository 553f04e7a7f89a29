#pragma once
// Runs the kernels and items of cuda_blocks.h on the GPU. For .cu files.

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

template <class Kernel>
class DeviceBlock {
 public:
  using Registers = typename Kernel::Registers;

  __device__ DeviceBlock(Registers& registers, typename Kernel::Shared& shared)
      : registers_(registers), shared_(shared) {}
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ typename Kernel::Shared& shared() { return shared_; }

  template <class Body>
  __device__ __forceinline__ void each(const Body& body) {
    body(static_cast<int>(threadIdx.x), registers_);
    __syncthreads();
  }
  template <class Body>
  __device__ __forceinline__ void each_alone(const Body& body) {
    body(static_cast<int>(threadIdx.x), registers_);
  }
  template <class Body>
  __device__ __forceinline__ void each_warp(const Body& body) {
    body(static_cast<int>(threadIdx.x), registers_);
    __syncwarp();
  }

 private:
  Registers& registers_;
  typename Kernel::Shared& shared_;
};

// The bytes of shared memory stand in the kernel's name for scripts/kernel_report.py.
template <class Kernel, int kSharedBytes = sizeof(typename Kernel::Shared)>
__global__ void __launch_bounds__(Kernel::kMaxThreads, Kernel::kMinBlocks)
    run_kernel(const __grid_constant__ typename Kernel::Params p, const Grid grid) {
  extern __shared__ __align__(32) unsigned char memory[];
  typename Kernel::Registers registers;
  DeviceBlock<Kernel> block(registers, *reinterpret_cast<typename Kernel::Shared*>(memory));
  Kernel::run(p, grid.place(blockIdx.x), block);
}

inline constexpr int kItemRows = 8;

template <class Item>
__global__ void __launch_bounds__(kWarp* kItemRows)
    run_items(const __grid_constant__ typename Item::Params p, std::int64_t rows, int columns) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kItemRows + threadIdx.y;
  if (row >= rows) return;
  for (int column = static_cast<int>(blockIdx.y * kWarp + threadIdx.x); column < columns;
       column += static_cast<int>(gridDim.y) * kWarp) {
    Item::run(p, row, column);
  }
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

  template <class Kernel>
  void blocks(const typename Kernel::Params& p, const Grid& grid) const {
    constexpr int kUsualLimit = 48 * 1024;
    constexpr int kSize = sizeof(typename Kernel::Shared);
    if (kSize > kUsualLimit) {
      check_shared_memory(kSize);
      check_cuda(cudaFuncSetAttribute(run_kernel<Kernel>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, kSize),
                 name_);
    }
    run_kernel<Kernel><<<count(grid.blocks()), grid.threads, kSize, stream_>>>(p, grid);
    check_cuda(cudaGetLastError(), name_);
  }
  template <class Item>
  void items(const typename Item::Params& p, std::int64_t rows, int columns) const {
    // Where rows are too few to fill a GPU, each warp takes a part of one.
    constexpr std::int64_t kFewRows = 1 << 14;
    const int parts = rows < kFewRows ? (columns + kWarp - 1) / kWarp : 1;
    const dim3 blocks(count((rows + kItemRows - 1) / kItemRows), static_cast<unsigned>(parts));
    run_items<Item><<<blocks, dim3(kWarp, kItemRows), 0, stream_>>>(p, rows, columns);
    check_cuda(cudaGetLastError(), name_);
  }

 private:
  void check_shared_memory(int bytes) const {
    int device = 0, available = 0;
    check_cuda(cudaGetDevice(&device), "the query for the device");
    check_cuda(cudaDeviceGetAttribute(&available, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
               "the query for the device");
    if (bytes <= available) return;
    throw Error(std::string(name_) + " needs " + std::to_string(bytes) +
                " bytes of shared memory a block, this GPU has " + std::to_string(available) +
                ": it takes compute capability 8.0 or newer");
  }
  unsigned count(std::int64_t blocks) const {
    if (blocks > 0x7fffffff) {
      throw Error(std::string(name_) + " needs " + std::to_string(blocks) +
                  " blocks on the GPU, more than the 2147483647 of one launch: split the batch");
    }
    return static_cast<unsigned>(blocks);
  }

  const char* name_;
  CudaStream stream_;
};

// "Compute capability" of the current device as one number: 90 for 9.0.
inline int current_architecture() {
  int device = 0, major = 0, minor = 0;
  check_cuda(cudaGetDevice(&device), "the query for the device");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
             "the query for the device");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
             "the query for the device");
  return 10 * major + minor;
}

}  // namespace segmamba::kernels
