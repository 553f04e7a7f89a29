#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "segmamba/core/config.h"

namespace segmamba::nn {

enum class KeyKind { kBool, kInteger, kNumber, kText, kIntegers, kNumbers, kTexts, kLists };

// The keys that configs list, and what each of them is.
class ConfigKeys final : public ConfigVisitor {
 public:
  void value(const ConfigKey& key, bool&) override { add(key, KeyKind::kBool); }
  void value(const ConfigKey& key, std::int64_t&) override { add(key, KeyKind::kInteger); }
  void value(const ConfigKey& key, double&) override { add(key, KeyKind::kNumber); }
  void value(const ConfigKey& key, std::string&) override { add(key, KeyKind::kText); }
  void value(const ConfigKey& key, std::vector<std::int64_t>&) override {
    add(key, KeyKind::kIntegers);
  }
  void value(const ConfigKey& key, std::vector<double>&) override { add(key, KeyKind::kNumbers); }
  void value(const ConfigKey& key, std::vector<std::string>&) override {
    add(key, KeyKind::kTexts);
  }
  void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>&) override {
    add(key, KeyKind::kLists);
  }

  std::map<std::string, KeyKind> kinds;

 protected:
  bool begin_section(std::string_view, std::string_view) override { return false; }
  void end_section() override {}

 private:
  void add(const ConfigKey& key, KeyKind kind) { kinds[std::string(key.name)] = kind; }
};

}  // namespace segmamba::nn
