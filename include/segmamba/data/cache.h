#pragma once
// Prepared cases on disk, mapped into memory: cropping, resampling and normalising are done once,
// and a training patch reads only the pages it touches.
//
// A cache is a folder:
//   settings.json   what the cases were made with: preprocess, channels, classes, label values
//   NAME.case       one a case: header (JSON with sizes, sources and their hashes), image, labels
//   manifest.json   written when every case is done: the cases, their sizes and hashes, what failed
// Files appear under their names when they are complete. Two builds at once share the work.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/data/dataset.h"
#include "segmamba/data/prepared_case.h"
#include "segmamba/data/preprocess.h"

namespace segmamba::data {

// The largest a cache of the data set can get, from the headers of its files: what cropping takes
// away is not known before. Cases whose header cannot be read count as nothing.
std::uint64_t largest_cache_bytes(const Dataset& dataset, const PreprocessConfig& config);

struct CacheReport {
  std::int64_t made = 0, kept = 0;                          // cases prepared now, and found ready
  std::uint64_t bytes = 0;                                  // of all cases
  std::vector<std::pair<std::string, std::string>> failed;  // case and message, by case
};

// Prepares every case that is not in `folder` or whose files have changed since, several at a time
// (core/parallel.h). May be killed and run again at any time. Cases that cannot be prepared are
// listed in the result; training treats them as bad cases. `progress` is called after each case,
// one call at a time. Throws Error where `folder` is a cache with other settings (they are named),
// WriteError where it cannot be written. A case for which memory is short beside others is prepared
// by itself; where that fails, too, an Error names it: it costs no case that is ready, but the
// cache is not finished.
CacheReport build_cache(
    const Dataset& dataset, const PreprocessConfig& config, const std::filesystem::path& folder,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

// The cases of a finished cache, where the files that it was made from are not at hand (a copy on a
// node's own disk); they have no files. Throws Error, also naming a case without labels where these
// are required.
Dataset cached_dataset(const std::filesystem::path& folder,
                       const std::vector<std::string>& channels,
                       const std::vector<std::string>& classes, Labels labels);

// Whether the folder holds a cache, finished or not.
bool is_cache(const std::filesystem::path& folder);
// What the cases in it take; 0 where there is none.
std::uint64_t cache_bytes(const std::filesystem::path& folder);
// Removes the files of a cache from a folder, and nothing else. Throws as remove_file() does.
void remove_cache(const std::filesystem::path& folder);

class Cache {
 public:
  // Checks that the cache was made with these settings and that the files of every case of
  // `dataset` are those it was made from: by size and time, and where the time differs by content.
  // Throws Error naming what differs. Files that are not there any more cannot have changed: one
  // warning says so.
  Cache(const std::filesystem::path& folder, const Dataset& dataset,
        const PreprocessConfig& config);

  // Maps a case. Throws Error where the file is damaged (its content is compared with its hash, the
  // numbers of channels and classes with the data set's) or the case could not be prepared.
  PreparedCase open(const std::string& name) const;

 private:
  std::filesystem::path folder_;
  std::string settings_;
  std::int64_t channels_ = 0, classes_ = 0;  // how many
  std::map<std::string, std::string> failed_;
};

// A case's file, for tools and tests. write_prepared is atomic; map_prepared compares everything
// with the stored hashes, and refuses a header whose sizes, crop or counts cannot be. (The labels
// it compares neither with the counts nor with the number of classes.) Both throw Error. `sources`
// are the files that the case was read from, `settings` what it was made with.
void write_prepared(const std::filesystem::path& path, const PreparedCase& item,
                    const std::vector<std::filesystem::path>& sources, const std::string& settings);
PreparedCase map_prepared(const std::filesystem::path& path);

}  // namespace segmamba::data
