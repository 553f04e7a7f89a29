#pragma once
// Python's pickle, restricted to the data that archive.h describes.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "segmamba/nn/archive.h"

namespace segmamba::nn {

// A storage that the pickle calls `key`.
struct StorageRequest {
  std::string key;
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;
};
// Returns a storage of at least those bytes; called once a key.
using StorageReader = std::function<c10::Storage(const StorageRequest&)>;

// Throws Error for anything but the supported opcodes, objects and nesting depth. No code runs and
// nothing is imported: the objects that are known are built here, from plain data alone. `length`
// gets the number of bytes the pickle takes.
Value unpickle(std::string_view pickle, const StorageReader& read_storage,
               std::size_t* length = nullptr);

}  // namespace segmamba::nn
