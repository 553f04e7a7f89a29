#include "segmamba/io/dicom.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dicom_file.h"
#include "dicom_grid.h"
#include "dicom_pixels.h"
#include "dicom_series.h"
#include "segmamba/core/error.h"
#include "segmamba/core/folder.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat(path.string(), ": ", what));
}

struct Place {
  fs::path folder;
  std::string uid;  // "" where the folder alone is named
};

std::optional<Place> place_of(const fs::path& series) {
  std::error_code ignored;
  if (fs::is_directory(series, ignored)) return Place{series, ""};
  // What is there by that name is meant, even where it cannot be read.
  if (fs::exists(fs::symlink_status(series, ignored))) return std::nullopt;
  const std::string text = series.string();
  const std::size_t mark = text.rfind('#');
  // Names of folders may hold the mark, UIDs no slash.
  if (mark == std::string::npos || text.find('/', mark) != std::string::npos) return std::nullopt;
  Place place{text.substr(0, mark), text.substr(mark + 1)};
  if (!fs::is_directory(place.folder, ignored)) return std::nullopt;
  return place;
}

// Neither hidden files nor DICOMDIR, which lists a medium's files.
std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : entries_of(folder)) {
    const std::string name = entry.path().filename().string();
    if (starts_with(name, ".") || to_lower(name) == "dicomdir") continue;
    std::error_code error;
    const auto type = entry.status(error).type();
    if (type == fs::file_type::none) {  // links in a circle: a slice may be behind them
      throw ReadError(concat(entry.path().string(), ": cannot be read: ", error.message()));
    }
    if (type == fs::file_type::regular) files.push_back(entry.path());
  }
  return files;
}

// A slice that was cut off at its very beginning must not be taken for a file of another kind.
void refuse_lost_slice(const fs::path& path) {
  const std::string extension = to_lower(path.extension().string());
  std::error_code ignored;
  if (extension == ".dcm" || extension == ".ima" || fs::file_size(path, ignored) == 0) {
    throw DamagedFileError(concat(path.string(),
                                  ": is damaged or no DICOM file (it has no DICM mark); copy it "
                                  "again or take it away"));
  }
}

using SeriesByUid = std::map<std::string, std::vector<DicomFile>>;

SeriesByUid open_all(const fs::path& folder) {
  SeriesByUid all;
  std::vector<fs::path> others;
  for (const auto& path : files_in(folder)) {
    if (!has_dicom_mark(path)) {
      others.push_back(path);
    } else if (auto file = open_dicom(path)) {
      all[file->series_uid].push_back(std::move(*file));
    }
  }
  if (!all.empty()) std::for_each(others.begin(), others.end(), refuse_lost_slice);
  return all;
}

std::string list(const SeriesByUid& all) {
  std::vector<std::string> lines;
  for (const auto& [uid, files] : all) {
    std::size_t slices = 0;
    for (const auto& file : files) slices += file.frames.size();
    lines.push_back(concat(uid, " (", files[0].modality, " '", files[0].series_description, "', ",
                           slices, slices == 1 ? " slice)" : " slices)"));
  }
  return join(lines, ", ");
}

[[noreturn]] void fail_without_series(const fs::path& folder) {
  std::set<std::string> series;
  for (const auto& entry : entries_of(folder)) {
    std::error_code ignored;
    if (entry.is_directory(ignored) && is_dicom_series(entry.path())) {
      series.insert(entry.path().filename().string());
    }
  }
  if (series.empty()) {
    fail(folder,
         "is a folder without DICOM images; a volume is one file or the folder of a "
         "DICOM series");
  }
  fail(folder,
       concat("holds no DICOM images itself; take one of its sub-folders ", join(series, ", ")));
}

// The files of the one series that is meant.
std::vector<DicomFile> choose(const Place& place) {
  SeriesByUid all = open_all(place.folder);
  if (all.empty()) fail_without_series(place.folder);
  if (place.uid.empty()) {
    if (all.size() > 1) {
      fail(place.folder, concat("holds ", all.size(), " DICOM series; name one as ",
                                place.folder.filename().string(), "#UID: ", list(all)));
    }
    return std::move(all.begin()->second);
  }
  const auto found = all.find(place.uid);
  if (found == all.end()) {
    fail(place.folder, concat("holds no DICOM series ", place.uid, ", but ", list(all)));
  }
  return std::move(found->second);
}

void refuse_unreadable(const DicomFile& file) {
  if (file.samples_per_pixel != 1 || !starts_with(file.photometric_interpretation, "MONOCHROME")) {
    fail(file.path, concat("is a colour image (", file.photometric_interpretation,
                           "); grey values are needed"));
  }
  if (file.photometric_interpretation != "MONOCHROME2") {
    fail(file.path, concat("has inverted grey values (", file.photometric_interpretation,
                           "); convert it to MONOCHROME2"));
  }
  if (file.has_modality_table) {
    fail(file.path,
         "maps its values by a table (Modality LUT Sequence), which is not supported; "
         "convert it to rescale slope and intercept");
  }
  const std::set<int> supported = {8, 16, 32};
  if (!supported.contains(file.bits_allocated) || file.bits_stored < 1 ||
      file.bits_stored > file.bits_allocated || file.high_bit != file.bits_stored - 1) {
    fail(file.path, concat("is damaged or not supported: its values have ", file.bits_stored,
                           " bits up to bit ", file.high_bit, " of ", file.bits_allocated));
  }
  for (const auto& frame : file.frames) {
    if (frame.slope == 0) fail(file.path, "is damaged: its rescale slope is 0");
  }
}

// What a derived object says once must hold for every slice.
void refuse_mixture(const std::vector<DicomFile>& files) {
  const DicomFile& first = files.front();
  for (const auto& file : files) {
    const auto check = [&](const std::string& a, const std::string& b, const char* what) {
      if (a == b) return;
      fail(file.path, concat("is of another ", what, " than ", first.path.filename().string(), " (",
                             b, ", not ", a, "), though of the same series"));
    };
    check(first.study_uid, file.study_uid, "study");
    check(first.frame_of_reference_uid, file.frame_of_reference_uid, "frame of reference");
  }
}

struct Series {
  std::vector<DicomFile> files;
  std::vector<GridSlice> slices;  // in the order of z
  Geometry geometry;
};

Series open_series(const fs::path& name) {
  const auto place = place_of(name);
  if (!place) fail(name, "is no folder, nor FOLDER#SERIES_INSTANCE_UID of one");
  Series series;
  series.files = choose(*place);
  std::for_each(series.files.begin(), series.files.end(), refuse_unreadable);
  refuse_mixture(series.files);
  auto dicom = std::make_shared<DicomSeries>();
  series.slices = sort_slices(series.files);
  dicom->grid = grid_of(place->folder, series.files, series.slices);
  DicomFile& first = series.files.front();
  dicom->study_uid = first.study_uid;
  dicom->uid = first.series_uid;
  dicom->frame_of_reference_uid = first.frame_of_reference_uid;
  dicom->context = std::move(first.context);
  for (const auto& slice : series.slices) {
    const DicomFile& file = series.files[slice.file];
    dicom->slices.push_back({file.sop_class_uid, file.sop_instance_uid,
                             file.is_multi_frame ? static_cast<int>(slice.frame) + 1 : 0,
                             *file.frames[slice.frame].position});
  }
  series.geometry = dicom->grid;
  series.geometry.dicom = std::move(dicom);
  return series;
}

// Whether the files are large enough for the volume that they promise. Of others room is made for
// what has been decoded only: it takes twice the memory at the end, and none where they lie. Beside
// the volume, decoders take as much again for a single slice.
bool is_plausible(const Series& series) {
  constexpr std::uintmax_t kAlways = std::uintmax_t{1} << 25, kUsualRatio = 32;
  std::uintmax_t held = 0;
  for (const auto& file : series.files) {
    std::error_code error;
    const auto bytes = fs::file_size(file.path, error);
    if (!error) held += bytes;
  }
  const auto promised = static_cast<std::uintmax_t>(series.geometry.voxel_count()) * sizeof(float);
  return promised <= std::max(kAlways, kUsualRatio * held);
}

}  // namespace

bool names_dicom_series(const fs::path& series) { return place_of(series).has_value(); }

bool is_dicom_series(const fs::path& series) {
  const auto place = place_of(series);
  if (!place) return false;
  const auto files = files_in(place->folder);
  return std::any_of(files.begin(), files.end(), has_dicom_mark);
}

Geometry read_dicom_geometry(const fs::path& series) { return open_series(series).geometry; }

Image read_dicom(const fs::path& name) {
  const Series series = open_series(name);
  std::vector<std::vector<std::size_t>> z_of(series.files.size());
  for (std::size_t i = 0; i < z_of.size(); ++i) z_of[i].resize(series.files[i].frames.size());
  for (std::size_t z = 0; z < series.slices.size(); ++z) {
    z_of[series.slices[z].file][series.slices[z].frame] = z;
  }
  Image image{series.geometry, {}};
  const auto plane = static_cast<std::size_t>(series.geometry.size[0] * series.geometry.size[1]);
  const auto read = [&](const auto& place_of_slice, int threads) {
    parallel_for(
        std::ssize(series.files),
        [&](std::int64_t item) {
          const auto i = static_cast<std::size_t>(item);
          read_frames(series.files[i],
                      [&](std::size_t frame) { return place_of_slice(z_of[i][frame]); });
        },
        threads);
  };
  if (is_plausible(series)) {
    image.voxels.resize(static_cast<std::size_t>(series.geometry.voxel_count()));
    read([&](std::size_t z) { return std::span(image.voxels).subspan(z * plane, plane); },
         thread_count());
    return image;
  }
  std::vector<std::vector<float>> slices(series.slices.size());
  // Each thread decodes a slice, which may be large and hold nothing.
  constexpr std::size_t kOfAllThreads = std::size_t{1} << 25;
  const auto of_a_thread = std::max<std::size_t>(1, 2 * plane * sizeof(float));
  const auto threads = std::clamp<std::size_t>(kOfAllThreads / of_a_thread, 1,
                                               static_cast<std::size_t>(thread_count()));
  read(
      [&](std::size_t z) {
        slices[z].resize(plane);
        return std::span(slices[z]);
      },
      static_cast<int>(threads));
  for (auto& slice : slices) {
    image.voxels.insert(image.voxels.end(), slice.begin(), slice.end());
    slice = {};
  }
  return image;
}

}  // namespace segmamba::io
