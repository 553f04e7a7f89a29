#include "whole.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <utility>
#include <vector>

#include "io/dicom_bytes.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/core/yaml.h"
#include "segmamba/data/cache.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/run_history.h"
#include "segmamba/io/volume.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/weights.h"

namespace segmamba::test {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return starts_with(path.filename().string(), "."); }

void read_lines_of_json(const fs::path& path) {
  auto lines = split(read_file(path), '\n');
  lines.pop_back();  // the row that is being written, or nothing
  for (const auto& line : lines) parse_json(line, path.string());
}

void read_page(const fs::path& path) {
  if (!ends_with(read_file(path), "</html>\n")) throw Error(path.string() + ": has no end");
}

void read_picture(const fs::path& path) {
  const std::string end("\0\0\0\0IEND\xae\x42\x60\x82", 12);
  if (!ends_with(read_file(path), end)) throw Error(path.string() + ": has no end");
}

void read_archive(const fs::path& path) {
  if (path.parent_path().filename() == "checkpoints") {
    engine::load_checkpoint(path);
  } else {
    nn::read_archive(path);
  }
}

void read_table(const fs::path& path) {
  if (path.filename() == "metrics.csv") {
    engine::read_history(path);
  } else {
    parse_csv(read_file(path), path.string());
  }
}

void read_dicom_file(const fs::path& path) {
  if (DicomBytes(path).at(tag::kPixels).value.empty()) throw Error(path.string() + ": is empty");
}

using Read = std::function<void(const fs::path&)>;

// By the end of its name. Of others nothing can be half: text for people, TensorBoard's records.
const std::vector<std::pair<std::string, Read>>& readers() {
  static const std::vector<std::pair<std::string, Read>> all = {
      {".pt", read_archive},
      {".safetensors", [](const fs::path& path) { nn::read_safetensors(path); }},
      {".nii.gz", [](const fs::path& path) { io::read_images(path); }},
      {".case", [](const fs::path& path) { data::map_prepared(path); }},
      {".dcm", read_dicom_file},
      {".json", [](const fs::path& path) { read_json(path); }},
      {".jsonl", read_lines_of_json},
      {".csv", read_table},
      {".yaml", [](const fs::path& path) { yaml_values(read_file(path), path.string()); }},
      {".html", read_page},
      {".png", read_picture}};
  return all;
}

// The rows without their times.
std::string steps_of(const fs::path& path) {
  const auto table = parse_csv(read_file(path), path.string());
  std::string text;
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.fields.size(); ++i) {
      if (!ends_with(table.header.fields[i], "seconds")) text += row.fields[i] + ",";
    }
    text += "\n";
  }
  return text;
}

std::string format_rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", value);
  return text;
}

// The volumes of a table, in five digits.
std::string volumes_of(const fs::path& path) {
  std::string text;
  for (const auto& row : parse_csv(read_file(path), path.string()).rows) {
    text += concat(row.fields.at(0), ",", row.fields.at(1), ",",
                   format_rounded(std::stod(row.fields.at(2))), "\n");
  }
  return text;
}

// Without what says when, how and in how many goes it came about.
// Numbers have five digits: a label map holds its spacing as floats.
Json without_history(Json value) {
  if (value.is_number_float()) return format_rounded(value.get<double>());
  for (const char* key : {"seconds", "command", "state", "summary", "starts", "modified"}) {
    if (value.is_object()) value.erase(key);
  }
  if (value.is_structured()) {
    for (auto& item : value) item = without_history(item);
  }
  return value;
}

std::string content_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name == "metrics.csv") return steps_of(path);
  if (name == "volumes.csv") return volumes_of(path);
  if (ends_with(name, ".json")) return without_history(read_json(path)).dump();
  if (ends_with(name, ".dcm")) return DicomBytes(path).at(tag::kPixels).value;
  for (const char* of_its_time : {".html", ".jsonl", ".log"}) {
    if (ends_with(name, of_its_time)) return "";
  }
  const auto bytes = read_file(path);
  return hash_bytes(bytes.data(), bytes.size()).to_string();
}

}  // namespace

void read_whole(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || is_hidden(entry.path())) continue;
    for (const auto& [suffix, read] : readers()) {
      if (ends_with(entry.path().string(), suffix)) read(entry.path());
    }
  }
}

std::map<std::string, std::string> contents(const fs::path& folder, Hidden hidden) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    if (hidden == Hidden::kIsLeftOut && is_hidden(entry.path())) continue;
    const auto name = fs::relative(entry.path(), folder).string();
    if (starts_with(name, "tensorboard/")) {
      all["tensorboard"] = "";
    } else {
      all[name] = content_of(entry.path());
    }
  }
  return all;
}

std::string difference(const std::map<std::string, std::string>& found,
                       const std::map<std::string, std::string>& expected) {
  std::vector<std::string> names;
  for (const auto& [name, content] : expected) {
    const auto own = found.find(name);
    if (own == found.end()) {
      names.push_back("no " + name);
    } else if (own->second != content) {
      names.push_back("another " + name);
    }
  }
  for (const auto& [name, content] : found) {
    if (!expected.contains(name)) names.push_back("more: " + name);
  }
  return join(names, ", ");
}

}  // namespace segmamba::test
