#pragma once
// Synthetic BraTS2023-like cases for demonstrations and tests: a skull-stripped brain with folded
// cortex, ventricles and a glioma of one or several lesions, in four modalities. Tissues overlap in
// every single modality, so that a tumour shows by its contrasts together and by its place, not by
// a threshold.

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "segmamba/io/volume.h"

namespace segmamba::data {

// How the files of a data set are written. The voxels that read_image and read_labels give are the
// same in all of them, but for the orientation and the label of enhancing tumour.
struct FileConventions {
  enum class Types {
    kPlain,   // float32 images, uint8 labels
    kInt16,   // int16 images and labels, as in BraTS
    kVaried,  // integers and floats, some of them scaled by the header, drawn for every file
  };
  Types types = Types::kPlain;
  bool extension = false;    // images: a header extension, so that the voxels begin at byte 2880
  bool cosines = false;      // sforms that are orthonormal to 1e-5 ... 1e-4 only, drawn for a case
  bool orientation = false;  // rows to the left or right, front or back, drawn for every case
  bool brats2020 = false;    // BraTS20_Training_9NNNN_{t1,t1ce,t2,flair,seg}, label 4 for 3

  bool operator==(const FileConventions&) const = default;
};

// "int16", "dtypes" (varied), "extension", "cosines", "orientation", "brats2020"; "none" alone.
// Throws UsageError.
FileConventions parse_conventions(const std::vector<std::string>& names);

struct PhantomConfig {
  std::int64_t cases = 12;
  std::array<std::int64_t, 3> size{64, 64, 64};  // [D, H, W], each at least 32
  std::uint64_t seed = 0;
  FileConventions conventions{};  // of write_phantoms
};

// The size and conventions of a data set of the field. "brats2023": 155x240x240 [D, H, W], int16,
// header extension. Throws UsageError for an unknown name.
PhantomConfig phantom_profile(const std::string& name);

enum class LesionKind {
  kRingEnhancing,  // necrosis with an enhancing rim, in oedema
  kNonEnhancing,   // the whole core is labelled necrosis (1: necrosis or non-enhancing core)
  kOedema,         // no core
  kEnhancingSpot,  // small, and all of it enhances
};

// The voxels that a lesion has at least.
inline constexpr std::int64_t kSmallestLesion = 50;

// One connected component of the labels.
struct Lesion {
  LesionKind kind = LesionKind::kRingEnhancing;
  std::array<std::int64_t, 3> centre{};                  // [z, y, x]: one of its voxels
  std::int64_t necrosis = 0, oedema = 0, enhancing = 0;  // voxels

  std::int64_t voxels() const { return necrosis + oedema + enhancing; }
};

struct Phantom {
  std::string name;                 // "BraTS-GLI-90000-000"
  std::array<io::Image, 4> images;  // t1n, t1c, t2w, t2f; whole numbers >= 0, 0 outside the brain
  io::LabelMap labels;              // 0 background, 1 necrosis, 2 oedema, 3 enhancing tumour
  // One to five, mostly one or two. The first is the largest, 5 to 10 % of the brain, and has
  // necrosis and oedema; the others have from kSmallestLesion voxels to about a fifth of it, many
  // of them few. No two touch.
  std::vector<Lesion> lesions;

  // False in about one case in seven: its lesions have label 3 nowhere.
  bool has_enhancing() const {
    return std::any_of(lesions.begin(), lesions.end(),
                       [](const Lesion& lesion) { return lesion.enhancing > 0; });
  }
};

// Case `index` of a data set. It depends on the seed, the size and the index alone, not on
// `config.cases` or `config.conventions`. The brain keeps its proportions and scales with the size.
// 1 mm voxels; rows run from right to left, and from front to back, as in BraTS.
// Throws Error where the size is below 32 or above 1024, or the index does not fit the name.
Phantom make_phantom(const PhantomConfig& config, std::int64_t index);

// Writes OUTPUT/BraTS-GLI-9NNNN-000/BraTS-GLI-9NNNN-000-{t1n,t1c,t2w,t2f,seg}.nii.gz, several
// cases at a time (core/parallel.h); the same bits on any number of threads. Other names with the
// convention brats2020. `progress`, where given, is called with the number of cases done, one call
// at a time. Throws Error.
void write_phantoms(const std::filesystem::path& output, const PhantomConfig& config,
                    const std::function<void(std::int64_t done)>& progress = {});

}  // namespace segmamba::data
