#include "segmamba/engine/predictor.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

#include "prediction_maps.h"
#include "predictor_impl.h"
#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/classes.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/out_of_memory.h"
#include "segmamba/nn/cost.h"
#include "segmamba/nn/inference.h"
#include "slice_resampler.h"

namespace segmamba::engine {
namespace {

// [C, D, H, W] over the voxels of the case.
torch::Tensor image_of(const data::PreparedCase& item) {
  // from_blob wants a mutable pointer; nothing writes through it.
  return torch::from_blob(const_cast<Half*>(item.image.data()),
                          {item.size[0], item.size[1], item.size[2], item.channels}, torch::kHalf)
      .permute({3, 0, 1, 2});
}

std::vector<std::string> output_names(const TrainConfig& config,
                                      const std::vector<data::Region>& regions) {
  if (regions.empty()) return config.data.classes;
  std::vector<std::string> names;
  names.reserve(regions.size());
  for (const auto& region : regions) names.push_back(region.name);
  return names;
}

// Of float32, which is the most that any precision takes.
std::int64_t pass_bytes_of(const std::vector<nn::ModelConfig>& architectures,
                           std::array<std::int64_t, 3> window, torch::DeviceType device) {
  static std::mutex mutex;  // the count is the whole process's
  const std::scoped_lock lock(mutex);
  std::int64_t most = 0;
  for (const auto& model : architectures) {
    const auto cost =
        nn::forward_cost(model, {1, model.in_channels, window[0], window[1], window[2]}, device);
    most = std::max(most, cost.peak_bytes);
  }
  return most;
}

// Tells share after share, and whether to stop.
class Course {
 public:
  Course(const PredictionRequest& request, std::int64_t passes) : request_(request), all_(passes) {}

  void before_pass() const {
    if (request_.cancelled && request_.cancelled()) throw Interrupted{};
  }
  // Of a batch that is under way, which may be tried again.
  void tell(double passes) {
    const auto share = (static_cast<double>(done_) + passes) / static_cast<double>(all_);
    if (share <= told_) return;
    told_ = share;
    if (request_.on_progress) request_.on_progress(share);
  }
  void finish(std::int64_t passes) { done_ += passes; }

 private:
  const PredictionRequest& request_;
  std::int64_t all_, done_ = 0;
  double told_ = 0;
};

}  // namespace

namespace {

// A window of the config must be one that the machine can hold at all, with its scores.
void check_window_fits(const std::array<std::int64_t, 3>& window, std::int64_t channels,
                       std::int64_t outputs) {
  double bytes = static_cast<double>(sizeof(float)) * static_cast<double>(channels + outputs);
  for (const auto size : window) bytes *= static_cast<double>(size);
  const auto available = available_memory();
  if (bytes <= static_cast<double>(available)) return;
  throw Error(concat("data.patch_size is [", join(window, ", "), "]: a window takes ",
                     format_bytes(static_cast<std::uint64_t>(bytes)), ", and this machine has ",
                     format_bytes(available), " left: take a smaller one"));
}

}  // namespace

Predictor::Impl::Impl(WindowScores::Models models,
                      const std::vector<nn::ModelConfig>& architectures, TrainConfig config,
                      const PredictorOptions& options, Owner owner)
    : models_(std::move(models)),
      config_(std::move(config)),
      window_(config_.patch_size()),
      regions_(data::parse_regions(config_.data.regions, config_.data.classes)),
      outputs_(output_names(config_, regions_)),
      device_(select_device(options.device)),
      precision_(inference_precision(options.precision, device_)),
      scores_(models_, config_.inference.mirror_axes,
              prepares(owner) ? std::nullopt : autocast_type(precision_), device_,
              /*weights_change=*/owner == Owner::kCaller),
      limits_(options.limits),
      most_windows_(config_.inference.sw_batch_size) {
  if (models_.empty()) throw Error("there is no model to segment with");
  check_window_fits(window_, std::ssize(config_.data.channels), std::ssize(outputs_));
  for (const auto& model : models_) {
    check_window(*model, window_, "data.patch_size");
    model->to(device_);
    if (prepares(owner)) {
      nn::prepare_for_inference(*model, autocast_type(precision_).value_or(torch::kFloat));
    }
  }
  if (limits_.host > 0 || limits_.device > 0) {
    pass_bytes_ = pass_bytes_of(architectures, window_, device_.type());
  }
  if (limits_.device > 0) limit_device_memory(device_, limits_.device);
}

void Predictor::Impl::leave_training() const {
  // Written only where it changes something: others may be predicting.
  for (const auto& model : models_) {
    if (model->is_training()) model->eval();
  }
}

WindowMemory Predictor::Impl::memory_for(const data::PreparedCase& item, const ScoreKind& kind,
                                         const PredictionRequest& request) const {
  const std::int64_t most_windows = most_windows_;
  const bool sums_on_device = !device_.is_cpu() && sums_fit_;
  const auto place = [&](bool on_host) { return on_host ? torch::kCPU : device_; };
  if (limits_.host == 0 && limits_.device == 0) return {most_windows, place(!sums_on_device)};
  const auto& grid = item.geometry.size;
  const auto outputs = std::ssize(outputs_);
  const InferenceTask task{.window = window_,
                           .prepared = item.size,
                           .crop = item.crop_size,
                           .grid = {grid[2], grid[1], grid[0]},
                           .channels = item.channels,
                           .outputs = outputs,
                           .score_channels = kind.channels(outputs),
                           .probabilities = request.probabilities,
                           .uncertainty = request.uncertainty,
                           .on_gpu = !device_.is_cpu(),
                           .pass_bytes = pass_bytes_};
  const auto plan = plan_inference(task, limits_,
                                   {.host = resident_bytes(), .device = device_bytes_held(device_)},
                                   most_windows);
  return {plan.window_batch, place(plan.sums_on_host || !sums_on_device)};
}

void Predictor::Impl::stream(const data::PreparedCase& item, const ScoreKind& kind,
                             const PredictionRequest& request, const WindowMemory& memory,
                             const SliceSink& sink, std::vector<std::string>& notes) const {
  SlidingWindow options(config_.inference, window_);
  options.padding = item.outside;
  options.batch_size = memory.batch_size;
  options.sums = memory.sums;
  const auto windows_in_all = window_count(item.size, window_, options.overlap);
  Course course(request, windows_in_all * scores_.passes());
  const auto scores_of = [&](const torch::Tensor& windows) {
    const auto batch = windows.size(0);
    std::int64_t passes = 0;
    auto scores = scores_(windows, kind, [&] {
      course.tell(static_cast<double>(passes++ * batch));
      course.before_pass();
    });
    course.tell(static_cast<double>(passes * batch));
    course.finish(passes * batch);
    return scores;
  };
  const auto step = std::max<std::int64_t>(1, kChunkVoxels / (item.size[1] * item.size[2]));
  const auto in_chunks = [&](const torch::Tensor& scores, std::int64_t first) {
    for (std::int64_t z = 0; z < scores.size(1); z += step) {
      const auto chunk = scores.narrow(1, z, std::min(step, scores.size(1) - z));
      kind.finish_uncertainty(chunk);
      sink(chunk, first + z);
    }
  };
  const auto ended = slide_windows(image_of(item), options, scores_of, in_chunks,
                                   [&](const std::string& what) { notes.push_back(what); });
  if (ended.batch_size < memory.batch_size) most_windows_ = ended.batch_size;
  if (ended.sums.is_cpu() && !memory.sums.is_cpu()) sums_fit_ = false;
}

Prediction Predictor::Impl::predict(const data::PreparedCase& item,
                                    const PredictionRequest& request) const {
  const c10::InferenceMode inference;
  leave_training();
  const ScoreKind kind{.is_regions = !regions_.empty(),
                       .is_probability = config_.inference.average == "probabilities",
                       .with_uncertainty = request.uncertainty};
  const auto memory = memory_for(item, kind, request);
  Prediction prediction;
  prediction.name = item.name;
  prediction.outputs = outputs_;
  try {
    PredictionMaps maps(item, kind, std::ssize(outputs_), regions_,
                        {request.probabilities, request.uncertainty});
    const SliceSink to_maps = [&](const torch::Tensor& scores, std::int64_t first) {
      maps.add(scores, first);
    };
    SliceResampler resampler(item.size, item.crop_size, to_maps);
    const auto sink = [&](const torch::Tensor& scores, std::int64_t first) {
      // One pass over the scores, where isfinite() of each would take several.
      if (!std::isfinite(scores.sum().item<float>())) {
        throw Error(concat("case ", item.name, ": the model's scores are not finite",
                           autocast_type(precision_) ? "; compute in fp32" : ""));
      }
      if (item.size == item.crop_size) {
        to_maps(scores, first);
      } else {
        resampler.add(scores);
      }
    };
    stream(item, kind, request, memory, sink, prediction.notes);
    prediction.labels = {item.geometry, std::move(maps.labels)};
    prediction.probabilities = std::move(maps.probabilities);
    prediction.entropy = std::move(maps.entropy);
    prediction.disagreement = std::move(maps.disagreement);
  } catch (const std::exception& error) {
    const auto exhausted = exhausted_memory(error);
    if (!exhausted) throw;
    throw Error(concat("case ", item.name, ": ",
                       *exhausted == Memory::kHost || device_.is_cpu()
                           ? "this machine"
                           : concat("the GPU ", device_.str()),
                       " is out of memory: ", ways_to_need_less(window_)));
  }
  return prediction;
}

std::vector<std::uint8_t> Predictor::Impl::segment_prepared(
    const data::PreparedCase& item, const std::function<bool()>& cancelled) const {
  const c10::InferenceMode inference;
  leave_training();
  const ScoreKind kind{.is_regions = !regions_.empty(),
                       .is_probability = config_.inference.average == "probabilities"};
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(data::volume_of(item.size)));
  std::vector<std::string> notes;
  const auto sink = [&](const torch::Tensor& scores, std::int64_t first) {
    const auto classes = classes_of(scores, regions_, kind.threshold()).cpu().contiguous();
    std::copy_n(classes.const_data_ptr<std::uint8_t>(), classes.numel(),
                labels.begin() + first * item.size[1] * item.size[2]);
  };
  PredictionRequest request;
  request.cancelled = cancelled;
  stream(item, kind, request, memory_for(item, kind, request), sink, notes);
  return labels;
}

std::vector<std::uint8_t> Predictor::Impl::segment_window(const torch::Tensor& window) const {
  const c10::InferenceMode inference;
  leave_training();
  const auto logits = scores_.logits(0, window.to(device_));
  const auto classes = classes_of(logits, regions_, /*threshold=*/0).cpu().contiguous();
  const auto* first = classes.const_data_ptr<std::uint8_t>();
  return {first, first + classes.numel()};
}

Predictor::Predictor(std::vector<std::shared_ptr<nn::SegmentationModel>> models,
                     const TrainConfig& config, const PredictorOptions& options)
    : impl_(std::make_shared<Impl>(std::move(models), std::vector{config.model}, config, options,
                                   Owner::kCaller)) {}

Predictor::Predictor(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

const TrainConfig& Predictor::config() const { return impl_->config(); }
std::string Predictor::device() const { return impl_->device().str(); }
std::string Predictor::precision() const { return to_string(impl_->precision()); }
std::int64_t Predictor::model_count() const { return impl_->model_count(); }
const MemoryLimits& Predictor::limits() const { return impl_->limits(); }

Prediction Predictor::predict(const data::PreparedCase& item,
                              const PredictionRequest& request) const {
  return impl_->predict(item, request);
}

Prediction Predictor::predict_files(const std::map<std::string, std::filesystem::path>& images,
                                    const PredictionRequest& request) const {
  return predict(prepare_files(images), request);
}

std::vector<std::uint8_t> Predictor::segment_prepared(
    const data::PreparedCase& item, const std::function<bool()>& cancelled) const {
  return impl_->segment_prepared(item, cancelled);
}

std::vector<std::uint8_t> Predictor::segment_window(const at::Tensor& window) const {
  return impl_->segment_window(window);
}

void check_window(const nn::SegmentationModel& model, std::array<std::int64_t, 3> window,
                  const std::string& key) {
  if (const auto misfit = model.input_sizes().misfit(window)) {
    throw Error(concat(key, " is [", join(window, ", "), "]: ", *misfit));
  }
}

}  // namespace segmamba::engine
