#pragma once
// Which prediction belongs to which reference: by the case's name, whatever the files are called.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace segmamba::eval {

// The label files of each case under `root`, by case name; several where a case is doubled. Found
// are, with any of the usual suffixes (-seg, _pred, _label, _mask, ... or none),
//   <case>-seg.nii.gz   <case>/<case>-seg.nii.gz   <case>/seg.nii.gz   labelsTr/<case>.nii.gz
// (or .nii); `root` may also be one case's folder, one file, or a CSV list of cases
// (data/case_table.h). Modality files of BraTS (-t1n, _flair, ...) and hidden files are passed
// over. Throws Error where `root` does not exist or holds no case.
std::map<std::string, std::vector<std::filesystem::path>> find_label_files(
    const std::filesystem::path& root);

// "BraTS-GLI-00001-000" for BraTS-GLI-00001-000-seg.nii.gz; "" for what is not a label file.
std::string case_of_label_file(const std::filesystem::path& path);

}  // namespace segmamba::eval
