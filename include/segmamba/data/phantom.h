#pragma once
// Synthetic BraTS2023-like cases for demonstrations and tests: a skull-stripped brain with folded
// cortex, ventricles and a glioma, in four modalities. Tissues overlap in every single modality, so
// that a tumour shows by its contrasts together and by its place, not by a threshold.

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "segmamba/io/volume.h"

namespace segmamba::data {

struct PhantomConfig {
  std::int64_t cases = 12;
  std::array<std::int64_t, 3> size{64, 64, 64};  // [D, H, W], each at least 32
  std::uint64_t seed = 0;
};

struct Phantom {
  std::string name;                 // "BraTS-GLI-90000-000"
  std::array<io::Image, 4> images;  // t1n, t1c, t2w, t2f; whole numbers >= 0, 0 outside the brain
  io::LabelMap labels;              // 0 background, 1 necrosis, 2 oedema, 3 enhancing tumour
};

// Case `index` of a data set. It depends on the seed, the size and the index alone, not on
// `config.cases`. The brain keeps its proportions and scales with the size. 1 mm voxels.
// Throws Error where the size is below 32 or above 1024, or the index does not fit the name.
Phantom make_phantom(const PhantomConfig& config, std::int64_t index);

// Writes OUTPUT/BraTS-GLI-9NNNN-000/BraTS-GLI-9NNNN-000-{t1n,t1c,t2w,t2f,seg}.nii.gz, several
// cases at a time (core/parallel.h); the same bits on any number of threads. `progress`, where
// given, is called with the number of cases done, one call at a time. Throws Error.
void write_phantoms(const std::filesystem::path& output, const PhantomConfig& config,
                    const std::function<void(std::int64_t done)>& progress = {});

}  // namespace segmamba::data
