#pragma once
// What label 4 means: for BraTS before 2023 the enhancing tumour, for BraTS-GLI 2024 the resection
// cavity, elsewhere just a label.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "segmamba/eval/evaluate.h"

namespace segmamba::eval {

// Voxels of each label of a file.
using LabelCounts = std::array<std::int64_t, 256>;
LabelCounts count_labels(std::span<const std::uint8_t> labels);

// True where `convention` takes label 4 as it stands, whatever a file holds.
bool keeps_label_four(const EvaluateOptions& options, const metrics::Convention& convention);

// True where label 4 becomes 3 in a file with these labels, for conventions that do not keep it.
bool reads_four_as_three(LabelFour rule, const LabelCounts& counts);
void read_four_as_three(std::vector<std::uint8_t>& labels);

// What to tell about label 4 of such a file; "" where there is nothing to tell.
std::string label_four_notice(const EvaluateOptions& options, const LabelCounts& counts);

}  // namespace segmamba::eval
