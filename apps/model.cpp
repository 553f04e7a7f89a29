// segmamba-model: what a network is made of and costs; one forward pass from file to file.

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "app_main.h"
#include "model_bench.h"
#include "model_compare.h"
#include "model_options.h"
#include "model_weights.h"
#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/cost.h"
#include "segmamba/nn/inference.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/verify.h"
#include "segmamba/nn/weights.h"

namespace segmamba::apps {
namespace {

struct Options {
  std::filesystem::path config, checkpoint, weights, input, output, golden;
  std::string size = "128", dtype = "float32", verify_dtype = "float64", precision;
  bool state = false;
};

// The section `model` alone, whatever patches the config trains with.
nn::ModelConfig read_model_section(const ConfigDocument& document) {
  nn::ModelConfig config;
  document.section("model").read(config);
  return config;
}

// A network that is made for inputs of one size is made for this one, unless the config says so.
void fill_input_size(nn::ModelConfig& config, const std::vector<std::int64_t>& size) {
  if (auto* fixed = nn::fixed_input_size(config); fixed != nullptr && fixed->empty()) *fixed = size;
}

// 67416196 is "67,416,196".
std::string with_commas(std::int64_t number) {
  auto text = std::to_string(number);
  for (auto i = static_cast<std::int64_t>(text.size()) - 3; i > 0; i -= 3) text.insert(i, 1, ',');
  return text;
}

void print_row(const std::string& name, const std::string& value) {
  std::printf("  %-36s %20s\n", name.c_str(), value.c_str());
}

// Of the weights of a file, which errors name.
std::shared_ptr<nn::SegmentationModel> make_model(const nn::ModelConfig& config,
                                                  const nn::TensorMap& weights,
                                                  const std::filesystem::path& path) {
  const auto origin = path.string();
  try {
    return nn::make_model(config, weights);
  } catch (const Error& error) {
    throw Error(starts_with(error.what(), origin) ? error.what() : origin + ": " + error.what());
  }
}

// The model that a weights file names, with its weights. Errors name the file.
std::shared_ptr<nn::SegmentationModel> load_model(const std::filesystem::path& path,
                                                  nn::ModelConfig& config) {
  const auto file = nn::read_state_dict(path);
  config = read_model_config(config_inside(file, path, "--config instead"));
  return make_model(config, file.tensors, path);
}

void info(const Options& options) {
  if (options.config.empty() == options.checkpoint.empty()) {
    throw UsageError("info: give one of --config and --checkpoint");
  }
  auto sizes = parse_size(options.size);
  nn::ModelConfig config;
  std::shared_ptr<nn::SegmentationModel> model;
  if (!options.checkpoint.empty()) {
    model = load_model(options.checkpoint, config);
  } else {
    config = read_model_section(ConfigDocument::from_file(options.config));
    fill_input_size(config, sizes);
    model = nn::make_model(config);
  }
  sizes.insert(sizes.begin(), {1, config.in_channels});
  const auto forward = nn::forward_cost(config, sizes);
  const auto training = nn::training_cost(config, {.input_sizes = sizes});
  const auto count = nn::parameter_count(*model);
  const auto bytes = [](std::int64_t size) {
    return format_bytes(static_cast<std::uint64_t>(size));
  };

  std::printf("Model\n%s\nParameters\n", config_to_yaml(config).c_str());
  for (const auto& [part, number] : nn::parameters_by_part(*model)) {
    print_row(part, with_commas(number));
  }
  print_row("total", with_commas(count));
  print_row("total, float32", bytes(4 * count));
  std::printf("\nOne input of shape [%s], float32\n", join(sizes, ", ").c_str());
  print_row("multiply-adds of a forward pass", with_commas(forward.multiply_adds));
  print_row("tensors alive at once, inference", bytes(forward.peak_bytes));
  print_row("tensors kept for backward, training", bytes(training.kept_bytes));
  print_row("tensors alive at once, training", bytes(training.peak_bytes));
  std::printf("\nOf those kept, what recomputing a part saves (training.recompute)\n");
  for (const auto& [part, kept] : nn::bytes_kept_by_part(config, sizes)) {
    print_row(part, bytes(kept));
  }
  std::printf(
      "Counted: convolutions, matrix products, causal convolutions, and 3 multiply-adds a scan "
      "state.\n"
      "Memory without weights and without the workspaces of oneDNN or cuDNN.\n");
  if (!options.state) return;
  std::printf("\nState dict\n");
  const auto state = nn::state_dict(*model);
  std::size_t width = 0;
  for (const auto& [name, tensor] : state) width = std::max(width, name.size());
  for (const auto& [name, tensor] : state) {
    std::printf("  %-*s  [%s]\n", static_cast<int>(width), name.c_str(),
                join(tensor.sizes(), ", ").c_str());
  }
}

torch::Tensor read_input(const std::filesystem::path& path) {
  const auto tensors = nn::read_safetensors(path).tensors;
  if (const auto found = tensors.find("input"); found != tensors.end()) return found->second;
  if (tensors.size() == 1) return tensors.begin()->second;
  throw Error(concat(path.string(), ": needs a tensor named \"input\" (or only one tensor), has ",
                     tensors.size()));
}

void forward(const Options& options) {
  check_output_is_no_input(options.output, options.input, "the file of --input");
  check_output_is_no_input(options.output, options.weights, "the file of --weights");
  const auto dtype = parse_dtype(options.dtype);
  const auto input = read_input(options.input).to(dtype);
  const auto file = nn::read_state_dict(options.weights);
  auto config =
      read_model_config(options.config.empty() ? config_inside(file, options.weights, "--config")
                                               : ConfigDocument::from_file(options.config));
  if (input.dim() == 5) fill_input_size(config, input.sizes().slice(2).vec());
  const auto model = make_model(config, file.tensors, options.weights);
  model->to(dtype);
  if (dtype != torch::kFloat32) nn::load_state_dict(*model, file.tensors);  // with all its digits
  if (!options.precision.empty()) {
    nn::prepare_for_inference(*model, parse_precision(options.precision));
  }
  const c10::InferenceMode inference;
  const auto start = std::chrono::steady_clock::now();
  const auto logits = model->forward(input);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  nn::write_safetensors(options.output, {.tensors = {{"logits", logits}}, .metadata = {}});
  std::printf("forward pass %s s, peak memory of the process %s; logits [%s] -> %s\n",
              format_fixed(seconds.count(), 3).c_str(),
              format_bytes(peak_memory(torch::kCPU)).c_str(), join(logits.sizes(), ", ").c_str(),
              options.output.c_str());
}

// The largest deviation and, where any is out of tolerance, the first few of those.
void print_deviations(const std::string& what, const std::vector<nn::Deviation>& deviations) {
  const auto worst = std::max_element(
      deviations.begin(), deviations.end(),
      [](const auto& a, const auto& b) { return a.relative / a.allowed < b.relative / b.allowed; });
  if (worst == deviations.end()) return;
  std::printf("%-16s relative error %9.2e of %9.2e allowed (%s)\n", what.c_str(), worst->relative,
              worst->allowed, worst->name.c_str());
  int shown = 0;
  for (const auto& deviation : deviations) {
    if (deviation.passes() || ++shown > 10) continue;
    std::printf("  out of tolerance: %s, %.2e\n", deviation.name.c_str(), deviation.relative);
  }
}

void verify(const Options& options) {
  check_output_is_no_input(options.output, options.golden, "the golden file");
  const auto path = options.golden.string();
  const auto result =
      nn::verify(nn::read_safetensors(options.golden), path, parse_dtype(options.verify_dtype));
  std::printf("%s in %s\n", result.model.c_str(), options.verify_dtype.c_str());
  for (const auto& output : result.outputs) print_deviations(output.name, {output});
  print_deviations("gradient norms", result.gradient_norms);
  print_deviations("gradient dots", result.gradient_dots);
  for (const auto& note : result.notes) std::printf("%s\n", note.c_str());
  if (!options.output.empty()) {
    nn::write_safetensors(options.output, {.tensors = result.logits, .metadata = {}});
  }
  if (!result.passes()) throw Error(path + ": the network differs from its original");
  std::printf("The network computes what its original computes.\n");
}

}  // namespace
}  // namespace segmamba::apps

int main(int argc, char** argv) {
  using namespace segmamba::apps;
  Options options;
  CommandLine line(
      "segmamba-model",
      "What networks are made of and cost, how they compare, and where their weights come from.",
      "Examples:\n"
      "  segmamba-model info --config configs/paper.yaml --size 128\n"
      "  segmamba-model bench --config configs/paper.yaml --size 128 --precision bf16\n"
      "  segmamba-model info --checkpoint run/checkpoints/best.pt --state\n"
      "  segmamba-model compare --size 128 --training\n"
      "  segmamba-model verify golden.safetensors --dtype float32\n"
      "  segmamba-model import --from upstream.pth --model segresnet --output model.safetensors\n"
      "  segmamba-model export --from model.safetensors --output upstream.pt\n"
      "  segmamba-model forward --weights model.safetensors --input input.safetensors "
      "--output logits.safetensors");
  auto& info_line =
      line.command("info", "Parameters, multiply-adds and memory", [&] { info(options); });
  info_line.option("--config", options.config, "YAML with a section `model`");
  info_line.option("--checkpoint", options.checkpoint,
                   "Checkpoint of segmamba-train, or weights of segmamba-model import");
  info_line.option("--size", options.size, "Size of the input: N or DxHxW");
  info_line.flag("--state", options.state, "List the state dict");
  BenchOptions bench_options;
  auto& bench_line = line.command(
      "bench", "Where the time of a forward pass, as inference does it, or of a training step goes",
      [&] { bench(bench_options); });
  bench_line.option("--config", bench_options.config, "Config of segmamba-train", Need::kRequired);
  bench_line.option("--set", bench_options.set, "Override a key: SECTION.KEY=VALUE");
  bench_line.option("--size", bench_options.size, "Size of the input: N or DxHxW");
  bench_line.option("--batch", bench_options.batch, "Inputs at a time");
  bench_line.option("--precision", bench_options.precision, "fp32, tf32, bf16 or fp16");
  bench_line.option("--device", bench_options.device, "auto, cpu or cuda");
  bench_line.flag("--tune", bench_options.tune, "As segmamba-infer --tune");
  bench_line.flag("--training", bench_options.training,
                  "A training step: forward, loss, backward and update");
  auto& forward_line =
      line.command("forward", "Run a model on one input", [&] { forward(options); });
  forward_line.option(
      "--config", options.config,
      "YAML with a section `model` (default: what the weights say of their network)");
  forward_line.option("--weights", options.weights,
                      "State dict: safetensors, or .pt of torch.save or segmamba-train",
                      Need::kRequired);
  forward_line.option("--input", options.input,
                      "safetensors: tensor `input` (or the only one), [B, C, D, H, W]",
                      Need::kRequired);
  forward_line.option("--output", options.output, "safetensors to write: tensor `logits`",
                      Need::kRequired);
  forward_line.option("--dtype", options.dtype, "float32 or float64");
  forward_line.option("--precision", options.precision,
                      "fp32, bf16 or fp16: as inference does it, not as training does");
  auto& verify_line =
      line.command("verify", "Hold a network to numbers of its original: outputs and gradients",
                   [&] { verify(options); });
  verify_line.option("file", options.golden,
                     "safetensors in the format of the golden files: weights, input, outputs, "
                     "gradients, and the original's arguments",
                     Need::kRequired);
  verify_line.option("--output", options.output,
                     "safetensors to write: the outputs, as golden/logits");
  verify_line.option("--dtype", options.verify_dtype, "float64 or float32");
  CompareOptions comparison;
  auto& compare_line = line.command(
      "compare", "Parameters, multiply-adds, time and memory of several networks, side by side",
      [&] { compare(comparison); });
  compare_line.option("--config", comparison.configs, "YAML files with a section `model`");
  compare_line.option("--models", comparison.models,
                      "Names of networks, with their default sizes; without any and without "
                      "--config: all");
  compare_line.option("--size", comparison.size, "Size of the patch: N or DxHxW");
  compare_line.option("--in-channels", comparison.in_channels, "Modalities, of --models");
  compare_line.option("--out-channels", comparison.out_channels, "Classes, of --models");
  compare_line.option("--precision", comparison.precision, "fp32, bf16 or fp16");
  compare_line.option("--device", comparison.device, "auto, cpu or cuda");
  compare_line.flag("--training", comparison.training, "Time a training step, too");
  add_weight_commands(line);
  return line.run(argc, argv);
}
