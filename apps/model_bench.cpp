#include "model_bench.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/record_function.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "model_options.h"
#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/device_graph.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/precision.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/inference.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/profile.h"

namespace segmamba::apps {
namespace {

double seconds_of(const torch::Device& device, const std::function<void()>& work) {
  const auto wait = [&] {
    if (device.is_cuda()) torch::cuda::synchronize(device.index());
  };
  wait();
  const auto start = std::chrono::steady_clock::now();
  work();
  wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best_seconds_of(const torch::Device& device, const std::function<void()>& work) {
  double best = seconds_of(device, work);
  const int more = device.is_cpu() ? 2 : 9;
  for (int i = 0; i < more; ++i) best = std::min(best, seconds_of(device, work));
  return best;
}

// The kind of work an operator does, by the name LibTorch or the framework has for it.
std::string kind_of(const std::string& name) {
  const auto has = [&name](const char* part) { return name.find(part) != std::string::npos; };
  if (has("mamba_inner") || has("scan") || has("causal_conv")) return "scans and what feeds them";
  if (has("conv")) return "convolutions";
  if (has("norm")) return "norms";
  if (has("::mm") || has("addmm") || has("bmm") || has("linear") || has("matmul") ||
      has("attention")) {
    return "projections";
  }
  if (has("sgd") || has("adam")) return "optimizer";
  return "element-wise, copies, rest";
}

// Multiply-adds and bytes a second of one large matrix product and one large copy.
struct Peaks {
  double multiply_adds, bytes;
};

Peaks measure_peaks(const torch::Device& device, torch::ScalarType type) {
  const c10::InferenceMode inference;
  const std::int64_t n = device.is_cuda() ? 8192 : 2048, numbers = std::int64_t{1} << 26;
  const auto options = torch::TensorOptions(device).dtype(type);
  // GPUs are faster on numbers that are all alike.
  const auto a = torch::randn({n, n}, options), b = torch::randn({n, n}, options);
  auto c = torch::empty({n, n}, options);
  const auto from = torch::randn({numbers}, torch::TensorOptions(device)),
             to = torch::empty_like(from);
  const auto cube = static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  return {
      cube / best_seconds_of(device, [&] { torch::mm_out(c, a, b); }),
      2.0 * static_cast<double>(from.nbytes()) / best_seconds_of(device, [&] { to.copy_(from); })};
}

// Sums over operators of one part or kind.
struct Sum {
  std::array<double, 2> seconds{};  // forward, backward
  double multiply_adds = 0, bytes = 0;
  double total() const { return seconds[0] + seconds[1]; }
};

class Table {
 public:
  Table(const nn::Profile& profile, bool has_backward, const Peaks& peaks)
      : profile_(profile), has_backward_(has_backward), peaks_(peaks) {}

  // A key, however little time it takes, is told; of many keys, those of at least this share.
  void print(const char* title, bool with_rates,
             const std::function<std::string(const nn::OperatorTime&)>& key,
             double least_share = 0) const {
    std::map<std::string, Sum> sums;
    for (const auto& entry : profile_.operators) {
      auto& sum = sums[key(entry)];
      sum.seconds[entry.backward ? 1 : 0] += entry.seconds;
      sum.multiply_adds += entry.multiply_adds;
      sum.bytes += entry.bytes;
    }
    double known = 0;
    for (const auto& [name, sum] : sums) known += sum.total();
    sums["between operators"].seconds[0] += profile_.seconds - known;
    std::vector<std::pair<std::string, Sum>> rows(sums.begin(), sums.end());
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.second.total() > b.second.total(); });
    std::size_t width = std::strlen(title);
    for (const auto& row : rows) width = std::max(width, 2 + row.first.size());
    std::printf("%-*s %9s", static_cast<int>(width), title, "forward");
    if (has_backward_) std::printf(" %9s", "backward");
    std::printf(" %7s%s\n", "share",
                with_rates ? "   Gmultiply-adds/s, of peak   GB/s, of peak" : "");
    for (const auto& [name, sum] : rows) {
      if (sum.total() <= 0 || sum.total() < least_share * profile_.seconds) continue;
      std::printf("  %-*s %7.3f s", static_cast<int>(width) - 2, name.c_str(), sum.seconds[0]);
      if (has_backward_) std::printf(" %7.3f s", sum.seconds[1]);
      std::printf(" %5.1f %%", 100 * sum.total() / profile_.seconds);
      if (with_rates) {
        print_rate(sum.multiply_adds / sum.total(), peaks_.multiply_adds, 18);
        print_rate(sum.bytes / sum.total(), peaks_.bytes, 9);
      }
      std::printf("\n");
    }
  }

 private:
  static void print_rate(double rate, double peak, int width) {
    if (rate == 0) {
      std::printf(" %*s %6s", width, "-", "");
    } else {
      std::printf(" %*.1f %4.0f %%", width, rate / 1e9, 100 * rate / peak);
    }
  }

  const nn::Profile& profile_;
  bool has_backward_;
  Peaks peaks_;
};

void print_profile(const nn::Profile& profile, bool has_backward, const Peaks& peaks) {
  const Table table(profile, has_backward, peaks);
  std::printf("One large matrix product: %.1f Gmultiply-adds/s; one large copy: %.1f GB/s\n",
              peaks.multiply_adds / 1e9, peaks.bytes / 1e9);
  table.print("Kinds of work", true, [](const auto& entry) { return kind_of(entry.name); });
  table.print("Parts", false,
              [](const auto& entry) { return entry.part.empty() ? "other" : entry.part; });
  constexpr double kLeastShare = 0.0005;
  table.print(
      "Parts and kinds", true,
      [](const auto& entry) {
        return concat(entry.part.empty() ? "other" : entry.part, ": ", kind_of(entry.name));
      },
      kLeastShare);
  constexpr std::size_t kLongest = 20;
  std::printf("The operators that take longest\n");
  for (std::size_t i = 0; i < std::min(kLongest, profile.operators.size()); ++i) {
    const auto& entry = profile.operators[i];
    std::printf("  %-52s %7.3f s %5.1f %%  %lld calls, %s%s\n", entry.name.c_str(), entry.seconds,
                100 * entry.seconds / profile.seconds, static_cast<long long>(entry.calls),
                entry.part.empty() ? "other" : entry.part.c_str(),
                entry.backward ? ", backward" : "");
  }
}

}  // namespace

std::uint64_t peak_memory(const torch::Device& device) {
  if (!device.is_cpu()) {
    constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return static_cast<std::uint64_t>(
        at::accelerator::getDeviceStats(device.index()).allocated_bytes[kAll].peak);
  }
  return resident_memory().peak;
}

// The initial weights serve as well as trained ones: the time does not depend on them.
void bench(const BenchOptions& options) {
  constexpr std::int64_t kLargestBatch = 65536;
  if (options.batch < 1 || options.batch > kLargestBatch) {
    throw UsageError(
        concat("--batch must lie between 1 and ", kLargestBatch, ", got ", options.batch));
  }
  keep_freed_memory();
  const auto device = engine::select_device(options.device);
  auto config = load_config<engine::TrainConfig>(options.config, options.set);
  auto sizes = parse_size(options.size);
  if (auto* fixed = nn::fixed_input_size(config.model); fixed && fixed->empty()) *fixed = sizes;
  const auto precision = engine::parse_precision(options.precision, device);
  const auto autocast = engine::autocast_type(precision);
  engine::set_tf32(precision == engine::Precision::kTf32);
  engine::tune_convolutions(options.training ? config.training.tune_convolutions : options.tune);
  const auto type = autocast.value_or(torch::kFloat32);
  const auto model = nn::make_model(config.model);
  model->to(device);
  auto image_sizes = sizes, label_sizes = sizes;
  image_sizes.insert(image_sizes.begin(), {options.batch, config.model.in_channels});
  label_sizes.insert(label_sizes.begin(), options.batch);
  const auto images = torch::randn(image_sizes).to(device);

  std::function<void()> work;
  const auto ranks = engine::single_rank();
  std::optional<engine::TrainingStep> step;
  torch::Tensor labels;
  if (options.training) {
    model->set_recomputed(config.training.recompute);
    config.training.precision = options.precision;
    step.emplace(model, config, *ranks);
    labels = torch::randint(0, 2, label_sizes, torch::kLong).to(device);
    work = [&] { step->run(images, labels, config.optimizer.learning_rate); };
  } else {
    nn::prepare_for_inference(*model, type);
    work = [&] {
      const c10::InferenceMode inference;
      model->forward(images);
    };
  }
  const double first = seconds_of(device, work);
  const double seconds = best_seconds_of(device, work);
  const auto memory = peak_memory(device);
  std::printf(
      "%s of [%s] in %s on %s with %d threads: %.4f s (the first %.2f s), peak memory%s %s\n",
      options.training ? "training step" : "forward pass", join(image_sizes, ", ").c_str(),
      options.precision.c_str(), device.str().c_str(), at::get_num_threads(), seconds, first,
      device.is_cpu() ? " of the process" : "", format_bytes(memory).c_str());
  if (device.is_cuda()) {
    std::printf(
        "taken from the GPU: %s\n",
        format_bytes(static_cast<std::uint64_t>(engine::most_memory_taken(device))).c_str());
    engine::DeviceGraph graph;
    std::function<void()> replay = [&] { graph.replay(); };
    if (options.training) {
      config.training.graph = true;
      step.emplace(model, config, *ranks);
      for (int i = 0; i < 3; ++i) work();  // the last one records
      replay = work;
    } else {
      graph = engine::DeviceGraph(device, work);
    }
    at::accelerator::resetPeakStats(device.index());
    const double recorded = best_seconds_of(device, replay);
    std::printf("recorded as a CUDA graph: %.4f s, peak memory %s\n", recorded,
                format_bytes(peak_memory(device)).c_str());
    config.training.graph = false;
    if (options.training) step.emplace(model, config, *ranks);
  }
  const auto peaks = measure_peaks(device, type);
  print_profile(nn::profile(device, work), options.training, peaks);
}

}  // namespace segmamba::apps
