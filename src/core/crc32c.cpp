#include "crc32c.h"

#include <array>

namespace segmamba {
namespace {

// What a byte that leaves the register adds to it.
constexpr std::array<std::uint32_t, 256> make_table() {
  constexpr std::uint32_t kPolynomial = 0x82f63b78;  // bits reversed, as the register shifts right
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ kPolynomial : value >> 1;
    table[byte] = value;
  }
  return table;
}

constexpr auto kTable = make_table();

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t value = ~0U;
  for (const char byte : bytes) {
    value = value >> 8 ^ kTable[(value ^ static_cast<std::uint8_t>(byte)) & 0xff];
  }
  return ~value;
}

}  // namespace segmamba
