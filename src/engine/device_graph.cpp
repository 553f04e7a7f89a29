#include "segmamba/engine/device_graph.h"

#include <ATen/DeviceAccelerator.h>

#include "segmamba/core/error.h"

#ifdef SEGMAMBA_WITH_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace segmamba::engine {

#ifdef SEGMAMBA_WITH_CUDA

struct DeviceGraph::Impl {
  at::cuda::CUDAGraph graph;
};

DeviceGraph::DeviceGraph(const c10::Device& device, const std::function<void()>& work,
                         const DeviceGraph* other) {
  if (!device.is_cuda()) throw Error("only work on a GPU can be recorded, not on " + device.str());
  impl_ = std::make_unique<Impl>();
  at::accelerator::synchronizeDevice(device.index());
  // The memory that the work took so far is not the graph's: it would be taken twice.
  at::accelerator::emptyCache();
  auto& graph = impl_->graph;
  const c10::cuda::CUDAStreamGuard stream(
      c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index()));
  const bool shares = other != nullptr && *other;
  // Other threads load batches meanwhile, which takes pinned memory.
  graph.capture_begin(shares ? other->impl_->graph.pool() : c10::MempoolId_t{0, 0},
                      cudaStreamCaptureModeThreadLocal);
  try {
    work();
  } catch (...) {
    // The recording has to end; that it fails, too, says nothing new.
    try {
      graph.capture_end();
    } catch (const std::exception&) {
    }
    throw;
  }
  graph.capture_end();
}

void DeviceGraph::replay() { impl_->graph.replay(); }

#else

struct DeviceGraph::Impl {};

DeviceGraph::DeviceGraph(const c10::Device& device, const std::function<void()>&,
                         const DeviceGraph*) {
  throw Error("only work on a GPU can be recorded, not on " + device.str());
}

void DeviceGraph::replay() {}

#endif

DeviceGraph::DeviceGraph() noexcept = default;
DeviceGraph::DeviceGraph(DeviceGraph&&) noexcept = default;
DeviceGraph& DeviceGraph::operator=(DeviceGraph&&) noexcept = default;
DeviceGraph::~DeviceGraph() = default;

}  // namespace segmamba::engine
