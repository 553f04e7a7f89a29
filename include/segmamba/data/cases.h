#pragma once
// BraTS-like data sets: a folder a case, a file a modality.

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/io/volume.h"

namespace segmamba::data {

// BraTS label values, and the regions that are scored.
inline constexpr int kNecrosis = 1, kOedema = 2, kEnhancing = 3;
inline const std::vector<std::string> kBratsChannels = {"t1n", "t1c", "t2w", "t2f"};

struct Case {
  std::string name;                           // "BraTS-GLI-00001-000"
  std::string patient;                        // "BraTS-GLI-00001": groups a split
  std::vector<std::filesystem::path> images;  // one a channel, in the config's channel order
  std::filesystem::path labels;               // empty where there is none
};

// The patient of a case: its name without the number of the visit, where it ends in two numbers
// ("BraTS-GLI-00001-000" is of "BraTS-GLI-00001"); otherwise the name itself.
std::string patient_of(const std::string& case_name);

// Folders NAME with a file NAME-*.nii.gz or .nii (or NAME_*, as before BraTS 2023): `root` itself
// where it is one, else those in it, sorted. Throws Error where `root` is no folder, or a folder in
// it cannot be read.
std::vector<std::filesystem::path> find_case_folders(const std::filesystem::path& root);
// The file of a channel (or of "seg") in a case's folder, also under its older name (t1, t1ce, t2,
// flair); empty where there is none.
std::filesystem::path find_case_file(const std::filesystem::path& folder,
                                     const std::string& channel);

// Every case folder under `root` (or `root` itself where it is one), sorted by name. Channels are
// found as NAME-CHANNEL.nii.gz or .nii. Throws Error where there is none or a file is missing.
std::vector<Case> find_cases(const std::filesystem::path& root,
                             const std::vector<std::string>& channels, bool need_labels);

// A case in memory. Spatial order [D, H, W] = [z, y, x].
struct CaseData {
  std::string name;
  io::Geometry geometry;  // of the whole input grid, (x, y, z)
  std::int64_t channels = 0;
  std::array<std::int64_t, 3> size{};    // of the crop, [D, H, W]
  std::array<std::int64_t, 3> offset{};  // of the crop in the full grid, [D, H, W]
  std::vector<float> image;              // [C, D, H, W], z-scored
  std::vector<std::uint8_t> labels;      // [D, H, W], 0..3; empty where the case has none
};

// Reads a case: all channels must share a grid; label 4 becomes 3 (ET of older releases) with a
// notice; crops to the box of non-zero voxels of any channel; z-scores each channel over the
// non-zero voxels (background stays 0). Throws Error naming case and file.
CaseData load_case(const Case& item);

}  // namespace segmamba::data
