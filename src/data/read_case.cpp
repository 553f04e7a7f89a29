// From the files of a case to its voxels on one grid.
#include <algorithm>
#include <array>
#include <utility>

#include "channel_reader.h"
#include "names.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/io/resample.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

// The files of a case, as read_case has it.
class CaseReader {
  // `read()` with the name of the case before the message of what it throws.
  template <class Read>
  auto named(Read read) const {
    try {
      return read();
    } catch (const ReadError& error) {
      throw ReadError(concat("case ", item_.name, ": ", error.what()));
    } catch (const Error& error) {
      throw Error(concat("case ", item_.name, ": ", error.what()));
    }
  }

 public:
  CaseReader(const Dataset& dataset, const Case& item, const ReadOptions& options)
      : dataset_(dataset), item_(item), resamples_(!options.resample_to.empty()), reader_(item) {
    if (item.images.empty()) throw Error(concat("case ", item.name, ": has no channels"));
    if (!resamples_) return;
    const auto wanted = canonical_channel(options.resample_to);
    const auto& names = dataset.channels;
    const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
      return canonical_channel(name) == wanted;
    });
    if (found == names.end()) {
      throw Error(concat("cannot resample to '", options.resample_to,
                         "', which is no channel; there are ", join(names, ", ")));
    }
    first_ = static_cast<std::size_t>(found - names.begin());
  }

  RawCase read() {
    RawCase raw;
    raw.name = item_.name;
    raw.classes = static_cast<std::int64_t>(dataset_.classes.size());
    raw.channels.resize(item_.images.size());
    auto first = read_channel(first_);
    grid_ = first.geometry;
    raw.channels[first_] = std::move(first.voxels);
    for (std::size_t channel = 0; channel < raw.channels.size(); ++channel) {
      if (channel == first_) continue;
      raw.channels[channel] = in_grid(read_channel(channel), item_.images[channel].path);
    }
    if (!item_.labels.empty()) {
      raw.labels =
          classes_of(in_grid(named([&] { return io::read_labels(item_.labels); }), item_.labels));
    }
    raw.geometry = std::move(grid_);
    return raw;
  }

 private:
  io::Image read_channel(std::size_t channel) {
    const ChannelFile& file = item_.images[channel];
    if (file.path.empty()) {
      throw Error(concat("case ", item_.name, ": has no file for ", dataset_.channels.at(channel)));
    }
    return named([&] { return reader_.read(file); });
  }

  // The voxels of a file on the grid of the first.
  template <class T>
  std::vector<T> in_grid(io::Volume<T> volume, const fs::path& path) const {
    const auto difference = io::geometry_difference(grid_, volume.geometry);
    if (difference.empty()) return std::move(volume.voxels);
    const auto pair = concat("case ", item_.name, ": ", file_name(item_.images[first_].path),
                             " and ", file_name(path));
    if (!resamples_) {
      throw Error(
          concat(pair, " do not share a grid: ", difference,
                 " (segmamba-infer --resample-to CHANNEL brings all into the grid of one)"));
    }
    try {
      return io::resample_into(grid_, volume).voxels;
    } catch (const Error& error) {
      throw Error(concat(pair, ": ", error.what()));
    }
  }

  // Values of the file to classes.
  std::vector<std::uint8_t> classes_of(std::vector<std::uint8_t> labels) const {
    std::array<std::uint8_t, 256> table{};
    for (std::size_t value = 0; value < table.size(); ++value) {
      table[value] = dataset_.class_map[static_cast<std::uint8_t>(value)];
    }
    for (auto& voxel : labels) {
      if (table[voxel] == ClassMap::kNone) {
        throw Error(concat("case ", item_.name, ": ", item_.labels.string(), ": label ", int{voxel},
                           " stands for no class; known are ", dataset_.class_map.values(),
                           " (data.classes, data.label_map)"));
      }
      voxel = table[voxel];
    }
    return labels;
  }

  static std::string file_name(const fs::path& path) { return path.filename().string(); }

  const Dataset& dataset_;
  const Case& item_;
  bool resamples_;
  std::size_t first_ = 0;  // the channel whose grid is that of the case
  io::Geometry grid_;      // of that
  ChannelReader reader_;
};

}  // namespace

RawCase read_case(const Dataset& dataset, const Case& item, const ReadOptions& options) {
  return CaseReader(dataset, item, options).read();
}

}  // namespace segmamba::data
