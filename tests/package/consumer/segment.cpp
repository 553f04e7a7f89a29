// The example of the README: segments one case in a C++ program.
#include <iostream>

#include "segmamba/core/error.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/predictor.h"

int main(int argc, char** argv) try {
  if (argc != 4) throw segmamba::Error("usage: segment CHECKPOINT CASE_FOLDER OUTPUT.nii.gz");
  const auto checkpoint = segmamba::engine::load_checkpoint(argv[1]);
  const auto config = segmamba::engine::checkpoint_config(checkpoint, argv[1]);
  const segmamba::engine::Predictor predictor(
      segmamba::engine::checkpoint_model(checkpoint, argv[1]), config, torch::kCPU);
  auto source = config.data;
  source.root = argv[2];
  const auto dataset = segmamba::data::open_dataset(source, segmamba::data::Labels::kOptional);
  for (const auto& item : dataset.cases) {
    const auto prepared = prepare_case(read_case(dataset, item), config.preprocess);
    segmamba::io::write_labels(argv[3], predictor.segment(prepared));
  }
} catch (const segmamba::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
