#include "viewer_volumes.h"

#include <libdeflate.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>

#include "segmamba/core/html.h"

namespace segmamba::io {
namespace {

std::string pack(const std::vector<std::uint8_t>& voxels, int level) {
  const std::unique_ptr<libdeflate_compressor, decltype(&libdeflate_free_compressor)> compressor(
      libdeflate_alloc_compressor(level), libdeflate_free_compressor);
  if (!compressor) throw std::bad_alloc();
  std::string bytes(libdeflate_zlib_compress_bound(compressor.get(), voxels.size()), '\0');
  bytes.resize(libdeflate_zlib_compress(compressor.get(), voxels.data(), voxels.size(),
                                        bytes.data(), bytes.size()));
  return base64(bytes);
}

// The values that are not 0 (few of many, evenly), sorted; {0} where there are none.
std::vector<float> sample_of(const std::vector<float>& values) {
  constexpr std::size_t kSamples = 100'000;
  std::vector<float> sample;
  const std::size_t stride = std::max<std::size_t>(1, values.size() / kSamples);
  for (std::size_t i = 0; i < values.size(); i += stride) {
    if (values[i] != 0) sample.push_back(values[i]);
  }
  std::sort(sample.begin(), sample.end());
  if (sample.empty()) sample.push_back(0);
  return sample;
}

// Of CT, in Hounsfield units: that of air (what lies outside the scanned circle may be lower), and
// the usual window of soft tissue.
constexpr float kAir = -1024, kTissueLow = -160, kTissueHigh = 240;

struct Bytes {
  std::vector<std::uint8_t> voxels;
  float low = 0, high = 1;  // values of the bytes 0 and 255
  // Black at zero, white at the 99.5th percentile; of CT that of soft tissue.
  std::array<std::uint8_t, 2> window{};
};

Bytes to_bytes(const std::vector<float>& values) {
  const std::vector<float> sample = sample_of(values);
  const auto percentile = [&](double share) {
    return sample[static_cast<std::size_t>(
        std::llround(share * static_cast<double>(sample.size() - 1)))];
  };
  const bool is_ct = percentile(0.005) < kAir / 2;
  Bytes bytes;
  bytes.low = std::min(0.0f, std::max(percentile(0.0005), is_ct ? kAir : -INFINITY));
  bytes.high = std::max(bytes.low, percentile(0.9995));
  if (bytes.high <= bytes.low) bytes.high = bytes.low + 1;
  const float scale = 255 / (bytes.high - bytes.low);
  const auto byte_of = [&](float value) {
    return static_cast<std::uint8_t>(std::clamp((value - bytes.low) * scale + 0.5f, 0.0f, 255.0f));
  };
  const std::uint8_t black = byte_of(is_ct ? kTissueLow : std::min(0.0f, percentile(0.005)));
  const std::uint8_t white = byte_of(is_ct ? kTissueHigh : percentile(0.995));
  bytes.window = {black, std::max<std::uint8_t>(white, black < 255 ? black + 1 : 255)};
  bytes.voxels.resize(values.size());
  std::transform(values.begin(), values.end(), bytes.voxels.begin(), byte_of);
  return bytes;
}

// Display voxel i along world axis d shows, around index start[d] + i * stride[d], the file's axis
// axis[d]. `world` takes file indices to mm (LPS): three rows of x, y, z and origin.
Json grid_json(const Geometry& geometry, const DisplayGrid& grid) {
  Json json = {{"size", Json::array()},  {"spacing", Json::array()}, {"axis", Json::array()},
               {"start", Json::array()}, {"stride", Json::array()},  {"world", Json::array()}};
  for (const DisplayAxis& axis : grid.axes) {
    const double step = static_cast<double>(axis.range.length()) / static_cast<double>(axis.count);
    const auto low = static_cast<double>(axis.range.low),
               high = static_cast<double>(axis.range.high);
    json["size"].push_back(axis.count);
    json["spacing"].push_back(step * geometry.spacing[axis.file_axis]);
    json["axis"].push_back(axis.file_axis);
    json["start"].push_back(axis.reversed ? high - step / 2 - 0.5 : low + step / 2 - 0.5);
    json["stride"].push_back(axis.reversed ? -step : step);
  }
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      json["world"].push_back(geometry.direction[3 * row + column] * geometry.spacing[column]);
    }
    json["world"].push_back(geometry.origin[row]);
  }
  json["file_size"] = geometry.size;
  return json;
}

}  // namespace

std::uint64_t ViewerVolumes::size() const {
  std::uint64_t bytes = 0;
  for (const std::string& volume : packed) bytes += volume.size();
  return bytes;
}

std::vector<std::uint8_t> predict(const std::vector<std::uint8_t>& voxels, std::int64_t width,
                                  std::int64_t height) {
  const auto length = static_cast<std::size_t>(width);
  const std::vector<std::uint8_t> outside(length, 0);
  std::vector<std::uint8_t> differences(voxels.size());
  for (std::size_t begin = 0, row = 0; begin < voxels.size(); begin += length, ++row) {
    const std::uint8_t* line = voxels.data() + begin;
    const bool is_first = row % static_cast<std::size_t>(height) == 0;
    const std::uint8_t* above = is_first ? outside.data() : line - length;
    std::uint8_t* out = differences.data() + begin;
    out[0] = static_cast<std::uint8_t>(line[0] - above[0]);
    for (std::size_t x = 1; x < length; ++x) {
      const int left = line[x - 1], up = above[x];
      const int expected =
          std::clamp(left + up - above[x - 1], std::min(left, up), std::max(left, up));
      out[x] = static_cast<std::uint8_t>(line[x] - expected);
    }
  }
  return differences;
}

ViewerVolumes viewer_volumes(const LabelMap& labels, const std::vector<ViewerChannel>& channels,
                             const DisplayGrid& grid) {
  constexpr int kLabelLevel = 6, kImageLevel = 1;  // noise packs no better with more effort
  ViewerVolumes volumes;
  volumes.grid = grid_json(labels.geometry, grid);
  volumes.channels = Json::array();
  volumes.packed.push_back(pack(reduce_labels(labels, grid), kLabelLevel));
  for (const ViewerChannel& channel : channels) {
    const Bytes bytes = to_bytes(reduce_image(*channel.image, grid));
    volumes.packed.push_back(
        pack(predict(bytes.voxels, grid.axes[0].count, grid.axes[1].count), kImageLevel));
    volumes.channels.push_back({{"name", channel.name},
                                {"low", bytes.low},
                                {"high", bytes.high},
                                {"window", bytes.window}});
  }
  return volumes;
}

}  // namespace segmamba::io
