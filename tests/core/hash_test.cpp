#include "segmamba/core/hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace segmamba {
namespace {

Hash128 hash_of(const std::string& text) { return hash_bytes(text.data(), text.size()); }

TEST(HashTest, IsXxh128) {
  // From `xxh128sum` 0.8.1.
  EXPECT_EQ(hash_of("").to_string(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_of("segmamba").to_string(), "b51a3010eadcffdf22fe1d212133c2e0");
}

TEST(HashTest, EveryBitCounts) {
  std::set<Hash128> seen;
  std::string text(300, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      seen.insert(hash_of(changed));
    }
  }
  EXPECT_EQ(seen.size(), 8 * text.size());
}

}  // namespace
}  // namespace segmamba
