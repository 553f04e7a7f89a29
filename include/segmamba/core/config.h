#pragma once
// Configuration structs over YAML. Each struct lists its keys once:
//
//   struct OptimizerConfig {
//     std::string name = "sgd";
//     double learning_rate = 1e-2;
//     void visit(ConfigVisitor& v) {
//       v.value({.name = "name", .help = "Optimizer", .choices = {"sgd", "adamw"}}, name);
//       v.value({.name = "learning_rate", .help = "Initial rate", .min = 0}, learning_rate);
//     }
//   };
//
// and from that one list come reading (with unknown keys, wrong types and ranges reported with file
// and line), overrides, writing, and help.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace segmamba {

// One key of a config struct. Numbers (and each item of a list of numbers) must lie in [min, max];
// strings (and each item of a list of strings) must be one of `choices` where any are given. Lists
// must have between min_items and max_items items.
struct ConfigKey {
  std::string_view name;
  std::string_view help;
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};
  std::size_t min_items = 0;
  std::size_t max_items = std::numeric_limits<std::size_t>::max();
};

class ConfigVisitor {
 public:
  virtual ~ConfigVisitor() = default;
  virtual void value(const ConfigKey& key, bool& value) = 0;
  virtual void value(const ConfigKey& key, std::int64_t& value) = 0;
  virtual void value(const ConfigKey& key, double& value) = 0;
  virtual void value(const ConfigKey& key, std::string& value) = 0;
  virtual void value(const ConfigKey& key, std::vector<std::int64_t>& value) = 0;
  virtual void value(const ConfigKey& key, std::vector<double>& value) = 0;
  virtual void value(const ConfigKey& key, std::vector<std::string>& value) = 0;
  // A list of lists, as [[1, 3, 3], [3, 3, 3]]; the key's limits hold for both.
  virtual void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>& value) = 0;

  // Keys that may stand here but that this config makes no use of, for the reason that `why` gives
  // ("is no key of unetr"): where a file itself has them, and not its base, reading warns and goes
  // on.
  virtual void unused(const std::vector<std::string>& /*names*/, const std::string& /*why*/) {}

  // A nested struct under its own key.
  template <class Section>
  void section(std::string_view name, std::string_view help, Section& section) {
    if (!begin_section(name, help)) return;
    section.visit(*this);
    end_section();
  }

 protected:
  // False where the section is absent (reading) and its defaults stay.
  virtual bool begin_section(std::string_view name, std::string_view help) = 0;
  virtual void end_section() = 0;
};

// A parsed YAML text with the place of every key.
class ConfigDocument {
 public:
  // Throws Error with file and line where the text is not a YAML mapping, has a duplicate key, or
  // is not readable. A top-level key `base` names another file, from the folder of this one, whose
  // values hold where this one has none.
  static ConfigDocument from_file(const std::filesystem::path& path);
  // `origin` stands in messages where a file name would.
  static ConfigDocument from_text(const std::string& text, const std::string& origin);

  // The mapping under a top-level key, for programs that need one part of a larger config. Throws
  // Error where it is absent.
  ConfigDocument section(const std::string& name) const;
  bool has(const std::string& name) const;
  // In the order of the file.
  std::vector<std::string> keys() const;

  // "a.b=c", as after --set: sets key b of section a to the YAML value c. Throws UsageError.
  void override_value(const std::string& assignment);

  // Reads every key that `config` lists; keys it does not list are errors that name the nearest
  // key. Throws Error "FILE:LINE: ...".
  template <class Config>
  void read(Config& config) const {
    auto visitor = reader();
    config.visit(*visitor);
    finish(*visitor);
  }
  // The same for a struct that lists a part of the keys: the others are passed over.
  template <class Config>
  void read_part(Config& config) const {
    config.visit(*reader());
  }

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
  std::unique_ptr<ConfigVisitor> reader() const;
  static void finish(ConfigVisitor& visitor);
};

// Reads a file with overrides applied in order.
template <class Config>
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  auto document = ConfigDocument::from_file(path);
  for (const auto& assignment : overrides) document.override_value(assignment);
  Config config;
  document.read(config);
  return config;
}

// The complete effective config; read back it gives an equal struct.
std::string write_config(ConfigVisitor& writer);
std::unique_ptr<ConfigVisitor> make_config_writer(bool with_help);

template <class Config>
std::string config_to_yaml(const Config& config, bool with_help = false) {
  auto writer = make_config_writer(with_help);
  Config copy = config;
  copy.visit(*writer);
  return write_config(*writer);
}

// Holds a config that was made in code to the limits of its keys. Throws Error naming the key,
// after `path` ("model").
std::unique_ptr<ConfigVisitor> make_limit_checker(const std::string& path);

template <class Config>
void check_limits(const Config& config, const std::string& path) {
  Config copy = config;
  copy.visit(*make_limit_checker(path));
}

// Changes keys of a config that is there. Throws as load_config.
template <class Config>
void override_config(Config& config, const std::vector<std::string>& overrides) {
  auto document = ConfigDocument::from_text(config_to_yaml(config), "the config");
  for (const auto& assignment : overrides) document.override_value(assignment);
  document.read(config);
}

}  // namespace segmamba
