#include "segmamba/data/cases.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <map>
#include <span>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

constexpr std::uint8_t kOldEnhancing = 4;  // BraTS 2012 to 2021

// What BraTS 2017 to 2021 called the modalities of BraTS 2023, in "NAME_t1ce.nii.gz".
const std::map<std::string, std::string>& old_channel_names() {
  static const std::map<std::string, std::string> names = {
      {"t1n", "t1"}, {"t1c", "t1ce"}, {"t2w", "t2"}, {"t2f", "flair"}, {"seg", "seg"}};
  return names;
}

// "BraTS" and "./BraTS/" alike; the name of a case is that of its folder.
fs::path named_folder(const fs::path& folder) {
  std::error_code error;
  fs::path full = fs::canonical(folder, error);
  if (error) throw Error(concat(folder.string(), ": ", error.message()));
  if (!fs::is_directory(full)) throw Error(concat(folder.string(), ": is not a folder"));
  return full;
}

bool is_case_folder(const fs::path& folder) {
  const std::string name = folder.filename().string();
  std::error_code error;
  const fs::directory_iterator entries(folder, error);
  // To pass over it would train on less than the whole data set without a word.
  if (error) throw Error(concat("cannot read the folder ", folder.string(), ": ", error.message()));
  for (const auto& entry : entries) {
    const std::string file = entry.path().filename().string();
    const bool is_volume = ends_with(file, ".nii.gz") || ends_with(file, ".nii");
    if (is_volume && (starts_with(file, name + "-") || starts_with(file, name + "_"))) return true;
  }
  return false;
}

// [begin, end) along one axis.
struct Interval {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max(), end = 0;
  void include(std::int64_t first, std::int64_t last) {
    begin = std::min(begin, first);
    end = std::max(end, last + 1);
  }
  std::int64_t length() const { return end - begin; }
};
using Box = std::array<Interval, 3>;  // D, H, W

void include_nonzero(Box& box, const io::Image& image) {
  const auto& size = image.geometry.size;  // x, y, z
  const float* row = image.voxels.data();
  const auto is_nonzero = [](float value) { return value != 0; };
  for (std::int64_t z = 0; z < size[2]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y, row += size[0]) {
      const float* end = row + size[0];
      const float* first = std::find_if(row, end, is_nonzero);
      if (first == end) continue;
      const float* last = end - 1;
      while (*last == 0) --last;
      box[0].include(z, z);
      box[1].include(y, y);
      box[2].include(first - row, last - row);
    }
  }
}

template <class T>
void copy_box(const io::Volume<T>& volume, const Box& box, T* target) {
  const auto& size = volume.geometry.size;
  for (std::int64_t z = box[0].begin; z < box[0].end; ++z) {
    for (std::int64_t y = box[1].begin; y < box[1].end; ++y) {
      const T* row = volume.voxels.data() + (z * size[1] + y) * size[0] + box[2].begin;
      target = std::copy_n(row, box[2].length(), target);
    }
  }
}

// Mean 0 and standard deviation 1 over the voxels that are not 0; the others stay 0. A constant
// channel becomes 0.
void normalise(std::span<float> channel) {
  double sum = 0;
  std::int64_t count = 0;
  for (const float value : channel) {
    sum += value;
    count += value != 0 ? 1 : 0;
  }
  if (count == 0) return;
  const double mean = sum / static_cast<double>(count);
  double squares = 0;
  for (const float value : channel) {
    if (value != 0) squares += (value - mean) * (value - mean);
  }
  const double deviation = std::sqrt(squares / static_cast<double>(count));
  const double scale = deviation > 1e-6 * std::abs(mean) && deviation > 0 ? 1 / deviation : 0;
  for (float& value : channel) {
    if (value != 0) value = static_cast<float>((value - mean) * scale);
  }
}

void check_same_grid(const std::string& name, const fs::path& path, const io::Geometry& first,
                     const fs::path& other_path, const io::Geometry& other) {
  const std::string difference = io::geometry_difference(first, other);
  if (difference.empty()) return;
  throw Error(concat("case ", name, ": ", path.filename().string(), " and ",
                     other_path.filename().string(), " do not share a grid: ", difference));
}

}  // namespace

std::string patient_of(const std::string& case_name) {
  const auto is_number = [](std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](unsigned char c) { return std::isdigit(c) != 0; });
  };
  const auto parts = split(case_name, '-');
  const std::size_t count = parts.size();
  if (count < 3 || !is_number(parts[count - 1]) || !is_number(parts[count - 2])) return case_name;
  return case_name.substr(0, case_name.rfind('-'));
}

std::vector<fs::path> find_case_folders(const fs::path& root) {
  const fs::path folder = named_folder(root);
  if (is_case_folder(folder)) return {folder};
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && is_case_folder(entry.path())) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

fs::path find_case_file(const fs::path& folder, const std::string& channel) {
  const std::string name = folder.filename().string();
  std::vector<std::string> endings = {"-" + channel, "_" + channel};
  const auto old = old_channel_names().find(channel);
  if (old != old_channel_names().end()) endings.push_back("_" + old->second);
  for (const auto& ending : endings) {
    for (const char* suffix : {".nii.gz", ".nii"}) {
      fs::path path = folder / concat(name, ending, suffix);
      std::error_code error;
      if (fs::is_regular_file(path, error)) return path;
    }
  }
  return {};
}

std::vector<Case> find_cases(const fs::path& root, const std::vector<std::string>& channels,
                             bool need_labels) {
  const auto folders = find_case_folders(root);
  if (folders.empty()) {
    throw Error(concat(root.string(),
                       ": no cases; a case is a folder NAME with files NAME-CHANNEL.nii.gz, as in "
                       "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1n.nii.gz"));
  }
  std::vector<Case> cases;
  for (const auto& folder : folders) {
    Case item;
    item.name = folder.filename().string();
    item.patient = patient_of(item.name);
    const auto require = [&](const std::string& channel) {
      fs::path path = find_case_file(folder, channel);
      if (path.empty()) {
        throw Error(concat("case ", item.name, ": ", (folder / item.name).string(), "-", channel,
                           ".nii.gz (or .nii) is missing"));
      }
      return path;
    };
    for (const auto& channel : channels) item.images.push_back(require(channel));
    item.labels = need_labels ? require("seg") : find_case_file(folder, "seg");
    cases.push_back(std::move(item));
  }
  return cases;
}

CaseData load_case(const Case& item) {
  if (item.images.empty()) throw Error(concat("case ", item.name, ": has no channels"));
  std::vector<io::Image> images;
  Box box;
  for (const auto& path : item.images) {
    try {
      images.push_back(io::read_image(path));
    } catch (const Error& error) {
      throw Error(concat("case ", item.name, ": ", error.what()));
    }
    check_same_grid(item.name, item.images.front(), images.front().geometry, path,
                    images.back().geometry);
    include_nonzero(box, images.back());
  }
  if (box[0].end == 0) {
    throw Error(concat("case ", item.name, ": every voxel of every channel is 0"));
  }

  CaseData data;
  data.name = item.name;
  data.geometry = images.front().geometry;
  data.channels = static_cast<std::int64_t>(images.size());
  std::size_t voxels = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    data.size[axis] = box[axis].length();
    data.offset[axis] = box[axis].begin;
    voxels *= static_cast<std::size_t>(data.size[axis]);
  }
  data.image.resize(images.size() * voxels);
  for (std::size_t channel = 0; channel < images.size(); ++channel) {
    const auto target = std::span(data.image).subspan(channel * voxels, voxels);
    copy_box(images[channel], box, target.data());
    normalise(target);
    images[channel].voxels = {};
  }
  if (item.labels.empty()) return data;

  io::LabelMap labels;
  try {
    labels = io::read_labels(item.labels);
  } catch (const Error& error) {
    throw Error(concat("case ", item.name, ": ", error.what()));
  }
  check_same_grid(item.name, item.images.front(), data.geometry, item.labels, labels.geometry);
  if (std::find(labels.voxels.begin(), labels.voxels.end(), kOldEnhancing) != labels.voxels.end()) {
    std::replace(labels.voxels.begin(), labels.voxels.end(), kOldEnhancing,
                 static_cast<std::uint8_t>(kEnhancing));
    log_info(concat("case ", item.name, ": label 4 is taken as enhancing tumour (3)"));
  }
  const auto largest = *std::max_element(labels.voxels.begin(), labels.voxels.end());
  if (largest > kEnhancing) {
    throw Error(concat("case ", item.name, ": ", item.labels.string(), ": label ", int{largest},
                       "; BraTS has 0 to 3 (or 4 for enhancing tumour)"));
  }
  data.labels.resize(voxels);
  copy_box(labels, box, data.labels.data());
  return data;
}

}  // namespace segmamba::data
