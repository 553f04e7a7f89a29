#include "segmamba/nn/first_non_finite.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>

#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

bool is_finite(const torch::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_floating_point() || tensor.is_meta()) return true;
  return torch::isfinite(tensor).all().item<bool>();
}

struct Search {
  bool is_looking = false;  // its own operators are not looked at
  std::int64_t operators = 0;
  std::string found;
};
Search* current = nullptr;  // callbacks carry no data of their own

// Results that hold whatever lay in memory, or that are another view of what was looked at.
bool holds_new_values(const at::RecordFunction& function) {
  const auto name = function.operator_name();
  if (!name || name->name.find("empty") != std::string::npos) return false;
  const auto schema = c10::Dispatcher::singleton().findSchema(*name);
  if (!schema) return false;
  for (const auto& result : schema->schema().returns()) {
    if (result.alias_info() != nullptr && !result.alias_info()->isWrite()) return false;
  }
  return true;
}

void look_at_results(const at::RecordFunction& function, at::ObserverContext*) {
  if (current == nullptr || current->is_looking || !current->found.empty()) return;
  current->is_looking = true;
  ++current->operators;
  if (holds_new_values(function)) {
    for (const auto& output : function.outputs()) {
      if (output.isTensor() && !is_finite(output.toTensor())) {
        current->found =
            concat("the result of ", function.name(), " [", join(output.toTensor().sizes(), ", "),
                   "], operator ", current->operators, " of the forward pass");
        break;
      }
    }
  }
  current->is_looking = false;
}

}  // namespace

std::string first_non_finite(SegmentationModel& model, const torch::Tensor& input) {
  const torch::NoGradGuard no_grad;
  for (const auto& item : model.named_parameters()) {
    if (!is_finite(item.value())) return "the parameter " + item.key();
  }
  if (!is_finite(input)) return "the input";
  Search search;
  current = &search;
  const auto callback =
      at::addThreadLocalCallback(at::RecordFunctionCallback(nullptr, look_at_results)
                                     .needsOutputs(true)
                                     .scopes({at::RecordScope::FUNCTION}));
  const auto finish = [&] {
    current = nullptr;
    at::removeCallback(callback);
  };
  try {
    model.forward(input);
  } catch (...) {
    finish();
    throw;
  }
  finish();
  return search.found;
}

}  // namespace segmamba::nn
