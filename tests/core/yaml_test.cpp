#include "segmamba/core/yaml.h"

#include <gmock/gmock.h>

#include "segmamba/core/config.h"
#include "support/error_of.h"

namespace segmamba {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(YamlValues, ListsEveryValueAsText) {
  EXPECT_THAT(yaml_values("a: 1\n"
                          "b:\n"
                          "  c: [x, 2.50, [3]]\n"
                          "  d: \"quoted, text\"\n"
                          "  e:\n"
                          "  f: {g: true}\n"
                          "  h: {}\n",
                          "file"),
              ElementsAre(Pair("a", "1"), Pair("b.c", "[x, 2.50, [3]]"),
                          Pair("b.d", "quoted, text"), Pair("b.e", ""), Pair("b.f.g", "true")));
  EXPECT_TRUE(yaml_values("", "file").empty());
}

TEST(YamlValues, NamesThePlaceOfWhatItCannotList) {
  const auto error = [](const std::string& text) {
    return test::error_of([&] { yaml_values(text, "file"); });
  };
  EXPECT_THAT(error("a: 1\nb: [\n"), ::testing::StartsWith("file:3: not valid YAML: "));
  EXPECT_EQ(error("[1]"), "file:1: must be a mapping of keys to values");
  EXPECT_EQ(error("a: 1\nb: [{c: 1}]\n"), "file:2: a mapping within a list");
  EXPECT_EQ(error("a: 1\n? [b]\n: 2\n"), "file:2: a key must be a word");
  EXPECT_EQ(error("a: &x [*x]\n"), "file:1: nested more than 8 levels deep");
}

TEST(YamlValues, ATextHasNotAnyNumberOfValues) {
  const auto error = [](const std::string& text) {
    return test::error_of([&] { yaml_values(text, "file"); });
  };
  std::string list = "a: 1\nb:\n";
  for (int i = 0; i < 200'000; ++i) list += "- x\n";
  EXPECT_EQ(error(list), "file:149998: has more than 150000 values");
  EXPECT_EQ(error("a: " + std::string(65, '[')), "file:1: nested more than 64 levels deep");
  EXPECT_EQ(error(std::string(160'000, '[')), "file: has more than 110000 values");
  std::string cases = "training:\n";
  for (int i = 0; i < 120'000; ++i) cases += "- BraTS-GLI-00001-000\n";
  EXPECT_NO_THROW(ConfigDocument::from_text(cases, "split.yaml"));
}

}  // namespace
}  // namespace segmamba
