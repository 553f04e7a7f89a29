// What the readers make of damaged input, in short: scripts/fuzz.sh is the long run of the same.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <ostream>

#include "heavy_inputs.h"
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
      {"config_bases", 7500},      {"folder_names", 1500}, {"nifti_gzip", 15'000},
      {"inference_report", 7500},  {"environment", 2000},  {"golden", 15'000}};
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

TEST(AllReaders, HaveInputsOfAMillionBytes) {
  const auto& inputs = heavy_inputs();
  for (const auto& reader : all_readers()) {
    EXPECT_TRUE(std::any_of(inputs.begin(), inputs.end(), [&](const Heavy& heavy) {
      return heavy.reader == reader.name;
    })) << reader.name;
  }
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
        << ::testing::PrintToString(heavy.unit.substr(0, 40));
  }
  set_log_level(LogLevel::kInfo);
}

INSTANTIATE_TEST_SUITE_P(All, Readers, ::testing::ValuesIn(all_readers()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace segmamba::fuzz
