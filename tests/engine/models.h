#pragma once
// Models whose answers are known, and cases for them.

#include <torch/torch.h>

#include <atomic>
#include <utility>
#include <vector>

#include "segmamba/data/preprocess.h"
#include "segmamba/nn/model.h"

namespace segmamba::test {

// Gives back its input.
struct IdentityModel : nn::SegmentationModel {
  Tensors compute(torch::Tensor input, bool) override { return {input.clone()}; }
};

// Channel k of the logits is 1 where the input rounds to k.
struct LabelModel : nn::SegmentationModel {
  LabelModel() : SegmentationModel({.multiple = {4, 4, 4}}) {}
  Tensors compute(torch::Tensor input, bool) override {
    ++calls;
    const auto classes = torch::arange(4).view({1, 4, 1, 1, 1});
    return {(input.narrow(1, 0, 1).round() == classes).to(torch::kFloat)};
  }
  std::atomic<int> calls = 0;
};

// Its output depends on the place in the window, not on the input.
struct RampModel : nn::SegmentationModel {
  Tensors compute(torch::Tensor input, bool) override {
    return {torch::arange(input.size(4), torch::kFloat)
                .expand({input.size(0), 1, input.size(2), input.size(3), input.size(4)})};
  }
};

// The same logits everywhere.
struct ConstantModel : nn::SegmentationModel {
  explicit ConstantModel(std::vector<float> values) : logits(std::move(values)) {}
  Tensors compute(torch::Tensor input, bool) override {
    return {torch::tensor(logits)
                .view({1, std::ssize(logits), 1, 1, 1})
                .expand({input.size(0), std::ssize(logits), input.size(2), input.size(3),
                         input.size(4)})};
  }
  std::vector<float> logits;
};

// A model of regions: output r is positive where the label that the input rounds to is in region r.
struct RegionModel : nn::SegmentationModel {
  Tensors compute(torch::Tensor input, bool) override {
    const auto label = input.narrow(1, 0, 1).round();
    const auto core = (label == 1) | (label == 3);
    return {torch::cat({label > 0, core, label == 3}, 1).to(torch::kFloat) * 6 - 2};
  }
};

// A case of this image [C, D, H, W], not cropped and not normalised.
inline data::PreparedCase case_of(const torch::Tensor& image) {
  data::RawCase raw;
  raw.name = "case";
  raw.geometry.size = {image.size(3), image.size(2), image.size(1)};
  const auto values = image.to(torch::kFloat).contiguous();
  const auto voxels = values[0].numel();
  for (std::int64_t c = 0; c < image.size(0); ++c) {
    const auto* first = values.data_ptr<float>() + c * voxels;
    raw.channels.emplace_back(first, first + voxels);
  }
  data::PreprocessConfig config;
  config.crop_to_nonzero = false;
  config.normalise = "statistics";
  config.means.assign(raw.channels.size(), 0);
  config.deviations.assign(raw.channels.size(), 1);
  return data::prepare_case(std::move(raw), config);
}

}  // namespace segmamba::test
