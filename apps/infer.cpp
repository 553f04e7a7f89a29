// segmamba-infer: segments cases with a trained model.

#include <algorithm>

#include "app_main.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/core/progress.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/data/split.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/io/picture.h"
#include "segmamba/io/volume.h"

namespace {

using namespace segmamba;
namespace fs = std::filesystem;

struct Options {
  fs::path checkpoint, input, output, split, pictures;
  std::string part = "test", device = "auto";
  bool overwrite = false, skip_existing = false, no_tta = false;
  double overlap = -1;
  std::int64_t threads = 0, fold = -1;
};

// The cases to segment: those of --input, or of one part of the split, without those that
// --skip-existing leaves out.
data::Dataset chosen_cases(const Options& options, data::DatasetConfig config) {
  config.root = options.input.string();
  config.layout = "auto";
  auto dataset = data::open_dataset(config, data::Labels::kOptional);
  if (!options.split.empty()) {
    const auto split = data::read_split(options.split, options.fold);
    dataset.cases = data::select_cases(dataset.cases, data::split_part(split, options.part),
                                       options.split.string());
  }
  return dataset;
}

// Labels may be there, and damaged: they are not needed.
data::Case without_labels(data::Case item) {
  item.labels.clear();
  return item;
}

// The labels over the case's last channel, beside its reference where it has one.
void draw(const fs::path& path, const data::Dataset& dataset, const data::Case& item,
          const io::LabelMap& labels) {
  const auto background = io::read_image(item.images.back().path, item.images.back().volume);
  if (item.labels.empty()) {
    io::write_overlay_picture(path, background, nullptr, &labels);
  } else {
    auto reference = io::read_labels(item.labels);
    for (auto& label : reference.voxels) {
      const auto class_index = dataset.class_map[label];
      if (class_index != data::ClassMap::kNone) label = class_index;
    }
    io::write_overlay_picture(path, background, &reference, &labels);
  }
}

void infer(const Options& options) {
  engine::set_compute_threads(options.threads);
  const auto device = engine::select_device(options.device);
  const auto checkpoint = engine::load_checkpoint(options.checkpoint);
  auto config = engine::checkpoint_config(checkpoint, options.checkpoint);
  if (options.no_tta) config.inference.mirror_axes.clear();
  if (options.overlap >= 0.95) throw UsageError("--overlap must be below 0.95");
  if (options.overlap >= 0) config.inference.overlap = options.overlap;

  auto dataset = chosen_cases(options, config.data);
  auto& cases = dataset.cases;
  const auto target = [&](const data::Case& item) {
    return options.output / (item.name + ".nii.gz");
  };
  if (options.skip_existing) {
    std::erase_if(cases, [&](const data::Case& item) { return fs::exists(target(item)); });
  }
  for (const auto& item : cases) {
    if (!options.overwrite && fs::exists(target(item))) {
      throw Error(
          concat(target(item).string(), " exists: add --overwrite, or --skip-existing to keep it"));
    }
  }
  make_folders(options.output);
  remove_stale_temporaries(options.output);
  if (!options.pictures.empty()) make_folders(options.pictures);

  const engine::Predictor predictor(engine::checkpoint_model(checkpoint, options.checkpoint),
                                    config, device);
  log_info(concat("segmenting ", cases.size(), " cases on ", device.str(), " with ",
                  options.checkpoint.string()));
  Progress progress("segment", static_cast<std::int64_t>(cases.size()));
  for (std::size_t i = 0; i < cases.size(); ++i) {
    try {
      const auto labels = predictor.segment(data::prepare_case(
          data::read_case(dataset, without_labels(cases[i])), config.preprocess));
      if (!options.pictures.empty()) {
        draw(options.pictures / (cases[i].name + ".png"), dataset, cases[i], labels);
      }
      io::write_labels(target(cases[i]), labels);
    } catch (const Error& error) {
      const std::string what = error.what();
      const bool named = what.find(cases[i].name) != std::string::npos;
      throw Error(named ? what : concat(cases[i].name, ": ", what));
    }
    progress.update(static_cast<std::int64_t>(i) + 1, cases[i].name);
  }
}

}  // namespace

int main(int argc, char** argv) {
  using segmamba::apps::Need;
  Options options;
  segmamba::apps::CommandLine line(
      "segmamba-infer", "Segments cases with a trained model, in the grid of their input.",
      "Examples:\n"
      "  segmamba-infer --checkpoint runs/demo/checkpoints/best.pt --input cases --output labels\n"
      "  segmamba-infer --checkpoint best.pt --input cases --split runs/demo/split.yaml "
      "--part test --output labels\n"
      "Writes OUTPUT/<case>.nii.gz; label i is the i-th of the model's data.classes: of BraTS 1 "
      "necrosis, 2 oedema, 3 enhancing tumour.");
  line.option("--checkpoint,-m", options.checkpoint, "checkpoints/best.pt or last.pt of a run",
              Need::kRequired);
  line.option("--input,-i", options.input,
              "Cases: BraTS folders (or one), nnU-Net, Decathlon, a CSV file", Need::kRequired);
  line.option("--output,-o", options.output, "Folder for <case>.nii.gz", Need::kRequired);
  line.option("--pictures", options.pictures, "Folder for <case>.png: the labels over the image");
  line.option("--split", options.split, "Segment only the cases of one part of this split file");
  line.option("--part", options.part, "With --split: train, validation or test");
  line.option("--fold", options.fold, "With a split of folds: the fold that validates");
  line.option("--device", options.device, "auto, cpu, cuda or cuda:N");
  line.option("--threads", options.threads, "Threads that compute; 0: one a processor");
  line.option("--overlap", options.overlap, "Overlap of windows; below 0: the config's");
  line.flag("--no-tta", options.no_tta, "No mirroring: up to eight times faster, a little worse");
  line.flag("--overwrite", options.overwrite, "Replace files in the output folder");
  line.flag("--skip-existing", options.skip_existing, "Leave out cases that have their file");
  return line.run(argc, argv, [&] { infer(options); });
}
