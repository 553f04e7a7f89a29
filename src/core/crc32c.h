#pragma once

#include <cstdint>
#include <string_view>

namespace segmamba {

// The checksum of RFC 3720 (Castagnoli's polynomial), as record files of TensorFlow carry it.
std::uint32_t crc32c(std::string_view bytes);

}  // namespace segmamba
