#pragma once
// Hashes of content (XXH3 of https://xxhash.com): fast, the same on every machine, not secure
// against someone who wants two contents to agree.

#include <cstddef>
#include <cstdint>
#include <string>

namespace segmamba {

struct Hash128 {
  std::uint64_t high = 0, low = 0;

  bool operator==(const Hash128&) const = default;
  bool operator<(const Hash128& other) const {
    return high != other.high ? high < other.high : low < other.low;
  }
  // 32 hexadecimal digits, as `xxh128sum` prints them.
  std::string to_string() const;
};

// Contents of equal hash may be taken as equal: among 10^9 of them two differ with equal hashes
// with a chance of 10^-21.
Hash128 hash_bytes(const void* bytes, std::size_t count);

}  // namespace segmamba
