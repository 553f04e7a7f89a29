#pragma once
// Networks whose numbers nobody reads, without the time and memory that these would take.

#include <torch/torch.h>

#include <optional>

namespace segmamba::nn {

// As long as it lives, the tensors that the calling thread makes are of the meta device: they have
// a shape and a type alone. LibTorch has no such switch in C++.
class OnMetaDevice {
 public:
  OnMetaDevice();

 private:
  std::optional<c10::impl::IncludeDispatchKeyGuard> include_;
};

}  // namespace segmamba::nn
