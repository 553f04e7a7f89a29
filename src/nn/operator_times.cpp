#include "segmamba/nn/operator_times.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>

namespace segmamba::nn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// LibTorch takes plain functions as callbacks, on the thread that runs the model.
struct Recording {
  std::map<std::string, OperatorTime> operators;
  int depth = 0;
};
thread_local Recording* recording = nullptr;

struct Call : at::ObserverContext {
  Clock::time_point start = Clock::now();
};

std::unique_ptr<at::ObserverContext> on_enter(const at::RecordFunction&) {
  ++recording->depth;
  return std::make_unique<Call>();
}

void on_exit(const at::RecordFunction& function, at::ObserverContext* context) {
  if (--recording->depth > 0) return;
  auto& entry = recording->operators[function.name()];
  entry.seconds += seconds_since(static_cast<Call*>(context)->start);
  ++entry.calls;
}

}  // namespace

ForwardTimes time_forward(SegmentationModel& model, const torch::Tensor& input) {
  const c10::InferenceMode inference;
  Recording record;
  ForwardTimes times;
  recording = &record;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(on_enter, on_exit).scopes({at::RecordScope::FUNCTION}));
  const auto start = Clock::now();
  try {
    model.forward(input);
  } catch (...) {
    at::removeCallback(handle);
    throw;
  }
  times.seconds = seconds_since(start);
  at::removeCallback(handle);
  for (auto& [name, entry] : record.operators) {
    entry.name = name;
    times.operators.push_back(entry);
  }
  std::sort(times.operators.begin(), times.operators.end(),
            [](const OperatorTime& a, const OperatorTime& b) { return a.seconds > b.seconds; });
  return times;
}

}  // namespace segmamba::nn
