#pragma once
// Runs side by side, for a terminal. Torch-free.

#include <filesystem>
#include <string>
#include <vector>

namespace segmamba::engine {

// Two tables with a column a run, aligned and readable as Markdown: what came out (iterations, best
// and last scores, loss, speed, time, device, version), and the config keys in which the runs
// differ; of one run, the keys that differ from the defaults of this version. Runs may still be
// going on or be of another version: keys are compared as text, and "-" stands for what a run does
// not say. Throws Error naming a folder that is no run's, or a file of it that is damaged.
std::string compare_runs(const std::vector<std::filesystem::path>& folders);

}  // namespace segmamba::engine
