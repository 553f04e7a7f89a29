#pragma once
// Counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011): a number depends on (seed, stream, position) alone, so that work can be
// split over any number of workers and give the same result.

#include <array>
#include <cstdint>
#include <initializer_list>

namespace segmamba {

class Random {
 public:
  // Generators with different (seed, stream) are independent.
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0);
  // A generator named by a path of numbers, e.g. Random::keyed(seed, {epoch, case, purpose}).
  static Random keyed(std::uint64_t seed, std::initializer_list<std::uint64_t> path);

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  // [0, 1), 53 bits.
  double uniform();
  double uniform(double low, double high);
  // Standard normal (Box-Muller).
  double normal();
  // [0, bound), unbiased. bound > 0.
  std::int64_t integer(std::int64_t bound);
  bool chance(double probability) { return uniform() < probability; }

  // For std::shuffle and <random>. Its results differ between standard libraries: use shuffle().
  using result_type = std::uint32_t;
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return 0xffffffffu; }
  result_type operator()() { return next_u32(); }

  // Fisher-Yates, the same on every platform.
  template <class Range>
  void shuffle(Range& range) {
    for (std::int64_t i = static_cast<std::int64_t>(range.size()) - 1; i > 0; --i) {
      std::swap(range[i], range[integer(i + 1)]);
    }
  }

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
  double spare_normal_ = 0;
  bool has_spare_ = false;
};

// One Philox4x32-10 block; the known-answer tests call it.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

}  // namespace segmamba
