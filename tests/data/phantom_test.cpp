#include "segmamba/data/phantom.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/parallel.h"
#include "segmamba/data/cases.h"
#include "segmamba/data/threshold.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

constexpr std::array<std::int64_t, 3> kSmall = {40, 40, 40};

std::map<std::string, std::string> files_under(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[std::filesystem::relative(entry.path(), folder).string()] = read_file(entry.path());
  }
  return files;
}

// The channels z-scored over the brain, as load_case does.
CaseData z_scored(const Phantom& phantom) {
  CaseData item;
  item.name = phantom.name;
  item.channels = static_cast<std::int64_t>(phantom.images.size());
  const auto& size = phantom.labels.geometry.size;
  item.size = {size[2], size[1], size[0]};
  item.labels = phantom.labels.voxels;
  for (const io::Image& image : phantom.images) {
    double count = 0;
    double sum = 0;
    double squares = 0;
    for (const float v : image.voxels) {
      if (v == 0) continue;
      ++count;
      sum += v;
      squares += static_cast<double>(v) * v;
    }
    const double mean = sum / count;
    const double deviation = std::sqrt(squares / count - mean * mean);
    for (const float v : image.voxels) {
      item.image.push_back(v == 0 ? 0 : static_cast<float>((v - mean) / deviation));
    }
  }
  return item;
}

TEST(Phantom, FilesHaveTheSameBitsOnAnyNumberOfThreads) {
  const PhantomConfig config{.cases = 3, .size = {32, 36, 40}, .seed = 5};
  const int threads = thread_count();
  test::TemporaryFolder one;
  test::TemporaryFolder many;
  set_thread_count(1);
  write_phantoms(one.path(), config);
  set_thread_count(3);
  std::vector<std::int64_t> done;
  write_phantoms(many.path(), config, [&](std::int64_t cases) { done.push_back(cases); });
  set_thread_count(threads);
  const auto files = files_under(one.path());
  EXPECT_EQ(files.size(), 15U);
  EXPECT_TRUE(files.contains("BraTS-GLI-90002-000/BraTS-GLI-90002-000-t2f.nii.gz"));
  EXPECT_TRUE(files == files_under(many.path()));
  EXPECT_EQ(done, (std::vector<std::int64_t>{1, 2, 3}));
}

TEST(Phantom, DependsOnSeedAndIndexAlone) {
  const PhantomConfig few{.cases = 2, .size = kSmall, .seed = 9};
  const PhantomConfig more{.cases = 7, .size = kSmall, .seed = 9};
  const Phantom a = make_phantom(few, 1);
  const Phantom b = make_phantom(more, 1);
  EXPECT_EQ(a.name, "BraTS-GLI-90001-000");
  EXPECT_EQ(a.labels.voxels, b.labels.voxels);
  for (std::size_t m = 0; m < 4; ++m) EXPECT_EQ(a.images[m].voxels, b.images[m].voxels);
  EXPECT_NE(a.labels.voxels, make_phantom(few, 0).labels.voxels);
  EXPECT_NE(a.labels.voxels,
            make_phantom({.cases = 2, .size = kSmall, .seed = 10}, 1).labels.voxels);
}

TEST(Phantom, ReadsBackAsACaseOfTheDataSet) {
  const PhantomConfig config{.cases = 1, .size = {33, 40, 47}, .seed = 2};
  test::TemporaryFolder folder;
  write_phantoms(folder.path(), config);
  const Phantom phantom = make_phantom(config, 0);
  const auto cases = find_cases(folder.path(), kBratsChannels, true);
  ASSERT_EQ(cases.size(), 1U);
  EXPECT_EQ(cases[0].name, phantom.name);
  for (std::size_t m = 0; m < 4; ++m) {
    const io::Image image = io::read_image(cases[0].images[m]);
    EXPECT_EQ(image.geometry.size, (std::array<std::int64_t, 3>{47, 40, 33}));
    EXPECT_EQ(io::geometry_difference(image.geometry, phantom.images[m].geometry), "");
    EXPECT_EQ(image.voxels, phantom.images[m].voxels);
  }
  EXPECT_EQ(io::read_labels(cases[0].labels).voxels, phantom.labels.voxels);
}

TEST(Phantom, BrainAndTumourHaveThePromisedVolumes) {
  int enhancing = 0;
  constexpr int kCases = 24;
  for (int index = 0; index < kCases; ++index) {
    const Phantom phantom = make_phantom({.cases = kCases, .size = kSmall, .seed = 1}, index);
    std::array<std::int64_t, 4> counts{};
    std::int64_t brain = 0;
    const std::size_t voxels = phantom.labels.voxels.size();
    for (std::size_t i = 0; i < voxels; ++i) {
      const bool inside = phantom.images[0].voxels[i] > 0;
      brain += inside;
      for (const io::Image& image : phantom.images) {
        ASSERT_EQ(image.voxels[i] > 0, inside);
        ASSERT_EQ(image.voxels[i], std::round(image.voxels[i]));
        ASSERT_LE(image.voxels[i], 32767);
      }
      ++counts.at(phantom.labels.voxels[i]);
      ASSERT_TRUE(inside || phantom.labels.voxels[i] == 0) << "a label outside the brain";
    }
    const double share = static_cast<double>(brain) / static_cast<double>(voxels);
    EXPECT_GT(share, 0.2);
    EXPECT_LT(share, 0.4);
    const std::int64_t whole = counts[1] + counts[2] + counts[3];
    EXPECT_GE(whole, 0.03 * static_cast<double>(brain));
    EXPECT_LE(whole, 0.10 * static_cast<double>(brain));
    EXPECT_GT(counts[kNecrosis], 0);
    EXPECT_GT(counts[kOedema], whole / 5);
    EXPECT_GE(counts[kNecrosis] + counts[kEnhancing], whole / 5);
    enhancing += counts[kEnhancing] > 0;
  }
  EXPECT_GE(enhancing, kCases * 7 / 10);
  EXPECT_LT(enhancing, kCases) << "some cases must not enhance";
}

// The contrasts that radiologists read, in the mean over the cases.
TEST(Phantom, ContrastsAreThoseOfTheModalities) {
  enum { kT1n, kT1c, kT2w, kT2f };
  std::array<std::array<double, 4>, 4> sums{};  // by channel and label, of z-scores
  std::array<double, 4> counts{};
  for (int index = 0; index < 8; ++index) {
    const CaseData item = z_scored(make_phantom({.cases = 8, .size = kSmall, .seed = 3}, index));
    const std::size_t voxels = item.labels.size();
    for (std::size_t i = 0; i < voxels; ++i) {
      if (item.image[i] == 0) continue;
      ++counts.at(item.labels[i]);
      for (std::size_t c = 0; c < 4; ++c) sums[c].at(item.labels[i]) += item.image[c * voxels + i];
    }
  }
  const auto mean = [&](std::size_t channel, int label) {
    return sums.at(channel).at(static_cast<std::size_t>(label)) /
           counts.at(static_cast<std::size_t>(label));
  };
  EXPECT_GT(mean(kT1c, kEnhancing), mean(kT1c, kNecrosis) + 1.5);
  EXPECT_GT(mean(kT1c, kEnhancing), mean(kT1c, kOedema) + 1.5);
  EXPECT_GT(mean(kT2f, kOedema), mean(kT2f, 0) + 1.0);
  EXPECT_GT(mean(kT2w, kOedema), mean(kT2w, 0) + 0.3);
  EXPECT_LT(mean(kT1n, kNecrosis), mean(kT1n, 0) - 0.5);
}

TEST(Phantom, NoThresholdOnOneModalitySolvesIt) {
  std::vector<CaseData> cases;
  for (int index = 0; index < 16; ++index) {
    cases.push_back(z_scored(make_phantom({.cases = 16, .size = {48, 48, 48}, .seed = 1}, index)));
  }
  const auto results = best_threshold_dice(cases);
  ASSERT_EQ(results.size(), 4U);
  double best = 0;
  for (const auto& result : results) {
    EXPECT_LT(result.dice, 0.60);
    best = std::max(best, result.dice);
  }
  // And the tumour shows all the same.
  EXPECT_GT(best, 0.30);
}

TEST(Phantom, RefusesSizesAndCountsOutOfRange) {
  test::TemporaryFolder folder;
  EXPECT_THROW(make_phantom({.cases = 1, .size = {31, 64, 64}, .seed = 0}, 0), Error);
  EXPECT_THROW(make_phantom({.cases = 1, .size = {64, 64, 5000}, .seed = 0}, 0), Error);
  EXPECT_THROW(make_phantom({.cases = 1, .size = kSmall, .seed = 0}, 10000), Error);
  EXPECT_THROW(write_phantoms(folder.path(), {.cases = 0, .size = kSmall, .seed = 0}), Error);
}

TEST(BestThresholdDice, FindsTheBestThresholdOnEitherSide) {
  CaseData item;
  item.name = "case";
  item.channels = 2;
  item.size = {1, 1, 8};
  // Background, then three normal and three tumour voxels, then a bright normal one.
  item.labels = {0, 0, 0, 0, 1, 2, 3, 0};
  item.image = {0, -1, -0.5f, 0.5f, 1,  1.5f, 2,  3,  //
                0, 1,  2,     3,    -1, -2,   -3, 0.5f};
  const auto results = best_threshold_dice({item});
  EXPECT_DOUBLE_EQ(results[0].dice, 2.0 * 3 / (3 + 4));
  EXPECT_TRUE(results[0].above);
  EXPECT_GT(results[0].threshold, 0.5);
  EXPECT_LE(results[0].threshold, 1);
  EXPECT_DOUBLE_EQ(results[1].dice, 1.0);
  EXPECT_FALSE(results[1].above);
  // One threshold for all cases: the second case is the mirror image of the first.
  CaseData other = item;
  for (float& z : other.image) z = -z;
  EXPECT_LT(best_threshold_dice({item, other})[1].dice, 0.8);
  other.labels.clear();
  EXPECT_THROW(best_threshold_dice({other}), Error);
  EXPECT_THROW(best_threshold_dice({}), Error);
}

}  // namespace
}  // namespace segmamba::data
