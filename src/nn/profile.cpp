#include "segmamba/nn/profile.h"

#include <ATen/SequenceNumber.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>

namespace segmamba::nn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Gradient functions that a thread made, by their sequence numbers, in a part.
struct Made {
  std::uint64_t thread;
  std::int64_t begin, end;
  std::string part;
};

// LibTorch takes plain functions as callbacks; the backward pass calls them on threads of its own.
struct Recording {
  explicit Recording(const torch::Device& on) : device(on) {}

  torch::Device device;
  std::mutex mutex;
  std::map<std::tuple<std::string, std::string, bool>, OperatorTime> operators;
  std::vector<Made> made;

  void wait() const {
    if (device.is_cuda()) torch::cuda::synchronize(device.index());
  }
};
Recording* recording = nullptr;

// Where a thread is.
struct Position {
  std::string part;
  bool backward = false;
  int depth = 0;  // of operators
};
thread_local Position position;

// Of an operator's arguments, which are gone when it has ended.
struct Arguments {
  std::vector<std::vector<std::int64_t>> sizes;  // of tensors, {} for others
  bool transposed = false;                       // of a convolution's backward pass
  double bytes = 0;
  const void* memory = nullptr;  // of the first tensor

  double numel(std::size_t i) const {
    double product = 1;
    for (const auto size : sizes[i]) product *= static_cast<double>(size);
    return product;
  }
  bool has_tensor(std::size_t i) const { return sizes.size() > i && !sizes[i].empty(); }
};

struct Call : at::ObserverContext {
  Clock::time_point start;
  Position before = position;
  std::int64_t sequence = 0;
  Arguments arguments;
};

std::string part_of(std::uint64_t thread, std::int64_t sequence) {
  const std::lock_guard lock(recording->mutex);
  // The last one first: parts that are computed again have numbers of their own.
  for (auto made = recording->made.rbegin(); made != recording->made.rend(); ++made) {
    if (made->thread == thread && made->begin <= sequence && sequence < made->end) {
      return made->part;
    }
  }
  return position.part;
}

double bytes(const c10::IValue& value) {
  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    return tensor.defined() ? static_cast<double>(tensor.nbytes()) : 0;
  }
  double sum = 0;
  if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorList()) sum += bytes(tensor);
  } else if (value.isTuple()) {
    for (const auto& element : value.toTupleRef().elements()) sum += bytes(element);
  }
  return sum;
}

Arguments arguments_of(const at::RecordFunction& function) {
  Arguments arguments;
  const auto inputs = function.inputs();
  for (const auto& input : inputs) {
    arguments.bytes += bytes(input);
    const bool is_tensor = input.isTensor() && input.toTensor().defined();
    if (is_tensor && arguments.memory == nullptr && input.toTensor().has_storage()) {
      arguments.memory = input.toTensor().storage().data();
    }
    arguments.sizes.push_back(is_tensor ? input.toTensor().sizes().vec()
                                        : std::vector<std::int64_t>());
  }
  constexpr std::size_t kTransposed = 7;  // of aten::convolution_backward
  arguments.transposed =
      inputs.size() > kTransposed && inputs[kTransposed].isBool() && inputs[kTransposed].toBool();
  return arguments;
}

// From the shapes of arguments and result.
double multiply_adds(const std::string& name, const Arguments& in,
                     c10::ArrayRef<c10::IValue> outputs) {
  const auto has = [&name](const char* part) { return name.find(part) != std::string::npos; };
  // Of the first result.
  const auto results = [&] {
    return !outputs.empty() && outputs[0].isTensor() && outputs[0].toTensor().defined()
               ? static_cast<double>(outputs[0].toTensor().numel())
               : 0;
  };
  const auto filter = [&](std::size_t i) {
    return in.numel(i) / static_cast<double>(in.sizes[i][0]);
  };
  if (name == "aten::convolution_backward" && in.has_tensor(2)) {
    // A filter for each output, transposed for each input; once for the data, once for the weights.
    const auto count = std::count_if(outputs.begin(), outputs.end(), [](const c10::IValue& output) {
      return output.isTensor() && output.toTensor().defined() && output.toTensor().dim() > 1;
    });
    return in.numel(in.transposed ? 1 : 0) * filter(2) * static_cast<double>(count);
  }
  const bool is_packed = name == "mkldnn::_convolution_pointwise";
  if ((has("aten::conv") || is_packed) && in.has_tensor(1)) {
    return (has("transpose") ? in.numel(0) : results()) * filter(1);
  }
  if ((name == "aten::mm" || name == "aten::bmm" || name == "aten::linear" ||
       name == "aten::matmul") &&
      in.has_tensor(0)) {
    return results() * static_cast<double>(in.sizes[0].back());
  }
  if (name == "aten::addmm" && in.has_tensor(1)) {
    return results() * static_cast<double>(in.sizes[1].back());
  }
  return 0;
}

// The engine's own record around each gradient function, which has one of its own.
bool is_of_engine(const at::RecordFunction& function) {
  return std::string_view(function.name()).substr(0, 16) == "autograd::engine";
}

std::unique_ptr<at::ObserverContext> on_enter(const at::RecordFunction& function) {
  if (is_of_engine(function)) return nullptr;
  auto call = std::make_unique<Call>();
  switch (function.scope()) {
    case at::RecordScope::USER_SCOPE:
      call->sequence = static_cast<std::int64_t>(at::sequence_number::peek());
      position.part = function.name();
      position.backward = false;
      break;
    case at::RecordScope::BACKWARD_FUNCTION:
      position.part = part_of(function.forwardThreadId(), function.seqNr());
      position.backward = true;
      break;
    default:
      if (++position.depth > 1) break;
      call->arguments = arguments_of(function);
      recording->wait();
  }
  call->start = Clock::now();
  return call;
}

// Whether the result is the first argument's memory, untouched.
bool is_view(const std::string& name, const Arguments& in, c10::ArrayRef<c10::IValue> outputs) {
  if (name.ends_with('_') || outputs.size() != 1 || !outputs[0].isTensor()) return false;
  const auto& tensor = outputs[0].toTensor();
  return tensor.defined() && tensor.has_storage() && in.memory != nullptr &&
         tensor.storage().data() == in.memory;
}

void on_exit(const at::RecordFunction& function, at::ObserverContext* context) {
  if (context == nullptr) return;
  auto& call = *static_cast<Call*>(context);
  if (function.scope() == at::RecordScope::USER_SCOPE) {
    const std::lock_guard lock(recording->mutex);
    recording->made.push_back({at::RecordFunction::currentThreadId(), call.sequence,
                               static_cast<std::int64_t>(at::sequence_number::peek()),
                               position.part});
  } else if (function.scope() == at::RecordScope::FUNCTION && position.depth == 1) {
    recording->wait();
    const double seconds = seconds_since(call.start);
    const std::string name = function.name();
    double moved = call.arguments.bytes;
    for (const auto& output : function.outputs()) moved += bytes(output);
    if (is_view(name, call.arguments, function.outputs())) moved = 0;
    const std::lock_guard lock(recording->mutex);
    auto& entry = recording->operators[{name, position.part, position.backward}];
    entry.seconds += seconds;
    ++entry.calls;
    entry.bytes += moved;
    entry.multiply_adds += multiply_adds(name, call.arguments, function.outputs());
  }
  position = std::move(call.before);
}

}  // namespace

Profile profile(const torch::Device& device, const std::function<void()>& work) {
  Recording record(device);
  recording = &record;
  const auto handle =
      at::addGlobalCallback(at::RecordFunctionCallback(on_enter, on_exit)
                                .needsInputs(true)
                                .needsOutputs(true)
                                .scopes({at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE,
                                         at::RecordScope::BACKWARD_FUNCTION}));
  Profile result;
  const auto start = Clock::now();
  try {
    work();
    record.wait();
  } catch (...) {
    at::removeCallback(handle);
    throw;
  }
  result.seconds = seconds_since(start);
  at::removeCallback(handle);
  for (auto& [key, entry] : record.operators) {
    std::tie(entry.name, entry.part, entry.backward) = key;
    result.operators.push_back(entry);
  }
  std::sort(result.operators.begin(), result.operators.end(),
            [](const OperatorTime& a, const OperatorTime& b) { return a.seconds > b.seconds; });
  return result;
}

}  // namespace segmamba::nn
