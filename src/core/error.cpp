#include "segmamba/core/error.h"

#include "segmamba/core/text.h"

namespace segmamba {
namespace {

constexpr std::size_t kMaxMessageBytes = 4000;

}  // namespace

Error::Error(const std::string& message)
    : std::runtime_error(printable(message, kMaxMessageBytes)) {}

}  // namespace segmamba
