#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace segmamba::engine {

// Work on a GPU that is recorded once and then started as a whole (a CUDA graph), which spares the
// processor the launch of each kernel. What it reads and writes are the tensors of the recording:
// new data is copied into them. Tensors that it made stay valid until the graph is gone, and hold
// the results of the last replay(). Random numbers follow the seed and go on from replay to replay.
class DeviceGraph {
 public:
  DeviceGraph() noexcept;  // of no work
  // Calls `work` once, on this thread, without computing anything: replay() does. Work must have
  // run before, so that libraries have set themselves up; it must not wait for the device, nor copy
  // from ordinary memory to it. What its memory can be is given back to the device first. Graphs
  // that share their memory with an `other` must not be replayed while results of it are needed.
  // Throws what `work` throws; Error where the device is no GPU.
  DeviceGraph(const c10::Device& device, const std::function<void()>& work,
              const DeviceGraph* other = nullptr);
  DeviceGraph(DeviceGraph&&) noexcept;
  DeviceGraph& operator=(DeviceGraph&&) noexcept;
  ~DeviceGraph();

  explicit operator bool() const { return impl_ != nullptr; }
  // On the thread's current stream.
  void replay();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace segmamba::engine
