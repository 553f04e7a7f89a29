#pragma once

#include <cstddef>
#include <cstdint>

namespace segmamba {

// Asks for huge pages (2 MB instead of 4 KB on x86) in fresh memory that will be written whole and
// walked in long strides: fewer faults on the first touch, fewer misses of the TLB. Does nothing
// below 4 MB and where the system has none to give.
void prefer_huge_pages(void* memory, std::size_t bytes);

// Freed memory stays with the process, to be taken again, instead of going back to the system page
// by page: a network frees and takes the same gigabytes in every pass. For programs to call once at
// their start; the most that they hold grows by the gaps between blocks. Does nothing but with
// glibc's malloc.
void keep_freed_memory();

// The most that the control group of this process (of a container, of a job) may hold in memory, in
// bytes, all its processes together; UINT64_MAX, or what the system takes for none, where it has no
// limit.
std::uint64_t group_memory_limit();

// The most that a process could still take, in bytes: what the machine has free or could free, with
// its swap space, and no more than the control group (of a container, of a job) may have at all.
// UINT64_MAX where the system does not say. A process that takes more is ended by the system, and
// no exception tells it.
std::uint64_t available_memory();

// The most that a process could take if no other had any: the machine's with its swap space, and no
// more than the control group may have. UINT64_MAX where the system does not say.
std::uint64_t total_memory();

// Memory of this process that is resident, its libraries with it, in bytes; 0 where the system does
// not say. (What getrusage() tells counts the process from which this one was forked, too.)
struct ResidentMemory {
  std::uint64_t now = 0;
  std::uint64_t peak = 0;  // since its program began, or since restart_peak_memory()
};
ResidentMemory resident_memory();

// Gives back what the process does not need, and has the peak count anew from there, whose bytes it
// returns.
std::uint64_t restart_peak_memory();

// Throws std::bad_alloc where `code`, an errno, says that memory is short: as an Error that would
// pass for a fault of the file at hand.
void refuse_short_memory(int code);

}  // namespace segmamba
