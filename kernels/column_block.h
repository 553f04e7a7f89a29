#pragma once

namespace segmamba::kernels {

// The right-hand side of a matrix product lies in blocks of this many columns, one after another,
// [blocks, rows, kColumnBlock]: one, two or four vectors of any instruction set.
inline constexpr int kColumnBlock = 16;

}  // namespace segmamba::kernels
