#pragma once
// Where the time of a computation goes.

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace segmamba::nn {

// All calls of an operator in one part, in one direction.
struct OperatorTime {
  std::string name;  // as LibTorch names it: "aten::conv3d", "segmamba::mamba_inner"
  std::string part;  // of a network (SegmentationModel::parts()) or of the caller; "": none
  bool backward = false;
  double seconds = 0;
  std::int64_t calls = 0;
  double multiply_adds = 0;  // of convolutions and matrix products; 0: not known
  double bytes = 0;          // of the tensors that it takes and gives
};

struct Profile {
  double seconds = 0;                   // of all the work, wall clock
  std::vector<OperatorTime> operators;  // slowest first; calls inside other operators not counted
};

// Runs `work`, which may span a forward and a backward pass; what autograd does counts for the part
// whose gradients it forms. A caller names parts of its own by RECORD_USER_SCOPE. On a GPU each
// operator is waited for, so that its time is the device's, and the sum longer than without.
Profile profile(const torch::Device& device, const std::function<void()>& work);

}  // namespace segmamba::nn
