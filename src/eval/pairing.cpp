#include "segmamba/eval/pairing.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::string_view, 2> kSuffixes = {".nii.gz", ".nii"};
constexpr std::array<std::string_view, 4> kModalities = {"-t1n", "-t1c", "-t2w", "-t2f"};
constexpr std::string_view kSegmentation = "-seg";

// "BraTS-GLI-00001-000" for BraTS-GLI-00001-000-seg.nii.gz; "" for what is not a label file.
std::string case_of_file(const fs::path& path) {
  std::string name = path.filename().string();
  if (starts_with(name, ".")) return "";
  const auto suffix = std::find_if(kSuffixes.begin(), kSuffixes.end(),
                                   [&](std::string_view end) { return ends_with(name, end); });
  if (suffix == kSuffixes.end()) return "";
  name.resize(name.size() - suffix->size());
  for (const std::string_view modality : kModalities) {
    if (ends_with(name, modality)) return "";
  }
  if (ends_with(name, kSegmentation)) name.resize(name.size() - kSegmentation.size());
  return name;
}

class LabelFiles {
 public:
  void add(const std::string& name, const fs::path& path) {
    const auto [place, is_new] = files_.try_emplace(name, path);
    if (!is_new) {
      throw Error(concat("case ", name, " has two label files, ", place->second.string(), " and ",
                         path.string(), "; keep one of them"));
    }
  }
  // The files that a case's own folder may hold.
  void add_folder(const fs::path& folder, const std::string& name) {
    for (const std::string_view segmentation : {kSegmentation, std::string_view()}) {
      for (const std::string_view suffix : kSuffixes) {
        const fs::path path = folder / concat(name, segmentation, suffix);
        if (fs::is_regular_file(path)) add(name, path);
      }
    }
  }
  bool empty() const { return files_.empty(); }
  std::map<std::string, fs::path> take() { return std::move(files_); }

 private:
  std::map<std::string, fs::path> files_;
};

}  // namespace

std::map<std::string, fs::path> find_label_files(const fs::path& root) {
  if (!fs::exists(root)) throw Error(concat(root.string(), " does not exist"));
  LabelFiles files;
  if (fs::is_regular_file(root)) {
    const std::string name = case_of_file(root);
    files.add(name.empty() ? root.filename().string() : name, root);
    return files.take();
  }
  // A trailing slash would leave the name empty.
  const fs::path folder = fs::canonical(root);
  files.add_folder(root, folder.filename().string());
  if (!files.empty()) return files.take();
  for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
    if (entry.is_directory()) {
      files.add_folder(entry.path(), entry.path().filename().string());
    } else if (const std::string name = case_of_file(entry.path()); !name.empty()) {
      files.add(name, entry.path());
    }
  }
  if (files.empty()) {
    throw Error(concat("no cases in ", root.string(),
                       ": looked for CASE.nii.gz, CASE-seg.nii.gz and CASE/CASE-seg.nii.gz"));
  }
  return files.take();
}

Pairing pair_cases(const fs::path& prediction, const fs::path& reference) {
  const auto predictions = find_label_files(prediction);
  const auto references = find_label_files(reference);
  Pairing pairing;
  if (fs::is_regular_file(prediction) && fs::is_regular_file(reference)) {
    pairing.pairs = {{references.begin()->first, prediction, reference}};
    return pairing;
  }
  for (const auto& [name, path] : references) {
    const auto found = predictions.find(name);
    if (found == predictions.end()) {
      pairing.missing.push_back(name);
    } else {
      pairing.pairs.push_back({name, found->second, path});
    }
  }
  for (const auto& [name, path] : predictions) {
    if (!references.contains(name)) pairing.without_reference.push_back(name);
  }
  return pairing;
}

}  // namespace segmamba::eval
