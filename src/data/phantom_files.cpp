#include "phantom_files.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/io/nifti_style.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using io::NiftiStyle;
using io::NiftiType;

// In the files of BraTS 2023 the voxels begin at byte 2880. An extension has a prefix of 8 bytes.
constexpr std::size_t kExtensionBytes = 2880 - 352, kExtensionPrefix = 8;

NiftiStyle styled(NiftiType type, double slope = 1, double intercept = 0) {
  NiftiStyle style;
  style.type = type;
  style.slope = slope;
  style.intercept = intercept;
  return style;
}

// Voxels of a phantom are whole numbers up to 32767, which all of these hold exactly.
const std::vector<NiftiStyle>& image_styles() {
  static const std::vector<NiftiStyle> styles = {
      styled(NiftiType::kInt16),
      styled(NiftiType::kUint16),
      styled(NiftiType::kFloat32),
      styled(NiftiType::kFloat64),
      styled(NiftiType::kUint16, 0.5),
      styled(NiftiType::kUint16, 1, -1024),
      styled(NiftiType::kFloat32, 1.0 / 1024),
  };
  return styles;
}

const std::vector<NiftiStyle>& label_styles() {
  static const std::vector<NiftiStyle> styles = {
      styled(NiftiType::kUint8),   styled(NiftiType::kInt16),   styled(NiftiType::kUint16),
      styled(NiftiType::kFloat32), styled(NiftiType::kFloat64), styled(NiftiType::kInt16, 0.25),
  };
  return styles;
}

const std::map<std::string, FileConventions>& known_conventions() {
  using Types = FileConventions::Types;
  static const std::map<std::string, FileConventions> known = {
      {"int16", {.types = Types::kInt16}},    {"dtypes", {.types = Types::kVaried}},
      {"extension", {.extension = true}},     {"cosines", {.cosines = true}},
      {"orientation", {.orientation = true}}, {"brats2020", {.brats2020 = true}},
  };
  return known;
}

// What is drawn for a case: its files share a grid.
struct CaseStyle {
  std::array<double, 9> cosine_errors{};
  bool flip_x = false, flip_y = false;
};

CaseStyle draw_case_style(const FileConventions& conventions, Random& random) {
  CaseStyle style;
  const double size = 1e-5 * std::pow(10, random.uniform());
  for (double& error : style.cosine_errors) {
    const double drawn = size * random.uniform(-1, 1);
    if (conventions.cosines) error = drawn;
  }
  style.flip_x = random.chance(0.5) && conventions.orientation;
  style.flip_y = random.chance(0.5) && conventions.orientation;
  return style;
}

// The same picture of the same patient, its voxels in another order.
template <class T>
void flip(io::Volume<T>& volume, std::size_t axis) {
  const auto& size = volume.geometry.size;
  for (auto row = volume.voxels.begin(); row != volume.voxels.end(); row += size[0]) {
    if (axis == 0) std::reverse(row, row + size[0]);
  }
  if (axis == 1) {
    for (auto plane = volume.voxels.begin(); plane != volume.voxels.end();
         plane += size[0] * size[1]) {
      for (std::int64_t y = 0; y < size[1] / 2; ++y) {
        const auto row = plane + y * size[0];
        std::swap_ranges(row, row + size[0], plane + (size[1] - 1 - y) * size[0]);
      }
    }
  }
  auto& geometry = volume.geometry;
  for (std::size_t row = 0; row < 3; ++row) {
    double& cosine = geometry.direction[3 * row + axis];
    geometry.origin[row] += cosine * geometry.spacing[axis] * static_cast<double>(size[axis] - 1);
    cosine = -cosine;
  }
}

template <class T>
void orient(io::Volume<T>& volume, const CaseStyle& style) {
  if (style.flip_x) flip(volume, 0);
  if (style.flip_y) flip(volume, 1);
}

NiftiStyle draw_file_style(FileConventions::Types types, const std::vector<NiftiStyle>& varied,
                           NiftiType plain, Random& random) {
  const auto drawn = static_cast<std::size_t>(random.integer(std::ssize(varied)));
  switch (types) {
    case FileConventions::Types::kInt16:
      return styled(NiftiType::kInt16);
    case FileConventions::Types::kVaried:
      return varied[drawn];
    case FileConventions::Types::kPlain:
      break;
  }
  return styled(plain);
}

std::string extension_text() {
  std::string text = "Synthetic: a phantom made by segmamba-data, not a patient.";
  text.resize(kExtensionBytes - kExtensionPrefix, ' ');
  return text;
}

}  // namespace

void write_phantom(const fs::path& output, Phantom phantom, const FileConventions& conventions,
                   Random& random) {
  const bool is_old = conventions.brats2020;
  const std::string name =
      is_old ? concat("BraTS20_Training_", split(phantom.name, '-')[2]) : phantom.name;
  const fs::path folder = output / name;
  make_folders(folder);
  remove_stale_temporaries(folder);
  const auto path = [&](const std::string& ending) {
    return folder / concat(name, is_old ? "_" : "-", ending, ".nii.gz");
  };
  // In the order of kBratsChannels.
  constexpr std::array<const char*, 4> kOldChannels = {"t1", "t1ce", "t2", "flair"};

  const CaseStyle case_style = draw_case_style(conventions, random);
  for (std::size_t m = 0; m < phantom.images.size(); ++m) {
    io::Image& image = phantom.images[m];
    orient(image, case_style);
    NiftiStyle style =
        draw_file_style(conventions.types, image_styles(), NiftiType::kFloat32, random);
    style.cosine_errors = case_style.cosine_errors;
    if (conventions.extension) style.extension = extension_text();
    io::write_image(path(is_old ? kOldChannels[m] : kBratsChannels[m]), image, style);
  }

  io::LabelMap& labels = phantom.labels;
  orient(labels, case_style);
  if (is_old) {
    constexpr std::uint8_t kOldEnhancing = 4;
    std::replace(labels.voxels.begin(), labels.voxels.end(), static_cast<std::uint8_t>(kEnhancing),
                 kOldEnhancing);
  }
  NiftiStyle style = draw_file_style(conventions.types, label_styles(), NiftiType::kUint8, random);
  style.cosine_errors = case_style.cosine_errors;
  io::write_labels(path("seg"), labels, style);
}

FileConventions parse_conventions(const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const auto& [name, conventions] : known_conventions()) known.push_back(name);
  FileConventions result;
  for (const std::string& name : names) {
    if (name == "none") {
      if (names.size() > 1) throw UsageError("the convention 'none' stands alone");
      continue;
    }
    const auto found = known_conventions().find(name);
    if (found == known_conventions().end()) {
      const std::string near = nearest(name, known);
      throw UsageError(concat("there is no convention '", name, "'",
                              near.empty() ? "" : concat(" (did you mean '", near, "'?)"),
                              "; known: none, ", join(known, ", ")));
    }
    const FileConventions& one = found->second;
    if (one.types != FileConventions::Types::kPlain) {
      if (result.types != FileConventions::Types::kPlain && result.types != one.types) {
        throw UsageError("the conventions int16 and dtypes exclude each other; choose one");
      }
      result.types = one.types;
    }
    result.extension |= one.extension;
    result.cosines |= one.cosines;
    result.orientation |= one.orientation;
    result.brats2020 |= one.brats2020;
  }
  return result;
}

PhantomConfig phantom_profile(const std::string& name) {
  if (name != "brats2023") {
    throw UsageError(concat("there is no profile '", name, "'; known: brats2023"));
  }
  PhantomConfig config;
  config.size = {155, 240, 240};
  config.conventions = parse_conventions({"int16", "extension"});
  return config;
}

}  // namespace segmamba::data
