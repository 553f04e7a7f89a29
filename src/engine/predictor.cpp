#include "segmamba/engine/predictor.h"

#include <algorithm>
#include <string>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/precision.h"
#include "segmamba/engine/sliding_window.h"

namespace segmamba::engine {
namespace {

// Every subset of `axes` (0..2 of [D, H, W]) as dimensions of [B, C, D, H, W], the empty one first.
std::vector<std::vector<std::int64_t>> subsets(const std::vector<std::int64_t>& axes) {
  std::vector<std::vector<std::int64_t>> all = {{}};
  for (const auto axis : axes) {
    const std::size_t count = all.size();
    for (std::size_t i = 0; i < count; ++i) {
      auto larger = all[i];
      larger.push_back(axis + 2);
      all.push_back(std::move(larger));
    }
  }
  return all;
}

std::vector<std::uint8_t> to_labels(const torch::Tensor& classes) {
  const auto labels = classes.cpu().contiguous();
  const auto* first = labels.data_ptr<std::uint8_t>();
  return {first, first + labels.numel()};
}

}  // namespace

torch::Tensor classes_of(const torch::Tensor& scores, const std::vector<data::Region>& regions,
                         double threshold) {
  constexpr std::int64_t kOutputs = -4;  // the dimension of outputs
  if (regions.empty()) return scores.argmax(kOutputs).to(torch::kUInt8);
  auto classes = torch::zeros_like(scores.select(kOutputs, 0), torch::kUInt8);
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const auto score = scores.select(kOutputs, static_cast<std::int64_t>(i));
    classes.masked_fill_(score > threshold, regions[i].painted);
  }
  return classes;
}

void check_window(const nn::SegmentationModel& model, std::array<std::int64_t, 3> window,
                  const std::string& key) {
  for (const auto size : window) {
    if (size % model.size_multiple() != 0) {
      throw Error(concat(key, " is [", join(window, ", "), "]: each size must be a multiple of ",
                         model.size_multiple(), " for this model"));
    }
  }
}

Predictor::Predictor(std::shared_ptr<nn::SegmentationModel> model, const TrainConfig& config,
                     torch::Device device)
    : model_(std::move(model)),
      config_(config.inference),
      window_(config.patch_size()),
      regions_(data::parse_regions(config.data.regions, config.data.classes)),
      device_(device),
      mirrors_(subsets(config.inference.mirror_axes)) {
  check_window(*model_, window_, "data.patch_size");
  model_->to(device_);
}

torch::Tensor Predictor::scores_of(const torch::Tensor& windows) const {
  if (stop_ != nullptr && *stop_) throw Interrupted{};
  const Autocast autocast(device_, autocast_type_);
  // Windows are added up in float32.
  return model_->forward(windows).to(windows.scalar_type());
}

torch::Tensor Predictor::predict_windows(const torch::Tensor& windows) const {
  const auto input = windows.to(device_);
  torch::Tensor sum;
  for (const auto& axes : mirrors_) {
    auto scores = scores_of(axes.empty() ? input : input.flip(axes));
    if (config_.average == "probabilities") {
      scores = regions_.empty() ? scores.softmax(1) : scores.sigmoid();
    }
    if (!axes.empty()) scores = scores.flip(axes);
    sum = sum.defined() ? sum + scores : scores;
  }
  return sum / static_cast<double>(mirrors_.size());
}

torch::Tensor Predictor::predict(const torch::Tensor& image,
                                 const std::vector<float>& outside) const {
  const c10::InferenceMode inference;
  model_->eval();
  auto options = SlidingWindow(config_, window_);
  options.padding = outside;
  return sliding_window(image, options,
                        [this](const torch::Tensor& windows) { return predict_windows(windows); });
}

torch::Tensor Predictor::predict_prepared(const data::PreparedCase& item) const {
  // from_blob wants a mutable pointer; nothing writes through it.
  const auto image =
      torch::from_blob(const_cast<Half*>(item.image.data()),
                       {item.size[0], item.size[1], item.size[2], item.channels}, torch::kHalf);
  return predict(image.to(torch::kFloat).permute({3, 0, 1, 2}).contiguous(), item.outside);
}

std::vector<std::uint8_t> Predictor::segment_window(const torch::Tensor& window) const {
  const c10::InferenceMode inference;
  model_->eval();
  const auto logits = scores_of(window.to(device_)).squeeze(0);
  return to_labels(engine::classes_of(logits, regions_, /*threshold=*/0));
}

std::vector<std::uint8_t> Predictor::classes_of(const torch::Tensor& scores) const {
  const double threshold = config_.average == "probabilities" ? 0.5 : 0;
  return to_labels(engine::classes_of(scores, regions_, threshold));
}

std::vector<std::uint8_t> Predictor::segment_prepared(const data::PreparedCase& item) const {
  const c10::InferenceMode inference;
  return classes_of(predict_prepared(item));
}

io::LabelMap Predictor::segment(const data::PreparedCase& item) const {
  const c10::InferenceMode inference;
  auto scores = predict_prepared(item);
  if (item.size != item.crop_size) {
    // Its voxels have the faces of the crop, as data/resample.h does it.
    scores = at::upsample_trilinear3d(scores.unsqueeze(0), item.crop_size, /*align_corners=*/false)
                 .squeeze(0);
  }
  return paste_crop(item, classes_of(scores));
}

io::LabelMap paste_crop(const data::PreparedCase& item, const std::vector<std::uint8_t>& labels) {
  io::LabelMap full{item.geometry, {}};
  full.voxels.assign(static_cast<std::size_t>(item.geometry.voxel_count()), 0);
  const auto [width, height] = std::array{item.geometry.size[0], item.geometry.size[1]};
  const auto& [depth, rows, columns] = item.crop_size;
  for (std::int64_t z = 0; z < depth; ++z) {
    for (std::int64_t y = 0; y < rows; ++y) {
      const auto row = labels.begin() + (z * rows + y) * columns;
      const auto target =
          ((z + item.crop_begin[0]) * height + y + item.crop_begin[1]) * width + item.crop_begin[2];
      std::copy(row, row + columns, full.voxels.begin() + target);
    }
  }
  return full;
}

}  // namespace segmamba::engine
