#pragma once
// Networks whose numbers nobody reads, without the time and memory that these would take.

#include <torch/library.h>
#include <torch/torch.h>

namespace segmamba::test {

// As long as it lives, the tensors that the calling thread makes are of the meta device: they have
// a shape and a type alone. LibTorch has no such switch in C++.
class OnMetaDevice {
 public:
  OnMetaDevice() {
    rest_.fallback(torch::CppFunction::makeFallthrough());
    factories_.impl("empty.memory_format", empty);
  }

 private:
  static constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

  static torch::Tensor empty(c10::SymIntArrayRef sizes, std::optional<torch::ScalarType> type,
                             std::optional<torch::Layout> layout, std::optional<torch::Device>,
                             std::optional<bool> pin_memory,
                             std::optional<torch::MemoryFormat> format) {
    const c10::impl::ExcludeDispatchKeyGuard own_kernel(kKey);
    return at::empty_symint(sizes, type, layout, torch::kMeta, pin_memory, format);
  }

  torch::Library rest_{torch::Library::IMPL, "_", kKey, __FILE__, __LINE__};
  torch::Library factories_{torch::Library::IMPL, "aten", kKey, __FILE__, __LINE__};
  c10::impl::IncludeDispatchKeyGuard include_{kKey};
};

}  // namespace segmamba::test
