#pragma once
// The rules of postprocess.h as a config states them.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/post/postprocess.h"

namespace segmamba::post {

// Section `postprocess`. The lists are applied in this order, their entries in that of the list:
// holes are filled first, so that parts are measured whole (removing makes no new ones, since what
// is removed becomes what surrounds it), and the volume of a region is measured last.
struct PostprocessConfig {
  std::vector<std::string> fill_holes;        // REGION
  std::vector<std::string> remove_below_ml;   // REGION=ML
  std::vector<std::string> largest_only;      // REGION or REGION=COUNT
  std::vector<std::string> replace_below_ml;  // REGION=ML->CLASS
  std::int64_t connectivity = 26;

  void visit(ConfigVisitor& visitor);
};

// The rules for labels that are places in `classes`. REGION is WT, TC or ET, a name of `regions`
// (the entries of data.regions), or classes joined by +; CLASS is a class. Classes are found
// however they are spelt, or by their number. Each entry may end in ->CLASS: what the voxels become
// that it changes. Throws Error naming key and entry.
std::vector<Rule> make_rules(const PostprocessConfig& config,
                             const std::vector<std::string>& classes,
                             const std::vector<std::string>& regions = {});

// The section `postprocess` of a file: one that segmamba-eval --tune-postprocess wrote, or a whole
// config. Throws Error naming file and line.
PostprocessConfig read_postprocess(const std::filesystem::path& path);
// A file with this section.
std::string to_yaml(const PostprocessConfig& config);

}  // namespace segmamba::post
