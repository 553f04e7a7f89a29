#pragma once
// Segments whole volumes with trained models. Free of LibTorch, so that a program that only
// segments compiles without it.

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "segmamba/core/half.h"
#include "segmamba/data/prepared_case.h"
#include "segmamba/engine/inference_memory.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/io/volume.h"

namespace at {
class Tensor;
}
namespace segmamba::nn {
class SegmentationModel;
}

namespace segmamba::engine {

// Thrown out of a prediction that was cancelled.
struct Interrupted {};

struct PredictorOptions {
  std::string device = "auto";  // auto (a GPU where there is one), cpu, cuda, cuda:1
  // fp32, tf32, bf16, fp16, or auto: bf16 where the device is faster in it, else fp32. Whether a
  // GPU multiplies in TF32 is the process's to say (see set_tf32), so that fp32 and tf32 are one
  // here.
  std::string precision = "auto";
  // Of a checkpoint: average (their running average where there is one), trained, or both, as two
  // models.
  std::string weights = "average";
  MemoryLimits limits = {};  // of one prediction at a time
  // Has the last word on the config that load() has read: config.inference, or another window in
  // config.data.patch_size.
  std::function<void(TrainConfig& config)> configure = {};
};

struct PredictionRequest {
  bool probabilities = false, uncertainty = false;
  // Called from the thread that called predict(), after each forward pass; 0 to 1.
  std::function<void(double share)> on_progress = {};
  // Asked before each forward pass; true ends the prediction with Interrupted.
  std::function<bool()> cancelled = {};
};

// Voxels lie in the grid of the case's files, x fastest.
struct Prediction {
  std::string name;
  io::LabelMap labels;               // classes, by their place in data.classes
  std::vector<std::string> outputs;  // of the model: data.classes, or the names of data.regions
  // One map an output. Outside of the case's crop all is background.
  std::vector<std::vector<Half>> probabilities;
  // In nats, of the members' probabilities p_m in a voxel (a member is a model, a mirroring and a
  // window) with their mean p: the entropy H(p) = -sum_k p_k ln p_k, and how far the members
  // disagree, H(p) - mean of H(p_m), their mutual information (Houlsby et al., arXiv 1112.5745;
  // over mirrorings Wang et al., arXiv 1807.07356). Of regions, which may overlap: the means of
  // their binary entropies. Where preparing has resampled the case: H of the resampled p, and the
  // resampled disagreement. 0 <= disagreement <= entropy, but for the rounding to 16 bits.
  std::vector<Half> entropy, disagreement;
  // What was done to keep within the memory, a sentence each; results do not depend on it.
  std::vector<std::string> notes;
};

// One model or an ensemble. Every member (a model and a mirroring of inference.mirror_axes) sees
// every window of a volume; inference.average says what is averaged. Calls of one Predictor may run
// at the same time, in any threads, and give the same bits as one after another.
class Predictor {
 public:
  // The models of these checkpoints of segmamba-train, whose `inference` section is that of the
  // first. Throws Error where a file is damaged, or where the checkpoints disagree in channels,
  // classes, regions, preprocessing or patch size, naming the key and both files.
  static Predictor load(const std::vector<std::filesystem::path>& checkpoints,
                        const PredictorOptions& options = {});

  // Models that are there, and may go on to train between predictions. Of the config it reads
  // `inference`, `preprocess`, `model` (for the memory it takes) and of `data` the patch size (the
  // window), classes and regions. Models are moved to the device.
  Predictor(std::vector<std::shared_ptr<nn::SegmentationModel>> models, const TrainConfig& config,
            const PredictorOptions& options = {});

  const TrainConfig& config() const;
  // "cuda:0", "bf16": what `auto` stands for.
  std::string device() const;
  std::string precision() const;
  std::int64_t model_count() const;
  const MemoryLimits& limits() const;

  // Throws Error where memory does not suffice, and where scores are not finite.
  Prediction predict(const data::PreparedCase& item, const PredictionRequest& request = {}) const;
  // Of images on one grid: {{"t1n", path}, ...}, all of data.channels. Throws Error as
  // prepare_files() too.
  Prediction predict_files(const std::map<std::string, std::filesystem::path>& images,
                           const PredictionRequest& request = {}) const;
  // These images as predict() takes them; for reading one case while another is predicted. Throws
  // Error naming the channel or the file that is missing, unknown, damaged or of another grid.
  data::PreparedCase prepare_files(
      const std::map<std::string, std::filesystem::path>& images) const;

  // Labels of a prepared case in its own grid, [D, H, W].
  std::vector<std::uint8_t> segment_prepared(const data::PreparedCase& item,
                                             const std::function<bool()>& cancelled = {}) const;
  // Labels of one window [1, C, D, H, W] as it is, by the first model without mirroring; [D, H, W].
  std::vector<std::uint8_t> segment_window(const at::Tensor& window) const;

 private:
  class Impl;
  explicit Predictor(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

// Throws Error naming `key` where `window` does not suit the model.
void check_window(const nn::SegmentationModel& model, std::array<std::int64_t, 3> window,
                  const std::string& key);

}  // namespace segmamba::engine
