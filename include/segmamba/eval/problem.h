#pragma once
// What is wrong with the input of an evaluation, found before anything is scored.

#include <string>

namespace segmamba::eval {

enum class ProblemKind {
  kMissing,      // a reference without a prediction
  kExtra,        // a prediction without a reference
  kDoubled,      // a case with two files
  kUnreadable,   // missing, damaged, not 3-D ...
  kNotIntegers,  // a label image with fractions, or values outside 0 to 255
  kSize,         // prediction and reference have different numbers of voxels
  kGeometry,     // same size, other spacing, origin or direction
  kLabels,       // labels outside the map
};
// "missing", "extra", "doubled", "unreadable", "not-integers", "size", "geometry", "labels".
std::string to_string(ProblemKind kind);

struct Problem {
  ProblemKind kind;
  std::string method;  // "" where it concerns the reference
  std::string case_name;
  std::string text;       // one line: which files, by how much, what to do
  bool prevents_scoring;  // the case has no scores for this method (all methods: method is "")
};

}  // namespace segmamba::eval
