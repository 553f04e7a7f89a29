#pragma once
// Text of a command line to the options of an evaluation. All throw UsageError.

#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/eval/evaluate.h"

namespace segmamba::eval {

// {"a,b", "c"} is {"a", "b", "c"}.
std::vector<std::string> split_lists(const std::vector<std::string>& lists);
// "segmamba, medpy, ..."
std::string convention_names();
// Default: segmamba. "all" stands for every convention.
std::vector<metrics::Convention> parse_conventions(const std::vector<std::string>& lists);
// "DIR" (method "prediction"; with several of them the folders' names) or "NAME=DIR".
std::vector<Method> parse_methods(const std::vector<std::string>& texts);
// Names of BraTS regions and tissues, or "NAME=1+2"; or "labels" alone; or one YAML file. Default:
// WT, TC, ET.
RegionSet parse_regions(const std::vector<std::string>& lists);
// A file with the keys
//   regions: {liver: [1, 2], tumour: [2]}   each the labels that are scored as one mask
//   labels: [1, 2, 3]                       optional: all labels that may occur beside 0
// Throws Error naming file and line.
RegionSet read_regions(const std::filesystem::path& path);
// Adds to each convention the metrics of `lists` that it does not have by itself (general metrics;
// "all" stands for every one), and returns the names to keep; empty keeps all.
std::vector<std::string> parse_metrics(const std::vector<std::string>& lists,
                                       std::vector<metrics::Convention>& conventions);
// "auto", "et" or "keep".
LabelFour parse_label_four(const std::string& text);

}  // namespace segmamba::eval
