#pragma once
// Where the time of a forward pass goes.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/nn/model.h"

namespace segmamba::nn {

struct OperatorTime {
  std::string name;  // as LibTorch names it: "aten::conv3d", "segmamba::selective_scan_directions"
  double seconds = 0;
  std::int64_t calls = 0;
};

struct ForwardTimes {
  double seconds = 0;                   // of the whole pass, wall clock
  std::vector<OperatorTime> operators;  // slowest first; calls inside other operators not counted
};

// One forward pass without gradients. Meant for CPU tensors: work queued on a GPU is not waited
// for. Throws as the model's forward.
ForwardTimes time_forward(SegmentationModel& model, const torch::Tensor& input);

}  // namespace segmamba::nn
