#pragma once
// JSON values (nlohmann-json) with this project's number format and errors.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace segmamba {

using Json = nlohmann::ordered_json;

// Throws Error naming `origin` and the position.
Json parse_json(const std::string& text, const std::string& origin);
Json read_json(const std::filesystem::path& path);
// Indented by two; NaN and infinities as the strings "nan", "inf", "-inf". Atomic.
void write_json(const std::filesystem::path& path, const Json& value);
// A number, or its name as a string where JSON has none.
Json json_number(double value);

}  // namespace segmamba
