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
// In one line, or indented by so many. JSON is UTF-8, which the name of a file need not be: bytes
// that are not become U+FFFD. Numbers that may be NaN or infinite go through json_number, else they
// become null.
std::string json_text(const Json& value, int indent = -1);
// `text` as it comes back from there, to be compared with what was read.
std::string utf8_text(const std::string& text);
// The text, indented by two. Atomic. Throws Error.
void write_json(const std::filesystem::path& path, const Json& value);
// A number, or "nan", "inf", "-inf" as a string, which JSON has no numbers for.
Json json_number(double value);

}  // namespace segmamba
