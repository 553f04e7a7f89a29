#pragma once
// YAML texts that cannot be trusted (over yaml-cpp).

#include <yaml-cpp/yaml.h>

#include <string>

namespace segmamba {

// Throws Error "ORIGIN:LINE: ..." where the text is no YAML, is nested deeper than 64, or holds
// more than 100,000 values and one for each 16 bytes of the text: a node of yaml-cpp takes some
// hundreds of bytes, and a value two of the text. Aliases make a graph larger than its text all the
// same, even endless.
YAML::Node load_yaml(const std::string& text, const std::string& origin);

}  // namespace segmamba
