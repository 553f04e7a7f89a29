#pragma once

#include <cstddef>

namespace segmamba {

// Asks for huge pages (2 MB instead of 4 KB on x86) in fresh memory that will be written whole and
// walked in long strides: fewer faults on the first touch, fewer misses of the TLB. Does nothing
// below 4 MB and where the system has none to give.
void prefer_huge_pages(void* memory, std::size_t bytes);

}  // namespace segmamba
