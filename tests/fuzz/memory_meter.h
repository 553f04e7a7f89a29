#pragma once
// How much memory this process takes from malloc, by every library in it.

#include <cstddef>

namespace segmamba::fuzz {

class MemoryMeter {
 public:
  MemoryMeter();
  // The most that was held at once since the meter was made, beyond what was held then.
  std::size_t peak_bytes() const;

 private:
  long long before_ = 0;
};

}  // namespace segmamba::fuzz
