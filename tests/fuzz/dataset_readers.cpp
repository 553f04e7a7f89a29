#include <algorithm>

#include "readers.h"
#include "scratch.h"
#include "segmamba/core/hash.h"
#include "segmamba/data/cache.h"
#include "segmamba/data/dataset.h"
#include "segmamba/eval/pairing.h"

namespace segmamba::fuzz {
namespace {

namespace fs = std::filesystem;
using data::Labels;

void survey(const fs::path& root, const std::string& layout) {
  data::DatasetConfig config;
  config.root = root.string();
  config.layout = layout;
  Calls call;
  call([&] { data::survey_dataset(config, Labels::kRequired); });
  call([&] { data::open_dataset(config, Labels::kOptional); });
  call([&] {
    config.channels = {};
    config.classes = {};
    data::survey_dataset(config, Labels::kOptional);
  });
  call.finish();
}

// Beside the files of two cases.
void read_dataset_json(std::string_view input) {
  static const bool kReady = [] {
    empty_folder("raw");
    for (const auto* name : {"raw/imagesTr", "raw/labelsTr"})
      fs::create_directory(scratch() / name);
    for (const auto* name :
         {"imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/b_0000.nii.gz",
          "imagesTr/c.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "labelsTr/c.nii.gz"}) {
      scratch_file(std::string("raw/") + name, "");
    }
    return true;
  }();
  static_cast<void>(kReady);
  scratch_file("raw/dataset.json", input);
  Calls call;
  for (const auto* layout : {"nnunet", "decathlon"}) {
    call([&] { survey(scratch() / "raw", layout); });
  }
  call.finish();
}

// The names of files, a line each, in a folder; "/" makes folders. What would lead out of the
// folder, or is no name for the system, is left out.
void make_files(const fs::path& root, std::string_view input) {
  for (const auto& line : lines(input, 24)) {
    const fs::path name = line;
    const auto leads_out = [](const fs::path& part) { return part == ".."; };
    if (name.empty() || name.is_absolute() || line.find('\0') != std::string::npos ||
        line.size() > 200 || std::any_of(name.begin(), name.end(), leads_out)) {
      continue;
    }
    std::error_code ignored;
    fs::create_directories((root / name).parent_path(), ignored);
    const bool is_free = fs::is_directory((root / name).parent_path(), ignored) &&
                         !fs::exists(root / name, ignored) && name.has_filename();
    if (is_free) scratch_file((root / name).string(), "");
  }
}

void read_folder_names(std::string_view input) {
  const auto root = empty_folder("names");
  make_files(root, input);
  Calls call;
  for (const auto* layout : {"auto", "brats", "nnunet-files", "dicom"}) {
    call([&] { survey(root, layout); });
  }
  call([&] { eval::find_label_files(root); });
  call([&] { data::find_case_folders(root); });
  call.finish();
}

// CHANNEL=PATH, names of classes, and values with their classes.
void read_dataset_words(std::string_view input) {
  data::DatasetConfig config;
  config.root = empty_folder("empty").string();
  const auto words = parts(input, 3);
  const auto names = lines(words[0], 16);
  Calls call;
  call([&] { data::dataset_of_files(config, "case", names); });
  for (const auto& name : names) {
    data::canonical_class(name);
    data::patient_of(name);
    eval::case_of_label_file(name);
  }
  data::viewing_order(names);
  if (words.size() > 1) config.classes = lines(words[1], 300);
  if (words.size() > 2) config.label_map = lines(words[2], 16);
  call([&] { data::survey_dataset(config, Labels::kOptional); });
  call.finish();
}

template <class Number>
std::string bytes_of(const Number& number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

// The header of a prepared case as JSON, and its voxels behind the cut: the harness adds what
// stands before them, with the header's length and hash, and the space between.
void read_prepared_case(std::string_view input) {
  constexpr std::size_t kAlignment = 4096;
  const auto texts = parts(input, 2);
  const auto hash = hash_bytes(texts[0].data(), texts[0].size());
  std::string file = "SEGMCASE" + bytes_of(std::uint64_t{texts[0].size()}) + bytes_of(hash.high) +
                     bytes_of(hash.low);
  file += texts[0];
  file.resize((file.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
  if (texts.size() > 1) file += texts[1];
  data::map_prepared(scratch_file("prepared.case", file));
}

void read_prepared_bytes(std::string_view input) {
  data::map_prepared(scratch_file("bytes.case", input));
}

// settings.json and manifest.json.
void read_cache_folder(std::string_view input) {
  const auto folder = empty_folder("cache");
  const auto texts = parts(input, 2);
  scratch_file("cache/settings.json", texts[0]);
  scratch_file("cache/manifest.json", texts.back());
  Calls call;
  call([&] { data::cache_bytes(folder); });
  call([&] {
    const auto dataset =
        data::cached_dataset(folder, data::kBratsChannels, data::kBratsClasses, Labels::kOptional);
    const data::Cache cache(folder, dataset, {});
    for (const auto& item : dataset.cases) cache.open(item.name);
  });
  call.finish();
  data::remove_cache(folder);
}

}  // namespace

std::vector<Reader> dataset_readers() {
  return {
      {"dataset_json", "json", read_dataset_json},
      {"folder_names", "names", read_folder_names},
      {"dataset_words", "names", read_dataset_words},
      {"prepared_case", "json", read_prepared_case},
      {"prepared_bytes", "json", read_prepared_bytes},
      {"cache_folder", "json", read_cache_folder},
  };
}

}  // namespace segmamba::fuzz
