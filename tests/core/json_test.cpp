#include "segmamba/core/json.h"

#include <gmock/gmock.h>

#include "support/error_of.h"

namespace segmamba {
namespace {

using test::error_of;
using ::testing::HasSubstr;

std::string nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(Json, ErrorsNameTheOriginAndThePlace) {
  const auto error = [](const std::string& text) {
    return error_of([&] { parse_json(text, "file.json"); });
  };
  EXPECT_THAT(error("{\"a\": }"), HasSubstr("file.json: not valid JSON: parse error at line 1"));
  EXPECT_THAT(error("[1e999]"), HasSubstr("file.json: not valid JSON: number overflow"));
  EXPECT_EQ(error("{\"a\": [1, {\"b\": null}]}"), "");
}

// What is nested a million times cannot be copied or written without overflowing the stack.
TEST(Json, IsNotNestedWithoutEnd) {
  const auto deepest = std::string(64, '[') + "1" + std::string(64, ']');
  EXPECT_EQ(parse_json(deepest, "a").dump(), deepest);
  for (const int depth : {65, 1'000'000}) {
    EXPECT_EQ(error_of([&] { parse_json(nested(depth), "file.json"); }),
              "file.json: JSON nested deeper than 64");
  }
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(error_of([&] { parse_json(objects, "file.json"); }),
            "file.json: JSON nested deeper than 64");
}

// To find a key takes as long as there are keys.
TEST(Json, ObjectsHaveNotAnyNumberOfKeys) {
  const auto object = [](int keys) {
    std::string text = "{\"a\": {}, \"b\": {";
    for (int i = 0; i < keys; ++i) text += (i > 0 ? ", \"" : "\"") + std::to_string(i) + "\": 0";
    return text + "}}";
  };
  EXPECT_EQ(parse_json(object(20'000), "a").at("b").size(), 20'000U);
  EXPECT_EQ(error_of([&] { parse_json(object(20'001), "file.json"); }),
            "file.json: a JSON object with more than 20000 keys");
}

// The name of a file may be Latin-1.
TEST(Json, BytesThatAreNotUtf8AreReplaced) {
  const std::string name = "M\xfcller", replaced = "M\xef\xbf\xbdller";
  EXPECT_EQ(json_text(Json(name)), "\"" + replaced + "\"");
  EXPECT_EQ(utf8_text(name), replaced);
  EXPECT_EQ(utf8_text(replaced), replaced);
  EXPECT_EQ(utf8_text("M\xc3\xbcller"), "M\xc3\xbcller");
}

// The parser's own callbacks would look through the array at the end of every object.
TEST(Json, ArraysOfManyObjects) {
  constexpr int kCount = 300'000;
  std::string text = "[{}";
  for (int i = 1; i < kCount; ++i) text += ",{}";
  EXPECT_EQ(parse_json(text + "]", "many").size(), kCount);
}

}  // namespace
}  // namespace segmamba
