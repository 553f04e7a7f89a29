#pragma once
// Text of a command line to the options of an evaluation. All throw UsageError.

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
// Names of BraTS regions and tissues, or "NAME=1+2". Default: WT, TC, ET.
std::vector<metrics::Region> parse_regions(const std::vector<std::string>& lists);
// "auto", "et" or "keep".
LabelFour parse_label_four(const std::string& text);

}  // namespace segmamba::eval
