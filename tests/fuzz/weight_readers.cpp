#include <cstdint>
#include <optional>

#include "golden_file.h"
#include "nn/hostile_files.h"
#include "readers.h"
#include "scratch.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/environment.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/nnunet_plans.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_config.h"
#include "segmamba/nn/upstream_weights.h"
#include "segmamba/nn/weights.h"

namespace segmamba::fuzz {
namespace {

// As torch.save writes it, without check sums.
std::string zip_of(const std::vector<std::pair<std::string, std::string_view>>& entries) {
  test::Zip zip;
  for (const auto& [name, content] : entries) {
    zip.entries.push_back({.name = name, .content = std::string(content)});
  }
  return zip.bytes();
}

// All that is done with a file of weights before there is a network to put them into.
void read_weights(const std::filesystem::path& path) {
  auto file = nn::read_state_dict(path);
  nn::ModelConfig config;
  Calls call;
  if (!file.config.empty()) {
    call([&] {
      ConfigDocument::from_text(file.config, path.string()).section("model").read(config);
    });
  }
  call([&] { nn::input_size_hint(config, file.tensors, nullptr); });
  call([&] { nn::adapt_state_dict(config, file.tensors); });
  call.finish();
}

void read_safetensors_bytes(std::string_view input) {
  const auto path = scratch_file("bytes.safetensors", input);
  Calls call;
  call([&] { nn::read_safetensors(path); });
  call([&] { read_weights(path); });
  call.finish();
}

// The header as JSON, and the data behind the cut: the harness adds the header's length.
void read_safetensors_header(std::string_view input) {
  const auto texts = parts(input, 2);
  auto file = test::u64(texts[0].size()) + std::string(texts[0]);
  file += texts.size() > 1 ? std::string(texts[1]) : std::string(64, '\0');
  read_weights(scratch_file("header.safetensors", file));
}

void read_archive_bytes(std::string_view input) {
  const auto path = scratch_file("bytes.pt", input);
  const auto value = nn::read_archive(path);
  if (value.is_dict()) nn::content_hash(value.dict());
}

// A pickle in an archive with two storages.
void read_pickle(std::string_view input) {
  const std::string zeros(256, '\0');
  const auto zip = zip_of({{"x/data.pkl", input}, {"x/data/0", zeros}, {"x/data/1", zeros}});
  read_weights(scratch_file("pickle.pt", zip));
}

// Plans of nnU-Net v2 for a network of four channels and three classes.
void read_plans(std::string_view input) {
  static const nn::TensorMap kTensors = {
      {"encoder.stem.0.conv1.weight", torch::zeros({2, 4, 1, 1, 1})},
      {"decoder.seg_layers.0.weight", torch::zeros({3, 2, 1, 1, 1})}};
  const auto plans = parse_json(std::string(input), "plans.json");
  Calls call;
  for (const auto* network : {"", "umamba_enc"}) {
    call([&] { nn::config_from_plans(plans, "3d_fullres", network, kTensors, "plans.json"); });
  }
  call.finish();
}

// All that segmamba-model verify asks of a golden file before there is a network.
void read_golden(std::string_view input) {
  const auto path = scratch_file("golden.safetensors", input);
  const auto file = nn::read_safetensors(path);
  const nn::GoldenFile golden(file, path.string());
  Calls call;
  std::optional<std::int64_t> count;
  call([&] { count = std::ssize(golden.parameters()); });
  call([&] { golden.numbers("grad_norm", count); });
  call([&] { golden.numbers("grad_dot", count); });
  call([&] { golden.numbers("grad_input", 2); });
  call([&] { golden.at("input"); });
  call([&] { golden.float32_error(); });
  call([&] {
    for (const auto& name : golden.output_names()) {
      const auto output = golden.at(name).to(torch::kFloat64);
      require(golden.loss_weights(name, output).sizes() == output.sizes().slice(1),
              "weights of the loss have another shape than the output");
    }
  });
  call([&] { golden.weights(); });
  call([&] {
    nn::config_from_upstream(golden.metadata("model"), golden.arguments(), path.string());
  });
  call.finish();
}

// environment.json of a run, before and after one more start of it.
void read_environment(std::string_view input) {
  const auto path = scratch_file("environment.json", input);
  const auto start = engine::last_start(path);
  engine::device_text(start);
  engine::version_text(start);
  engine::record_start(path, {.command_line = {"segmamba-train"}, .device = "cpu"});
  // Of a large file there is no room for another one.
  constexpr std::size_t kLargest = 1 << 16;
  if (input.size() > kLargest) return;
  require(starts_with(engine::device_text(engine::last_start(path)), "cpu"),
          "another start is read back");
}

}  // namespace

std::vector<Reader> weight_readers() {
  return {
      {"safetensors", "json", read_safetensors_bytes},
      {"safetensors_header", "json", read_safetensors_header},
      {"archive", "weights", read_archive_bytes},
      {"pickle", "weights", read_pickle},
      {"plans", "json", read_plans},
      {"golden", "json", read_golden},
      {"environment", "json", read_environment},
  };
}

}  // namespace segmamba::fuzz
