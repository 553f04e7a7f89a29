#include "segmamba/engine/out_of_memory.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <new>
#include <regex>
#include <vector>

#include "segmamba/core/text.h"
#include "segmamba/engine/memory_plan.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {
namespace {

// " (1.5 GiB more were asked for)" where the message says so.
std::string amount_of(const std::string& message) {
  static const std::regex device("ried to allocate ([0-9.]+) ([KMGT])iB");
  static const std::regex host("tried to allocate ([0-9]+) bytes");
  std::smatch match;
  if (std::regex_search(message, match, device)) {
    return concat(" (", match.str(1), " ", match.str(2), "iB more were asked for)");
  }
  if (std::regex_search(message, match, host)) {
    return concat(" (", format_bytes(std::stoull(match.str(1))), " more were asked for)");
  }
  return "";
}

template <class Old, class New>
std::string change(const std::string& key, const Old& from, const New& to) {
  return concat(key, " from ", from, " to ", to);
}

// What lowers the memory of forward and backward pass, what costs nothing but time first.
std::vector<std::string> changes_of_training(const TrainConfig& config, std::int64_t ranks) {
  std::vector<std::string> changes;
  const auto& training = config.training;
  const auto pass = patches_per_pass(training, ranks);
  if (pass > 1) {
    changes.push_back(change("training.micro_batch_size", training.micro_batch_size, pass / 2));
  }
  if (training.recompute != std::vector<std::string>{"all"}) {
    changes.push_back(
        change("training.recompute", concat("[", join(training.recompute, ", "), "]"), "[all]"));
  }
  if (training.precision == "fp32" || training.precision == "tf32") {
    changes.push_back(change("training.precision", training.precision, "bf16"));
  }
  // Three quarters, in multiples that the model takes.
  const auto sizes = nn::input_sizes(config.model);
  auto patch = config.data.patch_size;
  for (std::size_t i = 0; i < patch.size(); ++i) {
    const auto multiple = sizes.multiple[i];
    patch[i] = std::max(patch[i] * 3 / 4 / multiple, std::int64_t{1}) * multiple;
  }
  if (!sizes.misfit({patch[0], patch[1], patch[2]}) && patch != config.data.patch_size) {
    changes.push_back(change("data.patch_size",
                             concat("[", join(config.data.patch_size, ", "), "]"),
                             concat("[", join(patch, ", "), "]")));
  }
  return changes;
}

std::vector<std::string> changes_of_data(const TrainConfig& config) {
  std::vector<std::string> changes;
  if (config.data.cache.empty()) {
    if (config.data.memory_gb > 0) {
      changes.push_back(change("data.memory_gb", format_double(config.data.memory_gb),
                               format_double(config.data.memory_gb / 2)));
    }
    changes.emplace_back("data.cache to a folder that segmamba-data prepare makes");
  }
  if (config.training.workers > 1) {
    changes.push_back(
        change("training.workers", config.training.workers, config.training.workers / 2));
  }
  return changes;
}

}  // namespace

std::optional<Memory> exhausted_memory(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return Memory::kDevice;
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return Memory::kHost;
  // LibTorch's CPU allocator, pinned memory and the libraries of CUDA have no types of their own.
  const std::string message = error.what();
  const auto says = [&](const char* text) { return message.find(text) != std::string::npos; };
  if (says("DefaultCPUAllocator: ") || says("cannot allocate memory")) return Memory::kHost;
  // oneDNN, which keeps the reason to itself. Of descriptors it says so of what it does not know.
  if ((says("could not create a primitive") && !says("could not create a primitive descriptor")) ||
      says("could not execute a primitive") || says("could not create a memory") ||
      says("could not create an engine") || says("could not create a stream")) {
    return Memory::kHost;
  }
  if (says("CUDA out of memory") || says("CUDA error: out of memory") ||
      says("CUBLAS_STATUS_ALLOC_FAILED") || says("CUDNN_STATUS_ALLOC_FAILED")) {
    return Memory::kDevice;
  }
  return std::nullopt;
}

std::optional<std::string> out_of_memory_advice(const std::exception& error,
                                                const TrainConfig& config,
                                                const c10::Device& device, std::int64_t ranks) {
  const auto memory = exhausted_memory(error);
  if (!memory) return std::nullopt;
  std::vector<std::string> changes;
  if (*memory == Memory::kDevice || device.is_cpu()) {
    changes = changes_of_training(config, ranks);
  }
  if (*memory == Memory::kHost) {
    const auto more = changes_of_data(config);
    changes.insert(changes.end(), more.begin(), more.end());
  }
  if (changes.empty()) changes.emplace_back("the model to fewer channels or layers");
  return concat(*memory == Memory::kHost ? "this machine" : concat("the GPU ", device.str()),
                " is out of memory", amount_of(error.what()), ": set ", join(changes, ", or "));
}

}  // namespace segmamba::engine
