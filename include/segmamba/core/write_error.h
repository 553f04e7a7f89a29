#pragma once

#include <string>

#include "segmamba/core/error.h"

namespace segmamba {

// What could not be written: a full disk, a read-only folder. It is no fault of the case at hand,
// so that going on with the next one would be in vain.
class WriteError : public Error {
 public:
  explicit WriteError(const std::string& message) : Error(message) {}
};

}  // namespace segmamba
