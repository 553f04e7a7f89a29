#pragma once
// YAML texts that cannot be trusted (over yaml-cpp).

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <string>

namespace segmamba {

inline constexpr std::size_t kMaxYamlValues = 100'000;

// Throws Error "ORIGIN:LINE: ..." where the text is no YAML, is nested deeper than 64, or holds
// more than kMaxYamlValues values and one for each 16 bytes of the text: a node of yaml-cpp takes
// some hundreds of bytes, and a value two of the text. Aliases make a graph larger than its text
// all the same, even endless.
YAML::Node load_yaml(const std::string& text, const std::string& origin);

// The same for one of several texts that are kept together, in place of kMaxYamlValues with
// `values_left` of it, which is counted down.
YAML::Node load_yaml(const std::string& text, const std::string& origin, std::size_t& values_left);

}  // namespace segmamba
