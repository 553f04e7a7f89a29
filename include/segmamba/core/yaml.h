#pragma once
// YAML as text, for programs that show or compare files of other versions, whose keys no struct of
// this version lists. core/config.h reads files into structs.

#include <string>
#include <utility>
#include <vector>

namespace segmamba {

// Every value of nested mappings as ("section.key", value), in the order of the file; a list is
// "[a, b]", nothing is "". Throws Error "ORIGIN:LINE: ..." where the text is no YAML mapping or is
// nested too deep.
std::vector<std::pair<std::string, std::string>> yaml_values(const std::string& text,
                                                             const std::string& origin);

}  // namespace segmamba
