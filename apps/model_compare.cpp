#include "model_compare.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/autocast_mode.h>
#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>

#include "model_options.h"
#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/cost.h"
#include "segmamba/nn/inference.h"
#include "segmamba/nn/model.h"

namespace segmamba::apps {
namespace {

struct Row {
  std::string name;
  nn::ModelConfig config;
};

// The networks to compare: those of the configs, or those named, or all with their defaults.
std::vector<Row> rows_of(const CompareOptions& options) {
  std::vector<Row> rows;
  for (const auto& path : options.configs) {
    nn::ModelConfig config;
    ConfigDocument::from_file(path).section("model").read(config);
    rows.push_back({std::filesystem::path(path).stem().string(), config});
  }
  auto names = options.models;
  if (names.empty() && rows.empty()) names = nn::model_names();
  for (const auto& name : names) {
    nn::ModelConfig config;
    config.name = name;
    config.in_channels = options.in_channels;
    config.out_channels = options.out_channels;
    rows.push_back({name, config});
  }
  return rows;
}

// What the process, or its GPU, held at most since start(), above what it held then.
class PeakMemory {
 public:
  explicit PeakMemory(torch::Device device) : device_(device) {}

  void start() {
    if (device_.is_cpu()) {
      held_ = static_cast<std::int64_t>(restart_peak_memory());
    } else {
      at::accelerator::resetPeakStats(device_.index());
      held_ = allocated().current;
    }
  }
  std::int64_t bytes() const {
    const auto peak =
        device_.is_cpu() ? static_cast<std::int64_t>(resident_memory().peak) : allocated().peak;
    return peak - held_;
  }

 private:
  c10::CachingAllocator::Stat allocated() const {
    constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return at::accelerator::getDeviceStats(device_.index()).allocated_bytes[kAll];
  }

  torch::Device device_;
  std::int64_t held_ = 0;
};

struct Pass {
  double seconds = 0;
  std::int64_t bytes = 0;
};

// The second of two passes, as the first also chooses algorithms; memory is that of both.
Pass measure(const torch::Device& device, const std::function<void()>& pass) {
  const auto wait = [&] {
    if (device.is_cuda()) torch::cuda::synchronize(device.index());
  };
  Pass result;
  PeakMemory memory(device);
  memory.start();
  for (int i = 0; i < 2; ++i) {
    wait();
    const auto start = std::chrono::steady_clock::now();
    pass();
    wait();
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  result.bytes = memory.bytes();
  return result;
}

std::string shown(const Pass& pass) {
  return concat(format_fixed(pass.seconds, pass.seconds < 1 ? 4 : 2), " s\t",
                format_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(pass.bytes, 0))));
}

Pass inference_pass(const nn::ModelConfig& config, const torch::Tensor& input,
                    torch::ScalarType type) {
  const auto model = nn::make_model(config);
  model->to(input.device());
  nn::prepare_for_inference(*model, type);
  return measure(input.device(), [&] {
    const c10::InferenceMode inference;
    model->forward(input);
  });
}

// Forward and backward pass; the mean square of the outputs stands for a loss.
Pass training_pass(const nn::ModelConfig& config, const torch::Tensor& input,
                   torch::ScalarType type) {
  const auto model = nn::make_model(config);
  model->to(input.device());
  const auto device_type = input.device().type();
  return measure(input.device(), [&] {
    std::vector<torch::Tensor> outputs;
    {
      at::autocast::set_autocast_enabled(device_type, type != torch::kFloat32);
      if (type != torch::kFloat32) at::autocast::set_autocast_dtype(device_type, type);
      outputs = model->forward_deep(input);
      at::autocast::clear_cache();
      at::autocast::set_autocast_enabled(device_type, false);
    }
    torch::Tensor loss;
    for (const auto& output : outputs) {
      const auto term = output.to(torch::kFloat).square().mean();
      loss = loss.defined() ? loss + term : term;
    }
    loss.backward();
    model->zero_grad();
  });
}

// The cells of one row, with tabs between.
std::string cells_of(const Row& row, const std::vector<std::int64_t>& size,
                     const CompareOptions& options) {
  auto config = row.config;
  if (auto* fixed = nn::fixed_input_size(config); fixed != nullptr && fixed->empty()) *fixed = size;
  auto shape = size;
  shape.insert(shape.begin(), {1, config.in_channels});
  if (const auto misfit = nn::input_sizes(config).misfit({size[0], size[1], size[2]})) {
    return concat("-\t", *misfit);
  }
  const auto type = parse_precision(options.precision);
  const bool on_gpu =
      options.device == "cuda" || (options.device == "auto" && torch::cuda::is_available());
  const torch::Device device = on_gpu ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
  const auto parameters = nn::parameter_count(*nn::make_meta_model(config));
  const auto cost = nn::forward_cost(config, shape);
  const auto input = torch::randn(shape, device);
  auto cells = concat(format_fixed(static_cast<double>(parameters) / 1e6, 2), "\t",
                      format_fixed(static_cast<double>(cost.multiply_adds) / 1e9, 1), "\t",
                      shown(inference_pass(config, input, type)));
  if (options.training) cells.append("\t").append(shown(training_pass(config, input, type)));
  return cells;
}

// Runs `work` in a process of its own and returns its text: memory is then that of one network, and
// one that takes more than there is ends that process alone.
std::string in_own_process(const std::function<std::string()>& work) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) throw Error("cannot make a pipe");
  std::fflush(stdout);
  const auto child = ::fork();
  if (child < 0) throw Error("cannot start a process");
  if (child == 0) {
    std::string text;
    try {
      text = work();
    } catch (const std::exception& error) {
      const std::string message = error.what();
      text = "-\t" + message.substr(0, message.find('\n'));
    }
    const auto written = ::write(ends[1], text.data(), text.size());
    ::_exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t count = 0; (count = ::read(ends[0], part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(count));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status == 0 ? text : "-\tended by the system: out of memory?";
}

}  // namespace

void compare(const CompareOptions& options) {
  const auto size = parse_size(options.size);
  parse_precision(options.precision);
  if (options.device != "auto" && options.device != "cpu" && options.device != "cuda") {
    throw UsageError("--device: expected auto, cpu or cuda, got \"" + options.device + "\"");
  }
  const auto rows = rows_of(options);
  const auto known = nn::model_names();
  for (const auto& row : rows) {
    if (std::find(known.begin(), known.end(), row.config.name) != known.end()) continue;
    const auto guess = nearest(row.config.name, known);
    throw UsageError(
        concat("--models: there is no network \"", row.config.name, "\"",
               guess.empty() ? "; known: " + join(known, ", ") : "; did you mean " + guess + "?"));
  }
  std::printf("One patch of %s voxels, %s\n", join(size, "x").c_str(), options.precision.c_str());
  const std::string form = "%-24s %12s %12s %12s %12s";
  std::printf(
      (form + "%s\n").c_str(), "model", "parameters/M", "GMACs", "inference", "memory",
      options.training ? concat(" ", std::string(4, ' '), "training       memory").c_str() : "");
  for (const auto& row : rows) {
    const auto cells = split(in_own_process([&] { return cells_of(row, size, options); }), '\t');
    if (cells.size() < 4) {
      std::printf("%-24s %s\n", row.name.c_str(), cells.back().c_str());
      continue;
    }
    std::printf(form.c_str(), row.name.c_str(), cells[0].c_str(), cells[1].c_str(),
                cells[2].c_str(), cells[3].c_str());
    for (std::size_t i = 4; i < cells.size(); ++i) std::printf(" %12s", cells[i].c_str());
    std::printf("\n");
    std::fflush(stdout);
  }
  std::printf(
      "GMACs: convolutions, matrix products, and 3 multiply-adds a scan state. Memory: the most "
      "that a pass takes beside the weights%s.\n",
      options.training ? "; training: a forward and a backward pass" : "");
}

}  // namespace segmamba::apps
