#include "segmamba/engine/environment.h"

#include <gmock/gmock.h>

#include "segmamba/core/files.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/version.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(Environment, DescribesThisProcess) {
  const Json found = describe_environment(
      {.command_line = {"segmamba-train", "--set", "data.root=a b"}, .device = "cpu"});
  EXPECT_EQ(found["program"]["version"], version());
  EXPECT_EQ(found["program"]["commit"], commit());
  EXPECT_THAT(commit(), MatchesRegex("unknown|[0-9a-f]{12,40}(-dirty)?"));
  EXPECT_THAT(found["time"].get<std::string>(),
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z"));
  EXPECT_EQ(found["command_line"], Json({"segmamba-train", "--set", "data.root=a b"}));
  EXPECT_EQ(found["cpu"]["threads"], thread_count());
  EXPECT_EQ(found["ranks"], 1);
  EXPECT_THAT(found["libtorch"].get<std::string>(), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+.*"));
  for (const char* key : {"host", "kernel", "memory", "folder"}) {
    EXPECT_NE(found[key].get<std::string>(), "") << key;
  }
#ifdef SEGMAMBA_WITH_CUDA
  EXPECT_THAT(found["cuda"]["runtime"].get<std::string>(), MatchesRegex("1[0-9]\\.[0-9]"));
  if (found["cuda"].contains("driver")) {
    EXPECT_THAT(found["cuda"]["cudnn"].get<std::string>(), MatchesRegex("[0-9]\\.[0-9]+\\.[0-9]+"));
    EXPECT_THAT(found["cuda"]["nccl"].get<std::string>(), MatchesRegex("2\\.[0-9]+\\.[0-9]+"));
  }
#endif
}

TEST(Environment, EachStartStaysOnRecord) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "environment.json";
  EXPECT_TRUE(last_start(path).is_null());
  record_start(path, {.command_line = {"first"}, .device = "cpu"});
  // Of another version, with keys that this one does not know.
  Json file = read_json(path);
  file["starts"][0]["moon_phase"] = 0.25;
  write_json(path, file);
  record_start(path, {.command_line = {"second"}, .device = "cuda:1", .ranks = 4});
  file = read_json(path);
  ASSERT_EQ(file["starts"].size(), 2u);
  EXPECT_EQ(file["starts"][0]["command_line"], Json({"first"}));
  EXPECT_EQ(file["starts"][0]["moon_phase"], 0.25);
  EXPECT_EQ(last_start(path)["device"], "cuda:1");
  EXPECT_EQ(last_start(path)["ranks"], 4);
}

TEST(Environment, RefusesADamagedFile) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "environment.json";
  write_file_atomically(path, "{\"starts\": 3}");
  EXPECT_THAT(test::error_of([&] { record_start(path, {}); }),
              EndsWith("environment.json: has no list 'starts'; remove or mend the file"));
  write_file_atomically(path, "{\"starts\": [");
  EXPECT_THAT(test::error_of([&] { record_start(path, {}); }),
              HasSubstr("environment.json: not valid JSON"));
  write_file_atomically(path, "{\"starts\": [[[[[[0]]]]]]}");
  EXPECT_EQ(last_start(path), parse_json("[[[[[0]]]]]", "last"));
  write_file_atomically(path, "{\"starts\": [[[[[[[0]]]]]]]}");
  const std::string deep =
      "environment.json: 'starts' is nested deeper than 6; remove or mend the file";
  EXPECT_THAT(test::error_of([&] { last_start(path); }), EndsWith(deep));
  EXPECT_THAT(test::error_of([&] { record_start(path, {}); }), EndsWith(deep));
}

TEST(Environment, NamesDeviceAndVersion) {
  const Json start = {{"device", "cuda:1"},
                      {"program", {{"version", "0.1.0"}, {"commit", "abc"}}},
                      {"gpus", {{{"name", "First"}}, {{"name", "Second"}}}},
                      {"cpu", {{"name", "Some CPU"}}}};
  EXPECT_EQ(device_text(start), "cuda:1, Second");
  EXPECT_EQ(version_text(start), "0.1.0 (abc)");
  Json other = start;
  other["device"] = "cpu";
  EXPECT_EQ(device_text(other), "cpu, Some CPU");
  for (const char* device : {"cuda:7", "cuda:x9"}) {
    other = {{"device", device}};
    EXPECT_EQ(device_text(other), device);
  }
  EXPECT_EQ(device_text(Json()), "");
  EXPECT_EQ(version_text(Json()), "");
}

}  // namespace
}  // namespace segmamba::engine
