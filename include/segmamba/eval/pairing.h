#pragma once
// Which prediction belongs to which reference: by the case's name, whatever the files are called.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace segmamba::eval {

// The label file of each case under `root`, by case name. Found are
//   <case>.nii.gz   <case>-seg.nii.gz   <case>/<case>.nii.gz   <case>/<case>-seg.nii.gz
// (or .nii); `root` may also be one case's folder or one file. Modality files of BraTS (-t1n, -t1c,
// -t2w, -t2f) and hidden files are passed over. Throws Error where `root` does not exist, holds no
// case, or holds two files of one case.
std::map<std::string, std::filesystem::path> find_label_files(const std::filesystem::path& root);

struct CasePair {
  std::string name;
  std::filesystem::path prediction, reference;
};

struct Pairing {
  std::vector<CasePair> pairs;                 // by name
  std::vector<std::string> missing;            // references without a prediction
  std::vector<std::string> without_reference;  // predictions that nothing can be compared with
};

// Two single files are a pair whatever their names; the case takes the reference's.
Pairing pair_cases(const std::filesystem::path& prediction, const std::filesystem::path& reference);

}  // namespace segmamba::eval
