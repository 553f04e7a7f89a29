#pragma once
// Thresholds that are worth trying.

#include <vector>

namespace segmamba::eval {

// Numbers between neighbours of the values that occur, ascending: above 12 of their quantiles and
// in the 12 gaps that are widest by ratio. Each is the shortest decimal near the middle of its gap.
// Values are above 0.
std::vector<double> volume_steps(std::vector<double> volumes);

}  // namespace segmamba::eval
