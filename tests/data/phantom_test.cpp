#include "segmamba/data/phantom.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "io/nifti_bytes.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/core/parallel.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/preprocess.h"
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

// The channels z-scored over the brain.
PreparedCase z_scored(const Phantom& phantom) {
  RawCase raw;
  raw.name = phantom.name;
  raw.geometry = phantom.labels.geometry;
  for (const io::Image& image : phantom.images) raw.channels.push_back(image.voxels);
  raw.labels = phantom.labels.voxels;
  raw.classes = 4;
  return prepare_case(std::move(raw), {});
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
  const auto cases = open_dataset({.root = folder.path().string()}, Labels::kRequired).cases;
  ASSERT_EQ(cases.size(), 1U);
  EXPECT_EQ(cases[0].name, phantom.name);
  for (std::size_t m = 0; m < 4; ++m) {
    const io::Image image = io::read_image(cases[0].images[m].path);
    EXPECT_EQ(image.geometry.size, (std::array<std::int64_t, 3>{47, 40, 33}));
    EXPECT_EQ(io::geometry_difference(image.geometry, phantom.images[m].geometry), "");
    EXPECT_EQ(image.voxels, phantom.images[m].voxels);
  }
  EXPECT_EQ(io::read_labels(cases[0].labels).voxels, phantom.labels.voxels);
}

TEST(Phantom, BrainAndTumourHaveThePromisedVolumes) {
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
    const std::int64_t main = phantom.lesions.at(0).voxels();
    EXPECT_GE(main, 0.05 * static_cast<double>(brain));
    EXPECT_LE(main, 0.10 * static_cast<double>(brain));
    EXPECT_LE(whole, 0.18 * static_cast<double>(brain));
    EXPECT_GT(counts[kNecrosis], 0);
    EXPECT_GT(counts[kOedema], whole / 5);
    EXPECT_GE(counts[kNecrosis] + counts[kEnhancing], whole / 5);
  }
}

// Voxels by label of each connected component, through faces alone or through corners, too.
// `reach`: of the steps from voxel to voxel, 1 or 3 axes at once.
using Counts = std::array<std::int64_t, 4>;
std::vector<Counts> components_of(const io::LabelMap& labels, std::int64_t reach,
                                  std::vector<int>& component_of) {
  const auto& size = labels.geometry.size;
  component_of.assign(labels.voxels.size(), -1);
  std::vector<Counts> components;
  for (std::size_t start = 0; start < labels.voxels.size(); ++start) {
    if (labels.voxels[start] == 0 || component_of[start] >= 0) continue;
    std::vector<std::int64_t> open = {static_cast<std::int64_t>(start)};
    component_of[start] = static_cast<int>(components.size());
    Counts counts{};
    while (!open.empty()) {
      const std::int64_t i = open.back();
      open.pop_back();
      ++counts.at(labels.voxels[static_cast<std::size_t>(i)]);
      const std::array<std::int64_t, 3> place = {i % size[0], i / size[0] % size[1],
                                                 i / (size[0] * size[1])};
      for (std::int64_t step = 0; step < 27; ++step) {
        const std::array<std::int64_t, 3> d = {step % 3 - 1, step / 3 % 3 - 1, step / 9 - 1};
        if (std::abs(d[0]) + std::abs(d[1]) + std::abs(d[2]) > reach) continue;
        bool inside = true;
        for (std::size_t a = 0; a < 3; ++a) {
          inside = inside && place[a] + d[a] >= 0 && place[a] + d[a] < size[a];
        }
        if (!inside) continue;
        const auto next = static_cast<std::size_t>(i + d[0] + size[0] * (d[1] + size[1] * d[2]));
        if (labels.voxels[next] == 0 || component_of[next] >= 0) continue;
        component_of[next] = component_of[start];
        open.push_back(static_cast<std::int64_t>(next));
      }
    }
    components.push_back(counts);
  }
  return components;
}

TEST(Phantom, LesionsAreTheConnectedComponentsOfTheLabels) {
  std::array<int, 6> cases_by_lesions{};
  std::map<LesionKind, int> kinds;
  std::int64_t smallest = 1 << 30;
  constexpr int kCases = 60;
  for (int index = 0; index < kCases; ++index) {
    SCOPED_TRACE(index);
    const Phantom phantom = make_phantom({.cases = kCases, .size = kSmall, .seed = 4}, index);
    ASSERT_FALSE(phantom.lesions.empty());
    ASSERT_LE(phantom.lesions.size(), 5U);
    ++cases_by_lesions.at(phantom.lesions.size());
    std::vector<int> component_of;
    ASSERT_EQ(components_of(phantom.labels, 3, component_of).size(), phantom.lesions.size());
    const auto components = components_of(phantom.labels, 1, component_of);
    ASSERT_EQ(components.size(), phantom.lesions.size());
    std::vector<bool> seen(components.size(), false);
    for (const Lesion& lesion : phantom.lesions) {
      const auto& [z, y, x] = lesion.centre;
      const int number = component_of.at(static_cast<std::size_t>((z * 40 + y) * 40 + x));
      ASSERT_GE(number, 0);
      const auto place = static_cast<std::size_t>(number);
      EXPECT_FALSE(seen[place]);
      seen[place] = true;
      EXPECT_EQ(components[place], (Counts{0, lesion.necrosis, lesion.oedema, lesion.enhancing}));
      EXPECT_GE(lesion.voxels(), kSmallestLesion);
      EXPECT_LE(lesion.voxels(), phantom.lesions.front().voxels());
      smallest = std::min(smallest, lesion.voxels());
      ++kinds[lesion.kind];
      const bool has_core =
          lesion.kind == LesionKind::kRingEnhancing || lesion.kind == LesionKind::kNonEnhancing;
      const bool has_enhancing =
          lesion.kind == LesionKind::kRingEnhancing || lesion.kind == LesionKind::kEnhancingSpot;
      EXPECT_EQ(lesion.necrosis > 0, has_core);
      EXPECT_EQ(lesion.enhancing > 0, has_enhancing);
      EXPECT_EQ(lesion.oedema > 0, lesion.kind != LesionKind::kEnhancingSpot);
    }
  }
  EXPECT_GE(cases_by_lesions[1] + cases_by_lesions[2], kCases * 6 / 10);
  EXPECT_GE(cases_by_lesions[1], kCases / 4);
  EXPECT_GE(cases_by_lesions[2], kCases / 8);
  EXPECT_GE(cases_by_lesions[3] + cases_by_lesions[4] + cases_by_lesions[5], kCases / 12);
  EXPECT_EQ(kinds.size(), 4U);
  EXPECT_LT(smallest, kSmallestLesion * 3 / 2);
}

TEST(Phantom, SomeCasesDoNotEnhance) {
  int without = 0;
  int faint = 0;
  constexpr int kCases = 100;
  for (int index = 0; index < kCases; ++index) {
    const Phantom phantom = make_phantom({.cases = kCases, .size = {32, 32, 32}, .seed = 1}, index);
    std::array<std::int64_t, 4> counts{};
    for (const std::uint8_t label : phantom.labels.voxels) ++counts.at(label);
    EXPECT_EQ(counts[kEnhancing] > 0, phantom.has_enhancing());
    EXPECT_GT(counts[kNecrosis], 0);
    EXPECT_GT(counts[kOedema], 0);
    without += counts[kEnhancing] == 0;
    faint += counts[kEnhancing] > 0 && 5 * counts[kEnhancing] < counts[kNecrosis];
  }
  EXPECT_GE(without, kCases * 8 / 100);
  EXPECT_LE(without, kCases * 25 / 100);
  EXPECT_GE(faint, kCases / 50);
}

// The contrasts that radiologists read, in the mean over the cases.
TEST(Phantom, ContrastsAreThoseOfTheModalities) {
  enum { kT1n, kT1c, kT2w, kT2f };
  std::array<std::array<double, 4>, 4> sums{};  // by channel and label, of z-scores
  std::array<double, 4> counts{};
  for (int index = 0; index < 8; ++index) {
    const auto item = z_scored(make_phantom({.cases = 8, .size = kSmall, .seed = 3}, index));
    const std::size_t voxels = item.labels.size();
    for (std::size_t i = 0; i < voxels; ++i) {
      if (to_float(item.image[4 * i]) == 0) continue;
      ++counts.at(item.labels[i]);
      for (std::size_t c = 0; c < 4; ++c) {
        sums[c].at(item.labels[i]) += to_float(item.image[4 * i + c]);
      }
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
  std::vector<PreparedCase> cases;
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

// The files of a case in each of the conventions.
class PhantomFiles : public ::testing::Test {
 protected:
  static constexpr int kCases = 4;

  void SetUp() override { set_log_level(LogLevel::kError); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }

  static Dataset data_set(const std::filesystem::path& folder) {
    DatasetConfig config;
    config.root = folder.string();
    return open_dataset(config, Labels::kRequired);
  }
  // Files of all cases: the images of a case, then its labels.
  static std::vector<std::filesystem::path> write(const std::filesystem::path& folder,
                                                  const std::vector<std::string>& conventions) {
    write_phantoms(folder, config(conventions));
    std::vector<std::filesystem::path> files;
    for (const Case& item : data_set(folder).cases) {
      for (const auto& image : item.images) files.push_back(image.path);
      files.push_back(item.labels);
    }
    EXPECT_EQ(files.size(), 5U * kCases);
    return files;
  }
  static PhantomConfig config(const std::vector<std::string>& conventions) {
    return {.cases = kCases,
            .size = {32, 34, 36},
            .seed = 6,
            .conventions = parse_conventions(conventions)};
  }
  static bool is_labels(std::size_t file) { return file % 5 == 4; }
  static const Phantom& phantom(std::size_t file) {
    static const std::vector<Phantom> phantoms = [] {
      std::vector<Phantom> made;
      for (int index = 0; index < kCases; ++index) made.push_back(make_phantom(config({}), index));
      return made;
    }();
    return phantoms.at(file / 5);
  }

  // The file's voxels are those of the phantom, but for their order.
  static void expect_same(const std::vector<std::filesystem::path>& files, double tolerance) {
    for (std::size_t i = 0; i < files.size(); ++i) {
      SCOPED_TRACE(files[i].filename().string());
      const Phantom& expected = phantom(i);
      if (is_labels(i)) {
        const io::LabelMap labels = io::read_labels(files[i]);
        EXPECT_EQ(labels.voxels, expected.labels.voxels);
        EXPECT_EQ(io::geometry_difference(labels.geometry, expected.labels.geometry, tolerance),
                  "");
      } else {
        const io::Image image = io::read_image(files[i]);
        EXPECT_EQ(image.voxels, expected.images[i % 5].voxels);
        EXPECT_EQ(io::geometry_difference(image.geometry, expected.labels.geometry, tolerance), "");
      }
    }
  }

  test::TemporaryFolder folder_;
};

TEST_F(PhantomFiles, ThoseOfTheProfileAreLikeBrats2023) {
  const PhantomConfig profile = phantom_profile("brats2023");
  EXPECT_EQ(profile.size, (std::array<std::int64_t, 3>{155, 240, 240}));
  EXPECT_EQ(profile.conventions, parse_conventions({"int16", "extension"}));
  const auto files = write(folder_.path(), {"int16", "extension"});
  expect_same(files, 1e-6);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const test::NiftiBytes bytes(files[i]);
    EXPECT_EQ(bytes.get<std::int16_t>(70), 4);
    EXPECT_EQ(bytes.get<float>(108), is_labels(i) ? 352 : 2880);
    // x to the left, y to the back; the origin at the right and the back.
    const std::array<float, 12> sform = {-1, 0, 0, 0, 0, -1, 0, 33, 0, 0, 1, 0};
    for (std::size_t k = 0; k < 12; ++k) EXPECT_EQ(bytes.get<float>(280 + 4 * k), sform[k]) << k;
    const std::array<float, 6> qform = {0, 0, 1, 0, 33, 0};
    for (std::size_t k = 0; k < 6; ++k) EXPECT_EQ(bytes.get<float>(256 + 4 * k), qform[k]) << k;
  }
}

TEST_F(PhantomFiles, TypesVary) {
  const auto files = write(folder_.path(), {"dtypes"});
  expect_same(files, 1e-6);
  std::set<int> image_types;
  std::set<int> label_types;
  int scaled = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const test::NiftiBytes bytes(files[i]);
    (is_labels(i) ? label_types : image_types).insert(bytes.get<std::int16_t>(70));
    scaled += bytes.get<float>(112) != 1 || bytes.get<float>(116) != 0;
  }
  EXPECT_GE(image_types.size(), 3U);
  EXPECT_GE(label_types.size(), 2U);
  EXPECT_GE(scaled, 2);
}

TEST_F(PhantomFiles, CosinesAreNotQuiteOrthonormal) {
  const auto files = write(folder_.path(), {"cosines"});
  expect_same(files, 2e-4);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const test::NiftiBytes bytes(files[i]);
    float largest = 0;
    for (const std::size_t k : {1U, 2U, 4U, 6U, 8U, 9U}) {
      const auto entry = bytes.get<float>(280 + 4 * k);
      largest = std::max(largest, std::abs(entry));
      EXPECT_EQ(entry, test::NiftiBytes(files[i / 5 * 5]).get<float>(280 + 4 * k));
    }
    EXPECT_GT(largest, 1e-6);
    EXPECT_LE(largest, 1e-4);
  }
}

TEST_F(PhantomFiles, OrientationsVaryAndTheWorldStays) {
  const auto files = write(folder_.path(), {"orientation"});
  std::set<std::pair<double, double>> orientations;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const io::Image image = io::read_image(files[i]);
    const Phantom& original = phantom(i);
    const auto& [geometry, voxels] = image;
    orientations.insert({geometry.direction[0], geometry.direction[4]});
    EXPECT_EQ(io::geometry_difference(geometry, io::read_geometry(files[i / 5 * 5]), 0), "");
    const auto& size = geometry.size;
    std::size_t k = 0;
    std::int64_t wrong = 0;
    for (std::int64_t z = 0; z < size[2]; ++z) {
      for (std::int64_t y = 0; y < size[1]; ++y) {
        for (std::int64_t x = 0; x < size[0]; ++x, ++k) {
          // Spacing 1 and axes along those of the world.
          const auto world_x = std::llround(geometry.origin[0] + geometry.direction[0] * x);
          const auto world_y = std::llround(geometry.origin[1] + geometry.direction[4] * y);
          const auto source =
              static_cast<std::size_t>((z * size[1] + world_y + size[1] - 1) * size[0] + world_x);
          const float expected = is_labels(i) ? original.labels.voxels.at(source)
                                              : original.images[i % 5].voxels.at(source);
          wrong += voxels[k] != expected;
        }
      }
    }
    EXPECT_EQ(wrong, 0) << files[i];
  }
  EXPECT_GE(orientations.size(), 2U);
}

TEST_F(PhantomFiles, ThoseOfBrats2020HaveOldNamesAndLabels) {
  const auto files = write(folder_.path(), {"brats2020"});
  EXPECT_EQ(files[1].filename(), "BraTS20_Training_90000_t1ce.nii.gz");
  EXPECT_EQ(files[3].parent_path().filename(), "BraTS20_Training_90000");
  EXPECT_EQ(files[3].filename(), "BraTS20_Training_90000_flair.nii.gz");
  EXPECT_EQ(files[9].filename(), "BraTS20_Training_90001_seg.nii.gz");
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (!is_labels(i)) {
      EXPECT_EQ(io::read_image(files[i]).voxels, phantom(i).images[i % 5].voxels);
      continue;
    }
    auto expected = phantom(i).labels.voxels;
    std::replace(expected.begin(), expected.end(), std::uint8_t{3}, std::uint8_t{4});
    EXPECT_EQ(io::read_labels(files[i]).voxels, expected);
  }
}

TEST_F(PhantomFiles, AllConventionsTogetherMakeLoadableCases) {
  const std::vector<std::string> all = {"dtypes", "extension", "cosines", "orientation",
                                        "brats2020"};
  test::TemporaryFolder again;
  const int threads = thread_count();
  set_thread_count(1);
  write(folder_.path(), all);
  set_thread_count(3);
  write(again.path(), all);
  set_thread_count(threads);
  EXPECT_TRUE(files_under(folder_.path()) == files_under(again.path()));
  const Dataset dataset = data_set(folder_.path());
  for (const Case& item : dataset.cases) {
    EXPECT_EQ(prepare_case(read_case(dataset, item), {}).channels, 4);
  }
}

TEST(PhantomConventions, ReadsNames) {
  EXPECT_EQ(parse_conventions({}), FileConventions{});
  EXPECT_EQ(parse_conventions({"none"}), FileConventions{});
  EXPECT_EQ(parse_conventions({"dtypes", "cosines", "cosines"}),
            (FileConventions{.types = FileConventions::Types::kVaried, .cosines = true}));
  EXPECT_THROW(parse_conventions({"none", "cosines"}), UsageError);
  EXPECT_THROW(parse_conventions({"int16", "dtypes"}), UsageError);
  EXPECT_THROW(phantom_profile("brats"), UsageError);
  try {
    parse_conventions({"extensions"});
    ADD_FAILURE() << "an unknown name was taken";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'extension'?"), std::string::npos);
  }
}

TEST(Phantom, RefusesSizesAndCountsOutOfRange) {
  test::TemporaryFolder folder;
  EXPECT_THROW(make_phantom({.cases = 1, .size = {31, 64, 64}, .seed = 0}, 0), Error);
  EXPECT_THROW(make_phantom({.cases = 1, .size = {64, 64, 5000}, .seed = 0}, 0), Error);
  EXPECT_THROW(make_phantom({.cases = 1, .size = kSmall, .seed = 0}, 10000), Error);
  EXPECT_THROW(write_phantoms(folder.path(), {.cases = 0, .size = kSmall, .seed = 0}), Error);
}

}  // namespace
}  // namespace segmamba::data
