#pragma once
// Scores that others report, to be shown beside one's own.

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace segmamba::eval {

struct PublishedScores {
  struct Method {
    std::string name;
    // By region, "avg" being their average: Dice in percent and HD95; nan where not given.
    std::map<std::string, std::pair<double, double>> scores;
  };
  std::string source;  // the file's name without its suffix, such as "paper"
  std::vector<Method> methods;
};

// A CSV file with the columns of table.md: method, "WT Dice", "WT HD95" and so on for any regions,
// and "avg Dice", "avg HD95"; an empty field is a number that is not given. Throws Error naming
// file and line.
PublishedScores read_published(const std::filesystem::path& path);

}  // namespace segmamba::eval
