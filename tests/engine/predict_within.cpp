// Segments one made-up case within a hard limit of memory, and tells how much it took, as JSON.
//   predict_within D H W CHANNELS OUTPUTS WINDOW HARD_MB labels|maps SOFT_MB
// Both limits are of what comes on top of a process that has LibTorch loaded. SOFT_MB is the one
// that the predictor is told of (0: none); it plans eight windows a pass.
#include <sys/resource.h>
#include <torch/torch.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "models.h"
#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/engine/predictor.h"

namespace {

using namespace segmamba;

// A line of /proc/self/status, in bytes.
std::int64_t status(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    std::int64_t kilobytes = 0;
    if (word == key + ":" && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// Output k is 1 where the image's first channel is k.
struct ValueModel : nn::SegmentationModel {
  explicit ValueModel(std::int64_t count) : outputs(count) {}
  Tensors compute(torch::Tensor input, bool) override {
    auto sizes = input.sizes().vec();
    sizes[1] = outputs;
    auto logits = torch::empty(sizes);
    for (std::int64_t k = 0; k < outputs; ++k) {
      auto logit = logits.select(1, k);
      at::eq_out(logit, input.select(1, 0), k);
    }
    return {logits};
  }
  std::int64_t outputs;
};

data::PreparedCase make_case(const data::Index3& size, std::int64_t channels,
                             std::int64_t outputs) {
  data::PreparedCase item;
  item.name = "case";
  item.geometry.size = {size[2], size[1], size[0]};
  item.crop_size = item.size = size;
  item.channels = channels;
  auto voxels = std::make_shared<std::vector<Half>>(channels * data::volume_of(size));
  for (std::size_t i = 0; i < voxels->size(); i += channels) {
    (*voxels)[i] = to_half(static_cast<float>(i / channels / 7 % outputs));
  }
  item.image = *voxels;
  item.storage = voxels;
  return item;
}

engine::TrainConfig config_of(std::int64_t outputs, std::int64_t window) {
  engine::TrainConfig config;
  config.model.in_channels = 1;  // for the memory of a pass: the smallest there is
  config.model.out_channels = outputs;
  config.model.segmamba.dims = {1};
  config.model.segmamba.depths = {1};
  config.model.segmamba.hidden_size = 1;
  config.data.classes.assign(static_cast<std::size_t>(outputs), "class");
  config.data.patch_size = {window, window, window};
  config.inference.mirror_axes = {};
  config.inference.overlap = 0.25;
  config.inference.sw_batch_size = 16;
  return config;
}

Json run(char** argv) {
  const auto number = [&](int i) { return std::stoll(argv[i]); };
  const auto channels = number(4), outputs = number(5);
  const bool maps = std::string(argv[8]) == "maps";
  constexpr std::int64_t kMega = 1'000'000;
  const auto model = std::make_shared<ValueModel>(outputs);
  const auto predict = [&](const data::PreparedCase& item, std::int64_t window,
                           std::int64_t limit) {
    const engine::Predictor predictor({model}, config_of(outputs, window),
                                      {.device = "cpu", .precision = "fp32", .limits = {limit, 0}});
    return predictor.predict(item, {.probabilities = maps, .uncertainty = maps});
  };
  predict(make_case({8, 8, 8}, channels, outputs), 8, 0);  // loads what is loaded at first use

  const auto resident = status("VmRSS");
  const auto hard = static_cast<rlim_t>(status("VmData") + number(7) * kMega);
  const rlimit limit{hard, hard};
  if (setrlimit(RLIMIT_DATA, &limit) != 0) throw Error("setrlimit failed");
  const auto soft = number(9) == 0 ? 0 : resident + number(9) * kMega;
  const data::Index3 size = {number(1), number(2), number(3)};
  const auto item = make_case(size, channels, outputs);
  const auto prediction = predict(item, number(6), soft);
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < prediction.labels.voxels.size(); ++i) {
    wrong += prediction.labels.voxels[i] == i / 7 % static_cast<std::size_t>(outputs) ? 0 : 1;
  }
  return {{"wrong_voxels", wrong},
          {"peak_mb", (status("VmHWM") - resident) / kMega},
          {"notes", prediction.notes}};
}

}  // namespace

int main(int, char** argv) {
  try {
    std::cout << run(argv) << "\n";
  } catch (const Error& error) {
    std::cout << Json{{"error", error.what()}} << "\n";
  }
}
