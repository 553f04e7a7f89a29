#pragma once
// Inputs of 1 MB that make much of few bytes.

#include <cstddef>
#include <string>
#include <vector>

namespace segmamba::fuzz {

// Ways to write a number.
std::string in_decimal(std::size_t number);
std::string in_six_digits(std::size_t number);
std::string in_four_bytes(std::size_t number);  // the highest first

// A beginning, something again and again, where # is a number that goes up, and an end.
struct Heavy {
  static constexpr std::size_t kBytes = std::size_t{1} << 20;

  std::string reader, begin, unit, end;
  std::string (*number)(std::size_t) = in_decimal;

  std::string input() const;
};

// At least one for each reader.
const std::vector<Heavy>& heavy_inputs();
// Those among them for readers of NIfTI and DICOM.
std::vector<Heavy> heavy_volumes();

}  // namespace segmamba::fuzz
