#pragma once
// Python's pickle, restricted to the data that archive.h describes.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "segmamba/nn/archive.h"

namespace segmamba::nn {

// Reads at least `bytes` bytes of the storage that the pickle calls `key`.
using StorageReader = std::function<c10::Storage(const std::string& key, std::uint64_t bytes)>;

// Throws Error for anything but the supported opcodes, objects and nesting depth.
Value unpickle(std::string_view pickle, const StorageReader& read_storage);

}  // namespace segmamba::nn
