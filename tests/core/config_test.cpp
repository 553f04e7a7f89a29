#include "segmamba/core/config.h"

#include <gmock/gmock.h>

#include <functional>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

using ::testing::HasSubstr;

struct Optimizer {
  std::string name = "sgd";
  double learning_rate = 0.01;
  bool nesterov = true;
  bool operator==(const Optimizer&) const = default;
  void visit(ConfigVisitor& v) {
    v.value({.name = "name", .help = "Which one", .choices = {"sgd", "adamw"}}, name);
    v.value({.name = "learning_rate", .help = "Initial", .min = 0, .max = 10}, learning_rate);
    v.value({.name = "nesterov", .help = "Look ahead"}, nesterov);
  }
};

struct Config {
  std::int64_t epochs = 10;
  std::string title = "a run";
  std::vector<std::int64_t> patch = {64, 64, 64};
  std::vector<double> weights = {0.1, 1};
  std::vector<std::string> channels = {"t1n", "no", "1.5"};
  Optimizer optimizer;
  bool operator==(const Config&) const = default;
  void visit(ConfigVisitor& v) {
    v.value({.name = "epochs", .help = "How many", .min = 1}, epochs);
    v.value({.name = "title", .help = "For people"}, title);
    v.value({.name = "patch", .help = "Size", .min = 1, .min_items = 3, .max_items = 3}, patch);
    v.value({.name = "weights", .help = "Of classes"}, weights);
    v.value({.name = "channels", .help = "Order"}, channels);
    v.section("optimizer", "The optimizer", optimizer);
  }
};

Config read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  auto document = ConfigDocument::from_text(text, "run.yaml");
  for (const auto& assignment : overrides) document.override_value(assignment);
  Config config;
  document.read(config);
  return config;
}

std::string message(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class ConfigBase : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    const auto path = folder_.path() / name;
    make_folders(path.parent_path());
    write_file_atomically(path, text);
    return path;
  }
  static std::string message(const std::filesystem::path& path) {
    return test::error_of([&] { load_config<Config>(path, {}); });
  }
  test::TemporaryFolder folder_;
};

TEST_F(ConfigBase, HoldsWhereTheFileSaysNothing) {
  write("common.yaml", "epochs: 3\noptimizer: {name: adamw, nesterov: false}\npatch: [8, 8, 8]\n");
  write("sub/base.yaml", "base: ../common.yaml\ntitle: middle\nepochs: 4\n");
  const auto path = write("run.yaml",
                          "base: sub/base.yaml\npatch: [1, 2, 3]\noptimizer:\n"
                          "  learning_rate: 2\n");
  const auto config = load_config<Config>(path, {"optimizer.nesterov=true"});
  EXPECT_EQ(config.epochs, 4);
  EXPECT_EQ(config.title, "middle");
  EXPECT_EQ(config.patch, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(config.optimizer.name, "adamw");
  EXPECT_EQ(config.optimizer.learning_rate, 2);
  EXPECT_TRUE(config.optimizer.nesterov);
}

TEST_F(ConfigBase, ErrorsNameTheFileOfTheValue) {
  write("common.yaml", "epochs: 3\noptimizer:\n  name: adam\n");
  EXPECT_THAT(message(write("run.yaml", "base: common.yaml\noptimizer: {learning_rate: 1}\n")),
              HasSubstr("common.yaml:3: optimizer.name must be one of"));
  EXPECT_THAT(message(write("run.yaml", "base: common.yaml\noptimizer:\n  name: sdg\n")),
              HasSubstr("run.yaml:3: optimizer.name must be one of"));
  EXPECT_THAT(message(write("run.yaml", "epochs: 1\nbase: none.yaml\n")),
              HasSubstr("run.yaml:2: base: "));
  EXPECT_THAT(message(write("run.yaml", "base: [a]\n")), HasSubstr("run.yaml:1: base must be"));
  EXPECT_THAT(message(write("run.yaml", "base: run.yaml\n")), HasSubstr("more than 8 bases"));
}

// Three files that say something of one section.
TEST_F(ConfigBase, ErrorsNameTheFileOfTheValueInASectionOfSeveral) {
  write("first.yaml", "optimizer:\n  nesterov: true\n");
  write("second.yaml", "base: first.yaml\noptimizer:\n\n  name: adam\n");
  EXPECT_THAT(message(write("run.yaml", "base: second.yaml\n")),
              HasSubstr("second.yaml:4: optimizer.name must be one of"));
  EXPECT_THAT(message(write("run.yaml", "base: second.yaml\noptimizer: {name: sgd, learn: 1}\n")),
              HasSubstr("run.yaml:2: unknown key optimizer.learn"));
  write("first.yaml", "optimizer:\n  nesterov: 7\n");
  EXPECT_THAT(message(write("run.yaml", "base: second.yaml\noptimizer: {name: sgd}\n")),
              HasSubstr("first.yaml:2: optimizer.nesterov must be true or false"));
}

std::string list_of(int count) {
  std::string text = "[";
  for (int i = 0; i < count; ++i) text += "x,";
  return text + "]";
}

// All of them are held at once.
TEST_F(ConfigBase, FilesShareOneLimitOfValues) {
  write("base.yaml", "b: " + list_of(60'000));
  const auto error_with = [&](int count) {
    const auto path = write("run.yaml", "base: base.yaml\na: " + list_of(count));
    return test::error_of([&] { ConfigDocument::from_file(path); });
  };
  EXPECT_EQ(error_with(40'000), "");
  EXPECT_THAT(error_with(60'000),
              ::testing::AllOf(HasSubstr("base.yaml:1: has more than "),
                               HasSubstr(" values beside those of the rest of the config")));
}

// Each is copied in time that does not grow with the others.
TEST_F(ConfigBase, MayHaveManySectionsInCommon) {
  const auto sections = [](const char* key) {
    std::string text;
    for (int i = 0; i < 10'000; ++i) text += concat("s", i, ": {", key, ": 1}\n");
    return text;
  };
  write("base.yaml", sections("b"));
  const auto path = write("run.yaml", "base: base.yaml\n" + sections("a"));
  struct Both {
    std::int64_t a = 0, b = 0;
    void visit(ConfigVisitor& v) {
      v.value({.name = "a", .help = "Own"}, a);
      v.value({.name = "b", .help = "Of the base"}, b);
    }
  };
  Both both;
  ConfigDocument::from_file(path).section("s9999").read(both);
  EXPECT_EQ(both.a, 1);
  EXPECT_EQ(both.b, 1);
}

TEST(Config, OverridesShareTheLimitOfValues) {
  auto document = ConfigDocument::from_text("a: " + list_of(90'000), "run.yaml");
  document.override_value("b=[1, 2]");
  const auto many = "c=" + list_of(40'000);
  EXPECT_THROW(document.override_value(many), Error);
  EXPECT_NO_THROW(ConfigDocument::from_text("a: 1\n", "run.yaml").override_value(many));
}

TEST(Config, KeysOfAnotherKindAreWarnedOf) {
  struct Either {
    std::int64_t used = 1;
    void visit(ConfigVisitor& v) {
      v.value({.name = "used", .help = "A key"}, used);
      v.unused({"used", "other"}, "is no key here");
    }
  };
  Either config;
  ::testing::internal::CaptureStderr();
  ConfigDocument::from_text("used: 3\nother: 4\n", "run.yaml").read(config);
  const auto text = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(config.used, 3);
  EXPECT_THAT(text, HasSubstr("run.yaml:2: other is no key here: ignored"));
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "base.yaml", "other: 4\n");
  write_file_atomically(folder.path() / "run.yaml", "base: base.yaml\nused: 5\n");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(load_config<Either>(folder.path() / "run.yaml", {}).used, 5);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(
      test::error_of([&] { ConfigDocument::from_text("ohter: 4\n", "run.yaml").read(config); }),
      HasSubstr("unknown key ohter"));
}

TEST(Config, ListsOfListsAreReadAndWritten) {
  struct Nested {
    std::vector<std::vector<std::int64_t>> kernels = {{1, 3, 3}, {3, 3, 3}};
    void visit(ConfigVisitor& v) {
      v.value({.name = "kernels", .help = "Taps", .min = 1, .min_items = 1, .max_items = 3},
              kernels);
    }
  };
  Nested config;
  EXPECT_EQ(config_to_yaml(config), "kernels: [[1, 3, 3], [3, 3, 3]]\n");
  ConfigDocument::from_text("kernels: [[1, 1, 5]]\n", "run.yaml").read(config);
  EXPECT_EQ(config.kernels, (std::vector<std::vector<std::int64_t>>{{1, 1, 5}}));
  const auto error = [&](const std::string& text) {
    return test::error_of([&] { ConfigDocument::from_text(text, "run.yaml").read(config); });
  };
  EXPECT_EQ(error("kernels: [3]"), "run.yaml:1: kernels must be a list, as in [a, b], got '3'");
  EXPECT_EQ(error("kernels: [[0]]"), "run.yaml:1: kernels must be an integer at least 1, got '0'");
}

TEST(Config, ConfigsMadeInCodeAreHeldToTheLimits) {
  Config config;
  check_limits(config, "run");
  const auto error = [](const std::function<void(Config&)>& change) {
    Config changed;
    change(changed);
    return test::error_of([&] { check_limits(changed, "run"); });
  };
  EXPECT_EQ(error([](Config& c) { c.epochs = 0; }), "run.epochs must be at least 1, got 0");
  EXPECT_EQ(error([](Config& c) { c.patch = {1, 0, 1}; }), "run.patch must be at least 1, got 0");
  EXPECT_EQ(error([](Config& c) { c.patch = {1}; }), "run.patch must have 3 items, got 1");
  EXPECT_EQ(error([](Config& c) { c.optimizer.learning_rate = 11; }),
            "run.optimizer.learning_rate must be from 0 to 10, got 11");
  EXPECT_EQ(error([](Config& c) { c.optimizer.name = "adam"; }),
            "run.optimizer.name must be one of sgd, adamw, got 'adam'");
}

TEST(Config, KeysOfAConfigThatIsThereCanBeChanged) {
  auto config = read("epochs: 5\ntitle: mine\n");
  override_config(config, {"optimizer.name=adamw", "epochs=7"});
  auto expected = read("epochs: 7\ntitle: mine\n", {"optimizer.name=adamw"});
  EXPECT_EQ(config, expected);
  EXPECT_THROW(override_config(config, {"epoch=7"}), Error);
  EXPECT_THROW(override_config(config, {"epochs=0"}), Error);
}

TEST(Config, ReadsEveryTypeAndKeepsDefaults) {
  const Config config = read(
      "epochs: 3\npatch: [1, 2, 3]\nweights: [1e-3, 2]\nchannels: [a, 'b c']\n"
      "optimizer:\n  name: adamw\n  nesterov: false\n");
  EXPECT_EQ(config.epochs, 3);
  EXPECT_EQ(config.title, "a run");
  EXPECT_EQ(config.patch, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(config.weights, (std::vector<double>{1e-3, 2}));
  EXPECT_EQ(config.channels, (std::vector<std::string>{"a", "b c"}));
  EXPECT_EQ(config.optimizer, (Optimizer{"adamw", 0.01, false}));
}

TEST(Config, APartIsReadWithoutTheOtherKeys) {
  Optimizer optimizer;
  const std::string text = "name: adamw\nepochs: 3\nother: [1]\n";
  ConfigDocument::from_text(text, "run.yaml").read_part(optimizer);
  EXPECT_EQ(optimizer, (Optimizer{"adamw", 0.01, true}));
  EXPECT_THROW(ConfigDocument::from_text(text, "run.yaml").read(optimizer), Error);
  EXPECT_THROW(ConfigDocument::from_text("name: adam", "run.yaml").read_part(optimizer), Error);
}

TEST(Config, EmptyTextAndEmptySectionKeepDefaults) {
  EXPECT_EQ(read(""), Config{});
  EXPECT_EQ(read("# only a comment\noptimizer:\n"), Config{});
}

TEST(Config, WrittenConfigReadsBackIdentically) {
  Config config;
  config.title = "quotes \" and: colons # and\nlines";
  config.weights = {0.1, 1e-300, -3, 1.0 / 3};
  config.channels = {"true", "", "0x1", "~", "- a", "yes", "null", "NULL", "Null"};
  config.optimizer.learning_rate = 0.1 + 0.2;
  for (const bool with_help : {false, true}) {
    EXPECT_EQ(read(config_to_yaml(config, with_help)), config);
  }
}

TEST(Config, HelpNamesChoicesAndRanges) {
  const std::string text = config_to_yaml(Config{}, true);
  EXPECT_THAT(text, HasSubstr("  # Which one (one of sgd, adamw)\n  name: sgd\n"));
  EXPECT_THAT(text, HasSubstr("# How many (at least 1)\nepochs: 10\n"));
}

TEST(Config, UnknownKeyNamesPlaceAndNearest) {
  EXPECT_EQ(message("epochs: 3\noptimizer:\n  learning_rat: 1\n"),
            "run.yaml:3: unknown key optimizer.learning_rat; did you mean learning_rate?");
  EXPECT_EQ(message("epoch: 3\n"), "run.yaml:1: unknown key epoch; did you mean epochs?");
  EXPECT_THAT(message("zzz: 3\n"), HasSubstr("unknown key zzz; known here: epochs, title, patch"));
}

TEST(Config, WrongTypeRangeChoiceAndCount) {
  EXPECT_EQ(message("epochs: many\n"),
            "run.yaml:1: epochs must be an integer at least 1, got 'many'");
  EXPECT_EQ(message("epochs: 0\n"), "run.yaml:1: epochs must be an integer at least 1, got '0'");
  EXPECT_EQ(message("epochs: 2.5\n"),
            "run.yaml:1: epochs must be an integer at least 1, got '2.5'");
  EXPECT_EQ(message("epochs: '3'\n"), "run.yaml:1: epochs must be an integer at least 1, got '3'");
  EXPECT_EQ(message("optimizer: {name: adam}\n"),
            "run.yaml:1: optimizer.name must be one of sgd, adamw, got 'adam'");
  EXPECT_EQ(message("\noptimizer:\n  learning_rate: 11\n"),
            "run.yaml:3: optimizer.learning_rate must be a number from 0 to 10, got '11'");
  EXPECT_THAT(message("optimizer: {learning_rate: .nan}\n"), HasSubstr("must be a number"));
  EXPECT_EQ(message("patch: [1, 2]\n"), "run.yaml:1: patch must have 3 items, got 2");
  EXPECT_EQ(message("patch: 64\n"), "run.yaml:1: patch must be a list, as in [a, b], got '64'");
  EXPECT_EQ(message("patch:\n  - 1\n  - 0\n  - 1\n"),
            "run.yaml:3: patch must be an integer at least 1, got '0'");
  EXPECT_EQ(message("optimizer: sgd\n"),
            "run.yaml:1: optimizer must be a section with keys of its own, got 'sgd'");
  EXPECT_EQ(message("optimizer: {nesterov: 1}\n"),
            "run.yaml:1: optimizer.nesterov must be true or false, got '1'");
}

TEST(Config, TextThatIsNoConfig) {
  EXPECT_THAT(message("a: [1\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(message("- 1\n"), HasSubstr("must be a mapping"));
  EXPECT_EQ(message("epochs: 1\nepochs: 2\n"), "run.yaml:2: key 'epochs' stands twice");
  EXPECT_THAT(message("a: &x [*x]\n"), HasSubstr("nested more than"));
  // Each list holds the one before ten times: the last stands for 10^10 values.
  std::string bomb = "a: &a [1]\n";
  for (char name = 'b'; name <= 'k'; ++name) {
    bomb += concat(name, ": &", name, " [");
    for (int i = 0; i < 10; ++i) bomb += concat("*", static_cast<char>(name - 1), ", ");
    bomb += "]\n";
  }
  EXPECT_THAT(message(bomb), HasSubstr("has more than 1000000 values"));
}

TEST(Config, OverridesWinAndAreNamedInErrors) {
  const Config config =
      read("epochs: 3\n", {"epochs=5", "optimizer.name=adamw", "patch=[8, 8, 8]"});
  EXPECT_EQ(config.epochs, 5);
  EXPECT_EQ(config.optimizer.name, "adamw");
  EXPECT_EQ(config.patch, (std::vector<std::int64_t>{8, 8, 8}));
  EXPECT_EQ(message("", {"optimizer.nam=x"}),
            "--set optimizer.nam=x: unknown key optimizer.nam; did you mean name?");
  EXPECT_EQ(message("", {"epochs=-1"}),
            "--set epochs=-1: epochs must be an integer at least 1, got '-1'");
  EXPECT_THROW(read("", {"epochs"}), UsageError);
  EXPECT_THROW(read("epochs: 1\n", {"epochs.a=1"}), UsageError);
}

TEST(Config, SectionOfALargerDocument) {
  const auto document = ConfigDocument::from_text("x: 1\noptimizer:\n  nam: adamw\n", "run.yaml");
  EXPECT_TRUE(document.has("optimizer"));
  EXPECT_FALSE(document.has("model"));
  Optimizer optimizer;
  try {
    document.section("optimizer").read(optimizer);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "run.yaml:3: unknown key optimizer.nam; did you mean name?");
  }
}

}  // namespace
}  // namespace segmamba
