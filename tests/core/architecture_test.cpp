// Holds the includes of every file to the picture in docs/architecture.md: a call goes down.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "segmamba/core/text.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

// The rooms that each room may include, itself aside.
const std::map<std::string, std::set<std::string>> kMayUse = {
    {"core", {}},
    {"kernels", {"core"}},
    {"io", {"core"}},
    {"metrics", {"core"}},
    {"eval", {"core", "metrics", "io", "data", "post"}},
    {"ops", {"core", "kernels"}},
    {"data", {"core", "io", "kernels"}},
    {"post", {"core", "metrics", "data"}},
    {"nn", {"core", "ops"}},
    {"engine", {"core", "nn", "ops", "data", "metrics", "io", "post"}},
};
// The rooms that may include a third-party library, by the first word of the include.
const std::map<std::string, std::set<std::string>> kLibraries = {
    {"torch", {"ops", "nn", "engine"}},
    {"ATen", {"ops", "nn", "engine"}},
    {"c10", {"ops", "nn", "engine"}},
    {"gdcm", {"io"}},
    {"CLI", {"apps"}},
    {"spdlog", {"core"}},
    {"yaml-cpp", {"core"}},
    {"xxhash.h", {"core"}},
};

std::vector<std::string> included(const fs::path& path) {
  static const std::regex pattern(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  std::vector<std::string> names;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::smatch match;
    if (std::regex_search(line, match, pattern)) names.push_back(match[1]);
  }
  return names;
}

std::vector<std::string> violations(const std::string& room, const fs::path& folder) {
  std::vector<std::string> found;
  if (!fs::exists(folder)) return found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    static const std::set<std::string> kSources = {".h", ".cpp", ".cu", ".cuh"};
    if (!kSources.contains(entry.path().extension().string())) continue;
    for (const auto& name : included(entry.path())) {
      const auto parts = split(name, '/');
      if (parts[0] == "segmamba" && parts.size() > 2) {
        const auto& used = parts[1];
        if (used != room && room != "apps" && !kMayUse.at(room).contains(used)) {
          found.push_back(concat(entry.path().string(), " includes ", name));
        }
      }
      const std::string library = starts_with(name, "gdcm") ? "gdcm" : parts[0];
      const auto allowed = kLibraries.find(library);
      if (allowed != kLibraries.end() && !allowed->second.contains(room)) {
        found.push_back(concat(entry.path().string(), " includes ", name));
      }
    }
  }
  return found;
}

TEST(Architecture, IncludesGoDownOnly) {
  const fs::path root = SEGMAMBA_SOURCE_DIR;
  for (const auto& [room, uses] : kMayUse) {
    EXPECT_THAT(violations(room, root / "include/segmamba" / room), ::testing::IsEmpty());
    if (room != "kernels") {
      EXPECT_THAT(violations(room, root / "src" / room), ::testing::IsEmpty());
    }
  }
  EXPECT_THAT(violations("kernels", root / "kernels"), ::testing::IsEmpty());
}

TEST(Architecture, CommandLinesAreParsedInOnePlace) {
  for (const auto& entry : fs::directory_iterator(fs::path(SEGMAMBA_SOURCE_DIR) / "apps")) {
    if (entry.path().filename() == "app_main.cpp" || entry.path().extension() != ".cpp") continue;
    for (const auto& name : included(entry.path())) {
      EXPECT_FALSE(starts_with(name, "CLI/")) << entry.path();
    }
  }
}

}  // namespace
}  // namespace segmamba
