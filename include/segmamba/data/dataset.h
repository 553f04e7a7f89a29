#pragma once
// Data sets in the layouts that people have, as one list of cases with channels and classes in the
// order of the config.
//
//   brats         a folder a case with a file a channel:
//                 BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1n.nii.gz
//                 (2023 and later: GLI, SSA, PED, MEN, MET, MEN-RT with -gtv; before:
//                 NAME_flair.nii.gz)
//   nnunet        dataset.json, imagesTr/NAME_0000.nii.gz, labelsTr/NAME.nii.gz (nnU-Net raw, v1
//                 and v2)
//   nnunet-files  NAME_0000.nii.gz ... in one folder without a dataset.json, as nnU-Net predicts:
//                 channel i is the i-th of the config
//   decathlon     dataset.json with a list of 4-D images and labels (Medical Segmentation
//                 Decathlon)
//   dicom         a folder a case with a folder of DICOM files (one series) a channel: NAME/t1c,
//                 NAME/FLAIR
//   csv           a table with a row a case: columns case, patient (optional), one a channel,
//                 labels; paths relative to the table's folder
//
// Where a layout names the file of a channel, that may be a folder of DICOM files, too.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/io/volume.h"

namespace segmamba::data {

// Label values of BraTS.
inline constexpr int kNecrosis = 1, kOedema = 2, kEnhancing = 3;
inline const std::vector<std::string> kBratsChannels = {"t1n", "t1c", "t2w", "t2f"};
inline const std::vector<std::string> kBratsClasses = {"background", "necrosis", "oedema",
                                                       "enhancing"};

// data.layout.
inline const std::vector<std::string> kLayouts = {"auto",      "brats", "nnunet", "nnunet-files",
                                                  "decathlon", "dicom", "csv"};

// Section `data` of a config, as far as it describes files. Programs that need names alone may
// leave channels or classes empty: cases then have no images, and values are not mapped.
struct DatasetConfig {
  std::string root;             // a folder, a dataset.json or a CSV file
  std::string layout = "auto";  // one of kLayouts
  std::vector<std::string> channels = kBratsChannels;
  std::vector<std::string> classes = kBratsClasses;
  std::vector<std::string> label_map =
      {};  // "4=enhancing" or "4=3": a value of the files and its class

  void visit(ConfigVisitor& visitor);
};

// A channel of a case: a file (or a folder of DICOM files), and which of its volumes where the
// layout has 4-D files; goes into io::read_image() as it is.
struct ChannelFile {
  std::filesystem::path path;
  std::int64_t volume = io::kOnlyVolume;
};

struct Case {
  std::string name;                 // "BraTS-GLI-00001-000"
  std::string patient;              // "BraTS-GLI-00001": groups a split
  std::vector<ChannelFile> images;  // one a channel, in the config's channel order
  std::filesystem::path labels;     // empty where there is none
};

// Which class a value in a label file stands for.
class ClassMap {
 public:
  static constexpr std::uint8_t kNone = 255;

  ClassMap() { classes_.fill(kNone); }
  void set(std::uint8_t value, std::uint8_t class_index) { classes_[value] = class_index; }
  // kNone where the value is not in the map.
  std::uint8_t operator[](std::uint8_t value) const { return classes_[value]; }
  // The values in it, for messages: "0 to 3 and 10".
  std::string values() const;

 private:
  std::array<std::uint8_t, 256> classes_{};
};

struct Dataset {
  std::string layout;                 // as found: brats, nnunet, ...
  std::vector<std::string> channels;  // of the config
  std::vector<std::string> classes;
  ClassMap class_map;
  std::vector<Case> cases;  // sorted by name
};

enum class Labels { kOptional, kRequired };

// Something that keeps a case, or the whole set, from being what the config asks for.
struct DatasetProblem {
  std::string case_name;  // "" where it is about the whole set
  std::string message;
};

// A data set with all that is wrong with its files, for those who list rather than stop.
struct DatasetSurvey {
  Dataset dataset;  // with empty paths for the files that are missing
  // Files, or cases at all, folders that cannot be read or have a name that no case can have; by
  // case.
  std::vector<DatasetProblem> missing;
  std::vector<DatasetProblem> ignored;  // what lies there and is not taken; by case
};

// Finds the cases and maps their channels and labels by name: "FLAIR" is t2f, "T1Gd" is t1c,
// "edema" is oedema, and label values follow dataset.json where there is one (of regions in it, a
// class is what a region has beyond the smaller ones inside: the rest of the whole tumour is
// oedema, that of the core necrosis). Elsewhere values are those of BraTS where all classes are
// (necrosis 1, oedema 2, enhancing 3, resection cavity 4, and 4 is enhancing, too, as in releases
// before 2023, where all three are classes and there is no cavity); otherwise value i is class i.
// Entries of label_map come last and win. Reads no image. Throws Error naming file and line where a
// name is unknown or a table malformed, with the line to put into the config where that is at
// fault.
DatasetSurvey survey_dataset(const DatasetConfig& config, Labels labels);
// The same for those who need it whole: throws Error also where a file is missing or there is no
// case.
Dataset open_dataset(const DatasetConfig& config, Labels labels);

// A data set of one case from "CHANNEL=PATH" for each channel of the config, in any order and
// spelling of the names ("T1ce=a.nii.gz"), without labels. Root and layout of the config are not
// read. Throws Error naming the channel that is unknown, given twice or not at all, or the file
// that does not exist.
Dataset dataset_of_files(const DatasetConfig& config, const std::string& case_name,
                         const std::vector<std::string>& files);

// Folders NAME with a file NAME-*.nii.gz or .nii (or NAME_*, as before BraTS 2023): `root` itself
// where it is one, else those in it, sorted. Throws Error where `root` is no folder, or a folder in
// it cannot be read.
std::vector<std::filesystem::path> find_case_folders(const std::filesystem::path& root);

// The name that a class goes by here: "NCR" and "non-enhancing tumour" are "necrosis", "edema" is
// "oedema"; names that no rule knows come back in lower case without spaces and hyphens.
std::string canonical_class(const std::string& name);

// The places of channels in the order in which they are looked at: t1c, where enhancing tumour
// stands out; t2f, where oedema does; then the others as they are. Names may be spelt in any way.
std::vector<std::size_t> viewing_order(const std::vector<std::string>& channels);

// The longest name of a file has 255 bytes (NAME_MAX of Linux). Of the files that are named after a
// case, the lock of a cache has the most around it (".CASE.case-lock"), and a label map four bytes
// less (".nii.gz"); temporary files have short names of their own.
inline constexpr std::size_t kLongestCaseName = 255 - std::string_view("..case-lock").size();
// Whether a case can have this name: files are named after it, and it is told on terminals, where
// control characters have no business.
bool is_case_name(const std::string& name);

// The patient of a case: its name without the number of the visit, where it ends in two numbers
// ("BraTS-GLI-00001-000" is of "BraTS-GLI-00001"); otherwise the name itself.
std::string patient_of(const std::string& case_name);

}  // namespace segmamba::data
