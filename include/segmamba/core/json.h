#pragma once
// JSON values (nlohmann-json) with this project's number format and errors.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace segmamba {

using Json = nlohmann::ordered_json;

// Throws Error naming `origin` and the position, or that the text is nested deeper than 64 or has
// an object of more than 20,000 keys.
Json parse_json(const std::string& text, const std::string& origin);
Json read_json(const std::filesystem::path& path);
// Indented by two; bytes that are not UTF-8 become U+FFFD. Numbers that may be NaN or infinite go
// through json_number, else they become null. Atomic. Throws Error.
void write_json(const std::filesystem::path& path, const Json& value);
// A number, or "nan", "inf", "-inf" as a string, which JSON has no numbers for.
Json json_number(double value);

}  // namespace segmamba
