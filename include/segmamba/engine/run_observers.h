#pragma once

#include <memory>
#include <vector>

#include "segmamba/engine/observer.h"
#include "segmamba/engine/run_folder.h"

namespace segmamba::engine {

// What segmamba-train tells of a run: to the terminal and the log, metrics.csv, events.jsonl,
// TensorBoard and report.html. Throws Error where a file cannot be opened.
std::vector<std::unique_ptr<Observer>> run_observers(const RunFolder& run);

}  // namespace segmamba::engine
