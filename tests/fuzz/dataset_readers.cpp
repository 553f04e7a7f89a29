#include <algorithm>

#include "inference_report.h"
#include "readers.h"
#include "scratch.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/data/cache.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/restore.h"
#include "segmamba/data/sampler.h"
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

// What training and inference index by the numbers of a case that was mapped.
void use_prepared(const data::PreparedCase& item) {
  constexpr int kDraws = 8;
  constexpr std::int64_t kMostVoxels = 1 << 16;
  const data::Index3 patch = {2, 3, 4};
  const std::vector<bool> is_foreground(static_cast<std::size_t>(item.classes), true);
  data::SamplingConfig sampling;
  sampling.foreground_fraction = 1;
  Calls call;
  for (const auto* foreground : {"each", "all"}) {
    sampling.foreground = foreground;
    call([&] {
      Random random(1);
      for (int i = 0; i < kDraws; ++i) {
        const auto place = data::draw_place(item, patch, sampling, is_foreground, random);
        for (std::size_t axis = 0; axis < 3; ++axis) {
          const auto end = place[axis] + patch[axis];
          require(patch[axis] > item.size[axis] || (place[axis] >= 0 && end <= item.size[axis]),
                  "a patch sticks out of a case that is larger");
        }
      }
    });
  }
  if (item.geometry.voxel_count() <= kMostVoxels) {
    call([&] {
      const std::vector<std::uint8_t> slices(
          static_cast<std::size_t>(data::volume_of(item.crop_size)), 1);
      std::vector<std::uint8_t> full(static_cast<std::size_t>(item.geometry.voxel_count()), 0);
      data::restore_slices<std::uint8_t>(item, 0, slices, full);
      require(std::count(full.begin(), full.end(), 1) == std::ssize(slices),
              "not every voxel of the crop has a place of its own");
    });
  }
  call.finish();
}

// The header of a prepared case as JSON, its image and its labels behind cuts: the harness adds
// what stands before them, with the header's length and hash, and the space between, and in the
// header the hash of the voxels for "x".
void read_prepared_case(std::string_view input) {
  constexpr std::size_t kAlignment = 4096;
  constexpr std::string_view kHash = R"("x")";
  auto texts = parts(input, 3);
  texts.resize(3);
  const auto image = texts[1], labels = texts[2];
  const auto hash_of = [](std::string_view bytes) {
    return hash_bytes(bytes.data(), bytes.size());
  };
  std::string header(texts[0]);
  if (const auto at = header.find(kHash); at != std::string::npos) {
    header.replace(at, kHash.size(),
                   concat('"', hash_of(image).to_string(), '-', hash_of(labels).to_string(), '"'));
  }
  const auto hash = hash_of(header);
  std::string file = "SEGMCASE" + bytes_of(std::uint64_t{header.size()}) + bytes_of(hash.high) +
                     bytes_of(hash.low);
  for (const std::string_view part : {std::string_view(header), image}) {
    file += part;
    file.resize((file.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
  }
  file += labels;
  use_prepared(data::map_prepared(scratch_file("prepared.case", file)));
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

// report.json of an earlier run of inference, by a run that goes on with it and keeps every case.
void read_inference_report(std::string_view input) {
  engine::InferenceRunOptions options;
  options.folder = empty_folder("inference");
  options.page = false;
  scratch_file("inference/report.json", input);
  engine::InferenceReport report(options);
  report.worth_keeping();
  for (const auto& name : report.earlier_cases()) {
    report.earlier_seconds(name);
    report.add({.name = name, .state = engine::CaseState::kKept});
  }
  report.write({});
  // What was written may have more keys than a file of JSON may have, but only of a large file.
  constexpr std::size_t kLargest = 1 << 16;
  if (input.size() > kLargest) return;
  const engine::InferenceReport again(options);
  require(again.earlier_cases() == report.earlier_cases(), "other cases are read back");
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
      {"inference_report", "json", read_inference_report},
  };
}

}  // namespace segmamba::fuzz
