// What the readers make of damaged input, in short: scripts/fuzz.sh is the long run of the same.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <ostream>

#include "mutator.h"
#include "readers.h"
#include "segmamba/core/files.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba::fuzz {

// For the names of tests; found by GoogleTest in the namespace of its argument.
void PrintTo(const Reader& reader, std::ostream* stream) { *stream << reader.name; }

namespace {

namespace fs = std::filesystem;

std::vector<Reader> all_readers() {
  auto all = text_readers();
  for (const auto& more : {volume_readers(), dataset_readers(), weight_readers()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

fs::path corpus_of(const Reader& reader) {
  return fs::path(SEGMAMBA_TEST_DATA) / "fuzz" / reader.name;
}

std::vector<std::string> words_of(const Reader& reader) {
  return read_dictionary(fs::path(SEGMAMBA_SOURCE_DIR) / "tests/fuzz/dictionaries" /
                         (reader.dictionary + ".dict"));
}

// How many damaged inputs a reader gets: so many that each takes about three seconds.
// SEGMAMBA_DAMAGED_FILES, where it is set.
std::uint64_t count_for(const Reader& reader) {
  if (const char* const wanted = std::getenv("SEGMAMBA_DAMAGED_FILES")) {
    return static_cast<std::uint64_t>(std::atoll(wanted));
  }
  static const std::map<std::string, std::uint64_t> kCounts = {
      {"numbers", 250'000},        {"json", 100'000},      {"csv", 150'000},
      {"prepared_bytes", 100'000}, {"split", 10'000},      {"train_config", 10'000},
      {"config_bases", 7500},      {"folder_names", 1500}, {"nifti_gzip", 15'000}};
  const auto found = kCounts.find(reader.name);
  return found == kCounts.end() ? 25'000 : found->second;
}

// An input to look at, in a file that stays.
std::string kept(const Reader& reader, const std::string& input) {
  const auto path = fs::temp_directory_path() / ("segmamba-broken-" + reader.name);
  write_file_atomically(path, input);
  return concat("; the input is kept in ", path.string());
}

class Readers : public ::testing::TestWithParam<Reader> {
 protected:
  Readers() { set_log_level(LogLevel::kError); }
  ~Readers() override { set_log_level(LogLevel::kInfo); }
};

TEST_P(Readers, TakeWhatTheyOnceDidNot) {
  for (const auto& entry : fs::directory_iterator(corpus_of(GetParam()))) {
    EXPECT_EQ(broken_promise(GetParam(), read_file(entry.path())), "") << entry.path();
  }
}

TEST_P(Readers, TakeDamagedInputs) {
  const auto& reader = GetParam();
  const auto corpus = read_corpus(corpus_of(reader));
  ASSERT_FALSE(corpus.empty());
  const Mutator mutator(corpus, words_of(reader));
  const auto first = hash_bytes(reader.name.data(), reader.name.size()).low;
  for (std::uint64_t i = 0; i < count_for(reader); ++i) {
    const auto input = mutator.input(first + i);
    const auto broken = broken_promise(reader, input);
    ASSERT_EQ(broken, "") << "input " << i << kept(reader, input);
  }
}

// Inputs of 1 MB that make much of few bytes: a beginning, something again and again, where # is a
// number that goes up, and an end.
struct Heavy {
  std::string reader, begin, unit, end;

  std::string input() const {
    std::string text = begin;
    for (std::size_t i = 0; text.size() + end.size() < kBytes; ++i) {
      for (const char letter : unit) {
        if (letter == '#') {
          text += std::to_string(i);
        } else {
          text += letter;
        }
      }
    }
    return text + end;
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 20;
};

const std::vector<Heavy>& heavy_inputs() {
  using namespace std::string_literals;
  static const auto kTexts = [] {
    std::vector<Heavy> all;
    for (const auto* reader : {"yaml_values", "split", "region_file", "train_config"}) {
      for (const auto* unit :
           {"a#: b\n", "- ", "[", "{a: ", "? ", "\"", "&a ", "a: |\n", "\n", "# "}) {
        all.push_back({reader, "", unit, ""});
      }
      all.push_back({reader, "a: [", "x,", "]"});
      all.push_back({reader, "a: [", "[],", "]"});
      all.push_back({reader, "a: &a [x]\nb: [", "*a,", "]"});
    }
    all.push_back({"split", "train:\n", "- c#\n", ""});
    all.push_back({"split", "", "fold_#: [a#]\n", ""});
    all.push_back({"region_file", "regions:\n", "  r#: [1]\n", ""});
    for (const auto* reader : {"json", "dataset_json", "upstream_config", "safetensors_header"}) {
      for (const auto* unit : {"[", "{\"a\":", "\"", "1"}) all.push_back({reader, "", unit, ""});
      all.push_back({reader, "[0", ",0", "]"});
      all.push_back({reader, "[0", ",[]", "]"});
      all.push_back({reader, "[0", ",{\"\":{}}", "]"});
      all.push_back({reader, "{\"a\":{\"\":0", ",\"#\":[]", "}}"});
    }
    for (const auto* reader : {"csv", "case_table", "run_history", "region_words"}) {
      for (const auto* unit : {",", "a#,", "\n", "\"", "\"\",", "x", "a#\n"}) {
        all.push_back({reader, "", unit, ""});
      }
      all.push_back({reader, "a\n", "b\n", ""});
      all.push_back({reader, "case,labels\n", ",\n", ""});
      all.push_back({reader, "iteration,loss\n", "1,2\n", ""});
    }
    return all;
  }();
  static const auto kAll = [] {
    auto all = kTexts;
    const std::string key = "X\1\0\0\0a"s;
    for (const auto& unit :
         {"N"s, "]"s, "}"s, ")"s, "("s, "K\1"s, "\x94"s, "X\0\0\0\0"s, "X\1\0\0\0#"s, "\x8a\0"s,
          "ctorch\nfloat32\n"s, "ccollections\nOrderedDict\n)R"s, "ctorch\nSize\n)R"s}) {
      all.push_back({"pickle", "\x80\2}" + key + "(" + "N"s, unit, "tsq\1."});
      all.push_back({"pickle", "\x80\2}" + key + "]("s, unit, "es."});
    }
    // A text of half the bytes again and again, and items of a dict.
    const std::string long_text = "X\0\0\x08\0"s + std::string(1 << 19, 'a');
    all.push_back({"pickle", "\x80\2}" + key + "(" + long_text + "q\1"s, "h\1", "ts."});
    all.push_back({"pickle", "\x80\2}("s, "M#N", "u."});
    all.push_back({"archive", "PK\3\4"s, "\0"s, ""});
    all.push_back({"safetensors", "\xf0\xff\x0f\0\0\0\0\0{\"a\":{\"\":0"s, ",\"#\":[]", "}}"});
    all.push_back({"safetensors_header",
                   "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                   ",\"#\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", "}"});
    return all;
  }();
  return kAll;
}

TEST(AllReaders, TakeAMillionBytesWithinTheirMemory) {
  set_log_level(LogLevel::kError);
  const auto readers = all_readers();
  for (const auto& heavy : heavy_inputs()) {
    const auto reader = std::find_if(readers.begin(), readers.end(),
                                     [&](const Reader& item) { return heavy.reader == item.name; });
    ASSERT_NE(reader, readers.end()) << heavy.reader;
    EXPECT_EQ(broken_promise(*reader, heavy.input()), "")
        << heavy.reader << " " << ::testing::PrintToString(heavy.begin.substr(0, 40)) << " "
        << ::testing::PrintToString(heavy.unit);
  }
  set_log_level(LogLevel::kInfo);
}

INSTANTIATE_TEST_SUITE_P(All, Readers, ::testing::ValuesIn(all_readers()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace segmamba::fuzz
