#include "segmamba/engine/device.h"

#include <torch/torch.h>

#include "segmamba/core/error.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {

c10::Device select_device(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  if (name == "auto") return torch::cuda::is_available() ? torch::kCUDA : torch::kCPU;
  if (name == "cuda" || starts_with(name, "cuda:")) {
    if (!torch::cuda::is_available()) {
      throw Error("--device " + name + ": there is no usable NVIDIA GPU; take cpu or auto");
    }
    const std::string index = name == "cuda" ? "0" : name.substr(5);
    const bool is_number = !index.empty() && index.size() < 4 &&
                           index.find_first_not_of("0123456789") == std::string::npos;
    if (is_number && std::stoi(index) < static_cast<int>(torch::cuda::device_count())) {
      return {torch::kCUDA, static_cast<c10::DeviceIndex>(std::stoi(index))};
    }
    throw Error(concat("--device ", name, ": there are ", torch::cuda::device_count(),
                       " GPUs, counted from 0"));
  }
  throw UsageError("--device " + name + ": expected auto, cpu, cuda or cuda:N");
}

void set_compute_threads(std::int64_t count) {
  if (count > 0) set_thread_count(static_cast<int>(count));
  at::set_num_threads(thread_count());
}

}  // namespace segmamba::engine
