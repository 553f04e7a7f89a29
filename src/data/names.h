#pragma once
// Channels and classes under the names that data sets give them.

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/data/dataset.h"

namespace segmamba::data {

// The name that all spellings of a channel or class have in common: "T1-Gd" and "t1ce" are "t1c",
// "GD-enhancing tumor" is "enhancing". Names without a known alias are compared without case,
// blanks, hyphens and underscores.
std::string canonical_channel(const std::string& name);

// The place of a class in a list by its name, however spelt; the list's size where there is none.
std::size_t find_class(const std::vector<std::string>& classes, const std::string& name);

// "data.channels: [t1n, t1c]", to be put into a config.
std::string config_line(const std::string& key, const std::vector<std::string>& names);

// For each channel that is wanted its place among those that there are. Throws Error beginning with
// `origin` where one is not among them, or two are meant by one name.
std::vector<std::size_t> match_channels(const std::vector<std::string>& wanted,
                                        const std::vector<std::string>& available,
                                        const std::string& origin);

struct NamedValue {
  std::uint8_t value = 0;
  std::string name;  // of the class
};
struct MappedValue {
  std::uint8_t value = 0, class_index = 0;
};

// Throws Error where a channel or class is listed twice, or the background is not the first class.
void check_names(const DatasetConfig& config);
// The entries of data.label_map. Throws Error on one that is malformed.
std::vector<MappedValue> parse_label_map(const DatasetConfig& config);

// By the names that the data set gives its values; what `mapped` holds needs none. Throws Error
// beginning with `origin`, with the line to put into the config, where a name is not among the
// classes, or a class not among the names.
ClassMap match_classes(const std::vector<std::string>& classes,
                       const std::vector<NamedValue>& labels,
                       const std::vector<MappedValue>& mapped, const std::string& origin);
// Where the data set names none; see survey_dataset().
ClassMap assume_classes(const std::vector<std::string>& classes,
                        const std::vector<MappedValue>& mapped);

}  // namespace segmamba::data
