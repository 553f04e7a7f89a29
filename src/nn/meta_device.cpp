#include "meta_device.h"

#include <torch/library.h>

namespace segmamba::nn {
namespace {

// A key that LibTorch keeps for such purposes: no tensor has it, and threads take it on for a
// while.
constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

torch::Tensor empty(c10::SymIntArrayRef sizes, std::optional<torch::ScalarType> type,
                    std::optional<torch::Layout> layout, std::optional<torch::Device>,
                    std::optional<bool> pin_memory, std::optional<torch::MemoryFormat> format) {
  const c10::impl::ExcludeDispatchKeyGuard own_kernel(kKey);
  return at::empty_symint(sizes, type, layout, torch::kMeta, pin_memory, format);
}

// Every tensor begins as one of empty(); other operators pass the key by.
struct Kernels {
  torch::Library rest{torch::Library::IMPL, "_", kKey, __FILE__, __LINE__};
  torch::Library factories{torch::Library::IMPL, "aten", kKey, __FILE__, __LINE__};

  Kernels() {
    rest.fallback(torch::CppFunction::makeFallthrough());
    factories.impl("empty.memory_format", empty);
  }
};

}  // namespace

OnMetaDevice::OnMetaDevice() {
  static const Kernels kernels;
  include_.emplace(kKey);
}

}  // namespace segmamba::nn
