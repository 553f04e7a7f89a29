#pragma once
// What a run computes in: float32, TF32, or mixed precision by autocast.

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace segmamba::engine {

// The values of training.precision.
enum class Precision { kFloat32, kTf32, kBfloat16, kFloat16 };

// Throws Error on any other name, and on tf32 where `device` is no GPU.
Precision parse_precision(const std::string& name, const torch::Device& device);
// The same for inference: "auto" is bf16 on a device that is faster in it, else fp32; tf32 is fp32
// on a CPU. Throws Error on any other name.
Precision inference_precision(const std::string& name, const torch::Device& device);
std::string to_string(Precision precision);

// Lets the GPU multiply float32 with TF32's 10 bits of mantissa, or not, in the whole process.
// LibTorch's own default is a mixture: convolutions may, matrix products may not.
void set_tf32(bool allowed);

// While it lives, operators on `device` compute in `type` where that is safe, as torch.autocast:
// convolutions, matrix products and the projections of scans in 16 bits, the states of scans,
// norms' statistics and losses in float32. Without a type it does nothing.
class Autocast {
 public:
  Autocast(const torch::Device& device, std::optional<torch::ScalarType> type);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  torch::DeviceType device_;
  bool is_on_;
  bool was_enabled_ = false;
  torch::ScalarType previous_ = torch::kFloat;
};

// The type of Autocast; none for kFloat32 and kTf32.
std::optional<torch::ScalarType> autocast_type(Precision precision);

// Scales the loss so that small gradients do not vanish in 16-bit floats: halved after each step
// whose gradients overflowed, doubled after 2000 without one (as torch.amp.GradScaler, over the
// same operators). Switched off it scales by 1.
class GradientScaler {
 public:
  GradientScaler(bool is_on, const torch::Device& device);

  torch::Tensor scaled(const torch::Tensor& loss) const;
  // Divides the gradients by the scale, whether they are finite or not.
  void unscale(const std::vector<torch::Tensor>& gradients);
  // After each step, with what unscale() has found.
  void update();

  // A scalar on the device.
  torch::Tensor scale() const;
  // What a checkpoint holds.
  struct State {
    double scale = 1;
    std::int64_t good_steps = 0;  // since the scale was changed
  };
  State state() const;
  void load(const State& state);

 private:
  bool is_on_;
  torch::Tensor scale_, good_steps_, found_infinite_;
};

}  // namespace segmamba::engine
