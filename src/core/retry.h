#pragma once

#include <cerrno>

namespace segmamba {

// What `call` (of the system) gives once no signal interrupts it.
template <class Call>
auto retry_interrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace segmamba
