#include <algorithm>

#include "readers.h"
#include "scratch.h"
#include "segmamba/core/config.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/core/yaml.h"
#include "segmamba/data/case_table.h"
#include "segmamba/data/regions.h"
#include "segmamba/data/split.h"
#include "segmamba/engine/run_history.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/eval/options.h"
#include "segmamba/eval/published.h"
#include "segmamba/nn/upstream_config.h"
#include "segmamba/post/postprocess_config.h"

namespace segmamba::fuzz {
namespace {

using Words = std::vector<std::string>;

const Words& classes() {
  static const Words kClasses = {"background", "necrosis", "oedema", "enhancing"};
  return kClasses;
}

void read_numbers(std::string_view input) {
  for (const auto& word : lines(input, 32)) {
    to_integer(word);
    if (const auto bytes = to_bytes(word)) require(*bytes > 0, "a number of bytes below 1");
    nearest(word, classes());
  }
}

void read_json(std::string_view input) { parse_json(std::string(input), "file.json"); }

// Rows that csv_line wrote are read back as they were.
void read_csv_table(std::string_view input) {
  const auto table = parse_csv(std::string(input), "file.csv");
  std::string written = csv_line(table.header.fields);
  for (const auto& row : table.rows) written += csv_line(row.fields);
  // But for a row of one empty field, which is an empty line. Of a large table there is no room for
  // another one.
  constexpr std::size_t kLargest = 1 << 16;
  if (table.header.fields.size() == 1 || input.size() > kLargest) return;
  const auto again = parse_csv(written, "written.csv");
  require(again.header.fields == table.header.fields, "another header is read back");
  require(again.rows.size() == table.rows.size(), "other rows are read back");
  for (std::size_t i = 0; i < again.rows.size(); ++i) {
    require(again.rows[i].fields == table.rows[i].fields, "another row is read back");
  }
}

void read_yaml_values(std::string_view input) { yaml_values(std::string(input), "file.yaml"); }

// A config, `--set` of it, and what was read written and read back.
void read_train_config(std::string_view input) {
  const auto texts = parts(input, 2);
  engine::TrainConfig config;
  {
    auto document = ConfigDocument::from_text(std::string(texts[0]), "config.yaml");
    if (texts.size() > 1) {
      for (const auto& assignment : lines(texts[1], 8)) document.override_value(assignment);
    }
    document.keys();
    document.read(config);
  }  // of a large text there is no room for two documents
  const std::string written = config_to_yaml(config);
  engine::TrainConfig again;
  ConfigDocument::from_text(written, "written.yaml").read(again);
  require(config_to_yaml(again) == written, "another config is read back");
  engine::complete(config);
  engine::check(config);
}

// A file over its bases, b.yaml and c.yaml.
void read_config_with_bases(std::string_view input) {
  const auto texts = parts(input, 3);
  empty_folder("configs");
  const Words names = {"configs/a.yaml", "configs/b.yaml", "configs/c.yaml"};
  for (std::size_t i = 0; i < texts.size(); ++i) scratch_file(names[i], texts[i]);
  const auto document = ConfigDocument::from_file(scratch() / names[0]);
  engine::TrainConfig config;
  Calls call;
  call([&] { document.read(config); });
  call([&] { document.section("model").read(config.model); });
  call([&] { document.section("data").read_part(config.data); });
  call.finish();
}

void read_split_file(std::string_view input) {
  const auto path = scratch_file("split.yaml", input);
  Calls call;
  for (const int fold : {-1, 0, 4}) {
    call([&] { data::read_split(path, fold); });
  }
  call.finish();
}

void read_region_words(std::string_view input) {
  const auto words = lines(input, 16);
  auto conventions = metrics::conventions();
  Calls call;
  call([&] { data::parse_regions(words, classes()); });
  call([&] {
    const bool names_file = input.find(".y") != std::string_view::npos;
    if (!names_file) eval::parse_regions(words);
  });
  call([&] { eval::parse_metrics(words, conventions); });
  call([&] { eval::parse_conventions(words); });
  call([&] { eval::parse_methods(words); });
  call.finish();
}

void read_region_file(std::string_view input) {
  eval::read_regions(scratch_file("regions.yaml", input));
}

void read_postprocess_file(std::string_view input) {
  const auto config = post::read_postprocess(scratch_file("post.yaml", input));
  for (const auto& rule : post::make_rules(config, classes())) {
    for (const auto label : rule.region.labels) require(label < classes().size(), "no such class");
    if (rule.becomes) require(*rule.becomes < classes().size(), "no such class");
  }
  const auto written = scratch_file("written.yaml", post::to_yaml(config));
  require(post::to_yaml(post::read_postprocess(written)) == post::to_yaml(config),
          "other rules are read back");
}

void read_published_file(std::string_view input) {
  eval::read_published(scratch_file("paper.csv", input));
}

void read_case_table(std::string_view input) {
  const auto path = scratch_file("cases.csv", input);
  data::DatasetConfig config;
  config.root = path.string();
  config.layout = "csv";
  Calls call;
  call([&] { data::labels_of_table(path); });
  call([&] { data::survey_dataset(config, data::Labels::kRequired); });
  call([&] {
    config.channels = {};
    config.classes = {};
    data::survey_dataset(config, data::Labels::kOptional);
  });
  call.finish();
}

// metrics.csv, and config.yaml behind the cut.
void read_run_history(std::string_view input) {
  const auto texts = parts(input, 2);
  const auto history = engine::read_history(scratch_file("metrics.csv", texts[0]));
  engine::ConfigValues config;
  if (texts.size() > 1) config = yaml_values(std::string(texts[1]), "config.yaml");
  engine::summarise(history, config);
}

// The name of a network, and behind the cut the arguments that its original's constructor takes.
void read_upstream_config(std::string_view input) {
  const auto texts = parts(input, 2);
  const std::string model(texts[0]);
  const auto arguments = parse_json(std::string(texts.back()), "golden.safetensors (config)");
  const std::string origin = "golden.safetensors (config)";
  if (model == "vim_blocks") {
    nn::vim_blocks_from_upstream(arguments, origin);
  } else if (model == "vmamba_block_2d") {
    nn::vmamba_block_2d_from_upstream(arguments, origin);
  } else {
    nn::config_from_upstream(model, arguments, origin);
  }
}

}  // namespace

std::vector<Reader> text_readers() {
  return {
      {"numbers", "text", read_numbers},
      {"json", "json", read_json},
      {"csv", "text", read_csv_table},
      {"yaml_values", "yaml", read_yaml_values},
      {"train_config", "yaml", read_train_config},
      {"config_bases", "yaml", read_config_with_bases},
      {"split", "yaml", read_split_file},
      {"region_words", "text", read_region_words},
      {"region_file", "yaml", read_region_file},
      {"postprocess", "yaml", read_postprocess_file},
      {"published", "text", read_published_file},
      {"case_table", "text", read_case_table},
      {"run_history", "text", read_run_history},
      {"upstream_config", "json", read_upstream_config},
  };
}

}  // namespace segmamba::fuzz
