#include "segmamba/data/cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <limits>
#include <new>
#include <thread>

#include "case_files.h"
#include "io/nifti_bytes.h"
#include "prepared_scene.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/json.h"
#include "segmamba/core/log.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/data/case_store.h"
#include "support/error_of.h"
#include "support/limited_memory.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::HasSubstr;

const std::vector<std::string> kNames = {"BraTS-GLI-00001-000", "BraTS-GLI-00002-000",
                                         "BraTS-GLI-00003-000"};

void expect_equal(const PreparedCase& a, const PreparedCase& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.geometry.size, b.geometry.size);
  EXPECT_EQ(a.geometry.spacing, b.geometry.spacing);
  EXPECT_EQ(a.geometry.origin, b.geometry.origin);
  EXPECT_EQ(a.geometry.direction, b.geometry.direction);
  EXPECT_EQ(a.axes, b.axes);
  EXPECT_EQ(a.crop_begin, b.crop_begin);
  EXPECT_EQ(a.crop_size, b.crop_size);
  EXPECT_EQ(a.spacing, b.spacing);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.channels, b.channels);
  EXPECT_EQ(a.classes, b.classes);
  EXPECT_EQ(a.class_counts, b.class_counts);
  EXPECT_EQ(a.outside, b.outside);
  EXPECT_TRUE(std::equal(a.image.begin(), a.image.end(), b.image.begin(), b.image.end(),
                         [](Half x, Half y) { return x.bits == y.bits; }));
  EXPECT_TRUE(std::equal(a.labels.begin(), a.labels.end(), b.labels.begin(), b.labels.end()));
}

class CacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kError);
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      test::write_case(root(), kNames[i], static_cast<int>(i) + 1);
    }
  }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  fs::path root() const { return folder_.path() / "cases"; }
  fs::path cache() const { return folder_.path() / "cache"; }
  Dataset dataset() const {
    DatasetConfig config;
    config.root = root().string();
    return open_dataset(config, Labels::kRequired);
  }
  CacheReport build(const PreprocessConfig& config = {}) const {
    return build_cache(dataset(), config, cache());
  }
  std::string opening_error(const PreprocessConfig& config = {}) const {
    return error_of([&] { Cache(cache(), dataset(), config); });
  }

  test::TemporaryFolder folder_;
};

TEST(PreparedFile, HoldsACaseBitByBit) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "x.case";
  auto item = test::prepared_case({3, 5, 7}, 3, 4);
  item.geometry.origin = {0.1, -1.0 / 3, 1e-17};
  item.axes = {{2, 0, 1}, {false, true, true}};
  item.geometry.size = {6, 5, 9};
  item.crop_begin = {2, 1, 2};  // up to the last voxel along each axis
  write_prepared(path, item, {}, "settings");
  expect_equal(map_prepared(path), item);
  item.labels = {};
  item.class_counts = {};
  write_prepared(path, item, {}, "settings");
  expect_equal(map_prepared(path), item);
}

TEST(PreparedFile, EveryChangedByteIsNoticed) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "x.case";
  write_prepared(path, test::prepared_case({2, 3, 4}), {}, "settings");
  const std::string content = read_file(path);
  // Header, image and labels each begin at a multiple of 4096, with padding before.
  const auto header_end = 32 + content.substr(0, 4096).rfind('}') - 31;
  const std::size_t image_end = 4096 + 2 * 3 * 4 * 2 * sizeof(Half);
  for (std::size_t i = 0; i < content.size(); i += i < 1400 ? 1 : 29) {
    std::string changed = content;
    changed[i] = static_cast<char>(changed[i] ^ 4);
    write_file_atomically(path, changed);
    const bool is_padding = (i >= header_end && i < 4096) || (i >= image_end && i < 8192);
    EXPECT_EQ(error_of([&] { map_prepared(path); }).empty(), is_padding) << "byte " << i;
  }
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{10}, std::size_t{500}, content.size() - 1}) {
    write_file_atomically(path, content.substr(0, size));
    EXPECT_THAT(error_of([&] { map_prepared(path); }), HasSubstr("x.case")) << size;
  }
}

// A prepared case's file with other values in its header, which fits its hash all the same, as that
// of a hostile file does.
std::string with_header(const std::string& content, const Json& changes) {
  constexpr std::size_t kPrefix = 32, kAlignment = 4096;
  const auto aligned = [](std::size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, content.data() + 8, sizeof header_bytes);
  Json header = parse_json(content.substr(kPrefix, header_bytes), "header");
  header.merge_patch(changes);
  const std::string text = header.dump();
  const Hash128 hash = hash_bytes(text.data(), text.size());
  std::string file = content.substr(0, 8);
  for (const std::uint64_t number : {std::uint64_t{text.size()}, hash.high, hash.low}) {
    file.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  file += text;
  file.resize(aligned(file.size()), '\0');
  return file + content.substr(aligned(kPrefix + header_bytes));
}

TEST(PreparedFile, HeadersThatLieAreRefused) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "x.case";
  write_prepared(path, test::prepared_case({2, 3, 4}), {}, "settings");
  const std::string content = read_file(path);
  const auto error_with = [&](const Json& changes) {
    write_file_atomically(path, with_header(content, changes));
    return error_of([&] { map_prepared(path); });
  };
  EXPECT_EQ(error_with(Json::object()), "");
  const auto large = std::int64_t{1} << 62, largest = std::numeric_limits<std::int64_t>::max();
  const auto zeros = [](std::size_t count) { return std::vector<std::int32_t>(count, 0); };
  EXPECT_EQ(error_with({{"classes", 255}, {"class_counts", zeros(510)}}), "");
  EXPECT_EQ(error_with({{"geometry", {{"size", {5, 3, 2}}}}, {"crop_begin", {0, 0, 1}}}), "");
  const Json lies = Json::array({
      {{"size", {large, 4, 1}}},  // whose product is 0 in 64 bits
      {{"size", {large, large, large}}},
      {{"size", {-2, -3, 4}}},
      {{"size", {2.5, 3, 4}}},
      {{"size", {1e300, 3, 4}}},
      {{"size", {2, 3}}},
      {{"spacing", {1, 1, 0}}},
      {{"spacing", {-1, -1, -1}}},
      {{"channels", large}},
      {{"channels", -1}},
      {{"classes", large}},
      {{"classes", 1}},  // fewer than class_counts has
      {{"classes", -1}},
      {{"classes", 256}, {"class_counts", zeros(512)}},
      {{"classes", 1000}, {"class_counts", zeros(2000)}},
      {{"class_counts", {1, 2, 3}}},
      {{"class_counts", {1e300}}},
      {{"class_counts", {11, 1, 0, 12, 1, 0}}},  // of 12 voxels in each slice
      {{"class_counts", {12, 0, 0, 13, -1, 0}}},
      {{"axes", {0, 1, 3}}},
      {{"axes", {0, 1, 1}}},
      {{"axes", {0, 1, -1}}},
      {{"axes", {2, 1, 0}}},  // towards which the crop sticks out of the grid
      {{"crop_begin", {1, 0, 0}}},
      {{"crop_begin", {0, 0, -1}}},
      {{"crop_begin", {0, largest, 0}}},
      {{"crop_size", {2, 3, 5}}},
      {{"crop_size", {2, 0, 4}}},
      {{"crop_size", {-2, 3, 4}}},
      {{"crop_size", {largest, 3, 4}}},
      {{"crop_begin", {1, 0, 0}}, {"crop_size", {largest, 3, 4}}},  // whose sum is below 0
      {{"geometry", {{"size", {4, 3, 1}}}}},
      {{"geometry", {{"size", {2, 3, 4}}}}},
      {{"geometry", {{"size", {-4, -3, 2}}}}},
      {{"geometry", {{"size", {large, 4, 4}}}}},  // whose product is 0 in 64 bits
      {{"geometry", {{"size", {largest, 3, 2}}}}},
      {{"geometry", {{"spacing", {1, 0, 1}}}}},
      {{"outside", {0}}},
      {{"outside", "text"}},
      {{"sources", {{{"bytes", 1}}}}},
      {{"hash", 5}},
  });
  for (const Json& lie : lies) {
    EXPECT_THAT(error_with(lie), HasSubstr("x.case: has a damaged header"))
        << lie.dump().substr(0, 80);
  }
}

TEST_F(CacheTest, LabelValuesThatAreNoneAreRefused) {
  build();
  const auto path = cache() / "manifest.json";
  Json manifest = read_json(path);
  for (const Json& pair : {Json{256, 1}, Json{1, -1}, Json{1e300, 1}, Json{1}}) {
    manifest["label_values"] = Json::array({pair});
    write_json(path, manifest);
    EXPECT_THAT(error_of([&] {
                  cached_dataset(cache(), kBratsChannels, kBratsClasses, Labels::kOptional);
                }),
                HasSubstr("manifest.json: is damaged"))
        << pair;
  }
}

TEST_F(CacheTest, GivesTheVoxelsThatPreparingInMemoryGives) {
  const auto report = build();
  EXPECT_EQ(report.made, 3);
  EXPECT_TRUE(report.failed.empty());
  CaseStore mapped(dataset(), {}, cache()), in_memory(dataset(), {}, std::uint64_t{1} << 30);
  for (std::size_t i = 0; i < 3; ++i) expect_equal(*mapped.get(i), *in_memory.get(i));
  EXPECT_LE(report.bytes, largest_cache_bytes(dataset(), {}));
}

TEST_F(CacheTest, VolumesOfAFileCountAsChannels) {
  const fs::path file = test::case_file(root(), kNames[0], "t1n");
  const auto image = test::case_image(1);
  test::NiftiBytes bytes(file);
  bytes.put<std::int16_t>(40, 4);
  bytes.put<std::int16_t>(48, 2);
  for (const float value : image.voxels) bytes.append(value);
  bytes.write_gzip(file);
  Dataset set = dataset();
  set.cases.resize(1);
  set.cases[0].images = {{file, 0}, {file, 1}};
  EXPECT_GT(largest_cache_bytes(set, {}), 2 * sizeof(Half) * image.voxels.size());
}

TEST_F(CacheTest, ReadyCasesAreKeptAndChangedOnesMadeAnew) {
  build();
  EXPECT_EQ(build().kept, 3);
  // Another time, the same content.
  fs::last_write_time(test::case_file(root(), kNames[0], "t1n"),
                      fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(opening_error(), "");
  EXPECT_EQ(build().kept, 3);
  // Another content.
  io::write_image(test::case_file(root(), kNames[1], "t1n"), test::case_image(77));
  EXPECT_THAT(opening_error(), HasSubstr("1 of 3 cases have changed since they were prepared, such "
                                         "as BraTS-GLI-00002-000; run segmamba-data prepare"));
  auto report = build();
  EXPECT_EQ(report.made, 1);
  EXPECT_EQ(report.kept, 2);
  EXPECT_EQ(opening_error(), "");
  // A case more.
  test::write_case(root(), "BraTS-GLI-00004-000", 4);
  EXPECT_THAT(opening_error(), HasSubstr("1 of 4 cases are not in the cache"));
  EXPECT_EQ(build().made, 1);
  EXPECT_EQ(opening_error(), "");
  // The same size and time, another content, would not be seen; a damaged cache is.
  const fs::path file = cache() / (kNames[2] + ".case");
  std::string content = read_file(file);
  content.back() = static_cast<char>(content.back() ^ 1);
  write_file_atomically(file, content);
  const Cache opened(cache(), dataset(), {});
  EXPECT_THAT(error_of([&] { opened.open(kNames[2]); }), HasSubstr("is damaged"));
  EXPECT_EQ(build().made, 1);
  opened.open(kNames[2]);
}

TEST_F(CacheTest, CasesOfOtherNumbersOfChannelsOrClassesAreRefused) {
  build();
  const Cache opened(cache(), dataset(), {});
  const fs::path file = cache() / (kNames[1] + ".case");
  const std::string content = read_file(file);
  const auto slices = static_cast<std::size_t>(map_prepared(file).size[0]);
  const std::vector<std::pair<std::string, Json>> lies = {
      {"has 3 channels and 4 classes, not 4 and 4", {{"channels", 3}, {"outside", {0, 0, 0}}}},
      {"has 4 channels and 5 classes, not 4 and 4",
       {{"classes", 5}, {"class_counts", std::vector<int>(5 * slices, 0)}}}};
  for (const auto& [message, lie] : lies) {
    write_file_atomically(file, with_header(content, lie));
    const auto is_refused = HasSubstr(kNames[1] + ".case: " + message +
                                      "; remove it and run segmamba-data prepare again");
    EXPECT_THAT(opening_error(), is_refused);
    EXPECT_THAT(error_of([&] { opened.open(kNames[1]); }), is_refused);
    EXPECT_EQ(build().made, 1);
    EXPECT_EQ(opening_error(), "");
  }
}

TEST_F(CacheTest, ServesWithoutTheFilesItWasMadeFrom) {
  build();
  CaseStore whole(dataset(), {}, cache());
  const auto expected = whole.get(1);
  fs::remove_all(root());
  DataConfig config;
  config.cache = cache().string();
  const auto set = find_dataset(config, Labels::kRequired);
  ASSERT_EQ(set.cases.size(), 3U);
  EXPECT_EQ(set.cases[1].patient, "BraTS-GLI-00002");
  const auto store = open_cases(set, config, {});
  expect_equal(*store->get(1), *expected);
  PreprocessConfig other;
  other.normalise = "crop";
  EXPECT_THAT(error_of([&] { open_cases(set, config, other); }), HasSubstr("normalise"));
  config.channels = {"t1c"};
  EXPECT_THAT(error_of([&] { open_cases(find_dataset(config, Labels::kRequired), config, {}); }),
              HasSubstr("channels: t1n, t1c, t2w, t2f"));
  config.cache.clear();
  EXPECT_THAT(error_of([&] { find_dataset(config, Labels::kRequired); }),
              HasSubstr("data.root is empty"));
}

TEST_F(CacheTest, ServesNoUnlabelledCaseWhereLabelsAreNeeded) {
  fs::remove(test::case_file(root(), kNames[1], "seg"));
  DatasetConfig source;
  source.root = root().string();
  build_cache(open_dataset(source, Labels::kOptional), {}, cache());
  EXPECT_EQ(cached_dataset(cache(), kBratsChannels, kBratsClasses, Labels::kOptional).cases.size(),
            3U);
  EXPECT_THAT(
      error_of([&] { cached_dataset(cache(), kBratsChannels, kBratsClasses, Labels::kRequired); }),
      HasSubstr("case BraTS-GLI-00002-000 has no labels"));
}

TEST_F(CacheTest, SettingsThatCannotBeReadAreNotTakenForNoCache) {
  build();
  fs::remove(cache() / "settings.json");
  fs::create_directory(cache() / "settings.json");
  for (const auto& error :
       {opening_error(), error_of([&] { build(); }), error_of([&] { remove_cache(cache()); })}) {
    EXPECT_THAT(error, HasSubstr("settings.json: is a folder"));
  }
}

// What an earlier build made of other files must not pass for the case.
TEST_F(CacheTest, ACaseThatCannotBePreparedAnyMoreIsABadCase) {
  build();
  write_file_atomically(test::case_file(root(), kNames[1], "t2w"), "no NIfTI");
  EXPECT_EQ(build().failed.size(), 1U);
  const Cache opened(cache(), dataset(), {});
  EXPECT_THAT(error_of([&] { opened.open(kNames[1]); }), HasSubstr("t2w"));
  // It keeps its place where the cache serves alone, so that splits stay what they are.
  EXPECT_EQ(cached_dataset(cache(), kBratsChannels, kBratsClasses, Labels::kRequired).cases.size(),
            3U);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Whether a case is ready cannot be seen where there is no room to map its file.
TEST_F(CacheTest, ShortMemoryCostsNoCase) {
  build();
  const std::string manifest = read_file(cache() / "manifest.json");
  const Cache opened(cache(), dataset(), {});
  const fs::path file = cache() / (kNames[1] + ".case");
  constexpr std::uintmax_t kLarge = std::uintmax_t{1} << 32;
  fs::resize_file(file, kLarge);
  {
    const test::LimitedMemory limit(1 << 28);
    EXPECT_THROW(opened.open(kNames[1]), std::bad_alloc);
    EXPECT_THAT(
        error_of([&] { build(); }),
        HasSubstr(concat("case ", kNames[1], ": not enough memory to prepare it, even by itself")));
  }
  EXPECT_EQ(fs::file_size(file), kLarge);
  for (const auto& name : {kNames[0], kNames[2]}) EXPECT_NO_THROW(opened.open(name)) << name;
  EXPECT_EQ(read_file(cache() / "manifest.json"), manifest);
}
#endif

// Such as names in Latin-1, which the JSON of a cache cannot hold.
TEST_F(CacheTest, NamesThatAreNotUtf8AreKept) {
  const std::string name = "BraTS-GLI-M\xfcller-000";
  test::write_case(root(), name, 4);
  const auto report = build();
  EXPECT_EQ(report.made, 4);
  EXPECT_TRUE(report.failed.empty());
  EXPECT_EQ(build().kept, 4);
  EXPECT_EQ(Cache(cache(), dataset(), {}).open(name).name, name);
  // Where the cache serves alone.
  const auto set = cached_dataset(cache(), kBratsChannels, kBratsClasses, Labels::kRequired);
  ASSERT_EQ(set.cases.size(), 4U);
  EXPECT_EQ(set.cases[3].name, name);
  EXPECT_EQ(Cache(cache(), set, {}).open(name).name, name);
  // As a bad case.
  write_file_atomically(test::case_file(root(), name, "t2w"), "no NIfTI");
  EXPECT_EQ(build().failed.size(), 1U);
  EXPECT_THAT(error_of([&] { Cache(cache(), dataset(), {}).open(name); }), HasSubstr("t2w"));
}

// JSON makes both names one.
TEST_F(CacheTest, NamesThatOnlyBytesBeyondUtf8TellApart) {
  const std::vector<std::string> names = {"BraTS-GLI-M\xe4rz-000", "BraTS-GLI-M\xfcrz-000"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    test::write_case(root(), names[i], static_cast<int>(i) + 4);
  }
  EXPECT_EQ(build().made, 5);
  EXPECT_EQ(build().kept, 5);
  const Cache opened(cache(), dataset(), {});
  for (const auto& name : names) EXPECT_EQ(opened.open(name).name, name);
  // One of them would pass for both.
  const auto set = cached_dataset(cache(), kBratsChannels, kBratsClasses, Labels::kRequired);
  EXPECT_THAT(error_of([&] { Cache(cache(), set, {}); }), HasSubstr("2 of 5 cases are not in the"));
}

TEST_F(CacheTest, OtherSettingsAreRefusedByName) {
  build();
  PreprocessConfig other;
  other.normalise = "crop";
  const std::string difference = "\"normalise: nonzero\", now \"normalise: crop\"";
  EXPECT_THAT(opening_error(other), HasSubstr(difference));
  EXPECT_THAT(error_of([&] { build(other); }), HasSubstr(difference));
  remove_cache(cache());
  EXPECT_TRUE(fs::is_empty(cache()));
  EXPECT_EQ(build(other).made, 3);
  EXPECT_EQ(opening_error(other), "");
  // A recipe's name is no setting, its values are.
  other.recipe = "upstream-code";
  EXPECT_EQ(opening_error(other), "");
}

TEST_F(CacheTest, ForeignFilesStay) {
  write_file_atomically(cache().string() + ".txt", "x");
  fs::create_directories(cache());
  write_file_atomically(cache() / "settings.json", R"({"editor": "tabs"})");
  remove_cache(cache());
  EXPECT_TRUE(fs::exists(cache() / "settings.json"));
  EXPECT_THAT(error_of([&] { build(); }), HasSubstr("settings.json is no file of a cache"));
  fs::remove(cache() / "settings.json");
  build();
  write_file_atomically(cache() / "poetry.lock", "x");
  remove_cache(cache());
  EXPECT_TRUE(fs::exists(cache() / "poetry.lock"));
  EXPECT_FALSE(is_cache(cache()));
  EXPECT_THAT(opening_error(), HasSubstr("is no cache"));
}

TEST_F(CacheTest, WhatCannotBeRemovedIsNamed) {
  build();
  const fs::path folder = cache() / "x.case";
  fs::create_directories(folder / "y");
  EXPECT_THAT(error_of([&] { remove_cache(cache()); }),
              HasSubstr("cannot remove " + folder.string() + ": "));
  EXPECT_TRUE(is_cache(cache()));  // so that it can be removed again
  fs::remove_all(folder);
  remove_cache(cache());
  EXPECT_TRUE(fs::is_empty(cache()));
}

TEST_F(CacheTest, BadCasesAreListedAndTheOthersPrepared) {
  write_file_atomically(test::case_file(root(), kNames[1], "t2w"), "no NIfTI");
  const auto report = build();
  EXPECT_EQ(report.made, 2);
  ASSERT_EQ(report.failed.size(), 1U);
  EXPECT_EQ(report.failed[0].first, kNames[1]);
  EXPECT_THAT(report.failed[0].second, HasSubstr("t2w"));
  const Cache opened(cache(), dataset(), {});
  opened.open(kNames[0]);
  EXPECT_EQ(error_of([&] { opened.open(kNames[1]); }), report.failed[0].second);
}

TEST_F(CacheTest, AnUnfinishedCacheIsRefusedAndFinishedByTheNextBuild) {
  build();
  fs::remove(cache() / "manifest.json");
  fs::remove(cache() / (kNames[2] + ".case"));
  EXPECT_THAT(opening_error(), HasSubstr("is not finished"));
  const auto report = build();
  EXPECT_EQ(report.made, 1);
  EXPECT_EQ(report.kept, 2);
}

TEST_F(CacheTest, TwoBuildsAtOnceShareTheWork) {
  for (int i = 4; i < 24; ++i) test::write_case(root(), "BraTS-GLI-10" + std::to_string(i), i);
  const auto set = dataset();
  std::array<std::array<int, 2>, 2> channels{};
  std::array<pid_t, 2> children{};
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(::pipe(channels[i].data()), 0);
    children[i] = ::fork();
    if (children[i] == 0) {
      std::int64_t made = -1;
      try {
        const auto report = build_cache(set, {}, cache());
        made = report.failed.empty() ? report.made : -2;
      } catch (...) {
      }
      const auto written = ::write(channels[i][1], &made, sizeof made);
      ::_exit(written == sizeof made ? 0 : 1);
    }
  }
  std::int64_t total = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    std::int64_t made = 0;
    ASSERT_EQ(::read(channels[i][0], &made, sizeof made), static_cast<ssize_t>(sizeof made));
    EXPECT_GE(made, 0);
    total += made;
    int status = 0;
    ::waitpid(children[i], &status, 0);
    ::close(channels[i][0]);
    ::close(channels[i][1]);
  }
  EXPECT_EQ(total, 23);  // each case once
  EXPECT_EQ(opening_error(), "");
  for (const auto& entry : fs::directory_iterator(cache())) {
    EXPECT_NE(entry.path().extension(), ".case-lock") << entry.path();
  }
}

TEST_F(CacheTest, SurvivesKillsAtAnyMoment) {
  for (int i = 4; i < 34; ++i) test::write_case(root(), "BraTS-GLI-10" + std::to_string(i), i);
  const auto set = dataset();
  int rounds = 0;
  for (std::int64_t wait = 1; rounds < 40; ++rounds, wait += 1) {
    const pid_t child = ::fork();
    if (child == 0) {
      set_thread_count(1);
      try {
        build_cache(set, {}, cache());
      } catch (...) {
      }
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(wait));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    // Whatever has its name is whole.
    if (!fs::exists(cache())) continue;
    for (const auto& entry : fs::directory_iterator(cache())) {
      const auto name = entry.path().filename().string();
      if (name.front() != '.' && entry.path().extension() == ".case") map_prepared(entry.path());
    }
    if (fs::exists(cache() / "manifest.json")) break;
  }
  const auto report = build();
  EXPECT_EQ(report.made + report.kept, 33);
  EXPECT_EQ(opening_error(), "");
}

TEST_F(CacheTest, NamesThatAreNoFileNamesAreRefused) {
  auto set = dataset();
  set.cases[0].name = "../outside";
  const auto report = build_cache(set, {}, cache());
  ASSERT_EQ(report.failed.size(), 1U);
  EXPECT_THAT(report.failed[0].second, HasSubstr("such a name cannot be that of a file"));
}

}  // namespace
}  // namespace segmamba::data
