#pragma once
// A page to look at the results of a run: a table of all cases and a viewer of their slices. One
// file that needs nothing else, and works from a disk.

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "segmamba/io/volume.h"

namespace segmamba::io {

struct ViewerLabel {
  std::uint8_t value = 0;
  std::string name;  // "oedema"
};

// Labels seen as one; regions may overlap, as WT = {1, 2, 3} and TC = {1, 3} do.
struct ViewerRegion {
  std::string name;
  std::vector<std::uint8_t> labels;
};

struct ViewerChannel {
  std::string name;  // "t1c"
  const Image* image = nullptr;
};

struct ViewerOptions {
  std::string title = "Segmentation";
  std::string description;          // a line below the title: with what model, how
  std::vector<ViewerLabel> labels;  // others that occur are shown by their number
  std::vector<ViewerRegion> regions;
  // Of the run: each gets its share of the page's bytes. More may come.
  std::int64_t expected_cases = 1;
  std::uint64_t max_bytes = std::uint64_t{64} << 20;  // of the page
  std::int64_t max_voxels = std::int64_t{1} << 24;    // of a volume in the page
};

// Takes the cases as they are done. Volumes are kept as they stand in the page: cut to what is not
// empty, as coarse as the page's bytes ask for (labels so that no lesion is lost), 8 bits a voxel.
// Before they would have fewer than 128 voxels along the longest axis, channels are left out, down
// to two; below 64 the second one is, and then a case is a row of the table only. Calls one at a
// time.
class ViewerReport {
 public:
  // Throws Error where a label's value is 0 or there twice, or where `expected_cases`, `max_bytes`
  // or `max_voxels` is not above 0.
  explicit ViewerReport(ViewerOptions options);
  ~ViewerReport();

  // The first channel is the one that is seen first; where bytes are few, the last ones are left
  // out. They must have the size of the labels; what else their grids say is not read. NaN seconds
  // are not known; `result` is a word on how it went. Throws Error naming the case where the sizes
  // differ.
  void add_case(const std::string& name, double seconds, const LabelMap& labels,
                const std::vector<ViewerChannel>& channels, const std::string& result = "ok");
  // A case without a result, and why.
  void add_failure(const std::string& name, double seconds, const std::string& error);

  // The page of the cases so far.
  void print(std::ostream& out) const;
  // Atomic. Throws Error.
  void write(const std::filesystem::path& path) const;

 private:
  struct Case;

  // The volumes of the case, in its share of the bytes; none where there is no room.
  void embed(const LabelMap& labels, const std::vector<ViewerChannel>& channels, Case& item);
  std::string header() const;
  std::string table() const;
  nlohmann::ordered_json page_data() const;

  ViewerOptions options_;
  std::vector<Case> cases_;
  std::uint64_t bytes_ = 0;        // of the page, so far
  double bytes_per_voxel_ = 0.35;  // of the volumes of the last case; a guess until there is one
};

}  // namespace segmamba::io
