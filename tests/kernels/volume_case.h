#pragma once
// What the tests of kernels over volumes share.

#include <gtest/gtest.h>

#include <functional>
#include <type_traits>

#include "kernels/scan_case.h"
#include "volume_lanes.h"

namespace segmamba::testing {

inline void on_every_instruction_set(const std::function<void()>& check) {
  using kernels::InstructionSet;
  const auto before = kernels::instruction_set();
  for (const auto set :
       {InstructionSet::kBaseline, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (!kernels::set_instruction_set(set)) continue;
    SCOPED_TRACE(kernels::volume_lanes<float>().name);
    check();
  }
  kernels::set_instruction_set(before);
}

template <class T>
class Volumes : public ::testing::Test {
 public:
  // Numbers that every type holds.
  static AlignedVector<T> data(std::size_t count, Random& random) {
    return convert<T>(convert<kernels::BFloat16>(random_numbers(count, 2, 0.5, random)));
  }
  // Allowed difference of a result of size about 1.
  static double tolerance(double of_float) {
    if (std::is_same_v<T, double>) return 1e-12;
    return std::is_same_v<T, kernels::BFloat16>  ? 2e-2
           : std::is_same_v<T, kernels::Float16> ? 2e-3
                                                 : of_float;
  }
};
using VolumeTypes = ::testing::Types<float, double, kernels::BFloat16, kernels::Float16>;

}  // namespace segmamba::testing
