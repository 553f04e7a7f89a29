#include "segmamba/engine/sliding_window.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <cmath>
#include <new>

#include "slice_resampler.h"

namespace segmamba::engine {
namespace {

using ::testing::ElementsAre;
using torch::Tensor;

double largest_difference(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// What a slide gives, put together.
Tensor slide(const Tensor& image, const SlidingWindow& options, const WindowFunction& function) {
  std::vector<Tensor> parts;
  std::int64_t next = 0;
  slide_windows(image, options, function, [&](const Tensor& scores, std::int64_t first) {
    EXPECT_EQ(first, next);
    next += scores.size(1);
    parts.push_back(scores.clone());
    scores.fill_(std::nan(""));  // a sink may do that
  });
  EXPECT_EQ(next, image.size(1));
  return torch::cat(parts, 1);
}

SlidingWindow window_of(std::array<std::int64_t, 3> size) {
  SlidingWindow options;
  options.window = size;
  return options;
}

TEST(WindowStarts, CoverTheAxisEvenly) {
  EXPECT_THAT(window_starts(10, 16, 0.5), ElementsAre(0));
  EXPECT_THAT(window_starts(16, 16, 0.5), ElementsAre(0));
  EXPECT_THAT(window_starts(17, 16, 0.5), ElementsAre(0, 1));
  EXPECT_THAT(window_starts(32, 16, 0.5), ElementsAre(0, 8, 16));
  EXPECT_THAT(window_starts(32, 16, 0), ElementsAre(0, 16));
  EXPECT_THAT(window_starts(30, 10, 0.9), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                                      14, 15, 16, 17, 18, 19, 20));
}

TEST(WindowStarts, NeighboursOverlapAtLeastAsAsked) {
  for (std::int64_t size = 20; size < 90; ++size) {
    for (const double overlap : {0.0, 0.25, 0.5, 0.8}) {
      const auto starts = window_starts(size, 16, overlap);
      EXPECT_EQ(starts.front(), 0);
      EXPECT_EQ(starts.back(), size - 16);
      for (std::size_t i = 1; i < starts.size(); ++i) {
        // Rounding to voxels may cost one.
        EXPECT_LE(starts[i] - starts[i - 1], std::ceil(16 * (1 - overlap))) << size;
      }
    }
  }
}

TEST(ImportanceMap, HasTheGaussiansValues) {
  const auto map = importance_map({5, 4, 1}, 0.25);
  const auto at = [](double x, double n) { return std::exp(-x * x / (2 * 0.0625 * n * n)); };
  EXPECT_NEAR(map[2][1][0].item<double>(), at(0.5, 4), 1e-6);
  EXPECT_NEAR(map[0][3][0].item<double>(), at(2, 5) * at(1.5, 4), 1e-6);
  EXPECT_TRUE(torch::equal(map, map.flip({0, 1, 2})));
  // exp(-16 * 3 / 2) in the corner of a cube at sigma 0.125 would vanish.
  EXPECT_FLOAT_EQ(importance_map({64, 64, 64}, 0.125).min().item<float>(), 1e-3F);
}

TEST(SlidingWindow, IdentityGivesBackItsInput) {
  torch::manual_seed(1);
  for (const auto& shape : {std::array<std::int64_t, 3>{20, 33, 17},
                            {16, 16, 16},
                            {7, 40, 5},
                            {61, 16, 9},
                            {17, 15, 8},
                            {1, 1, 1}}) {
    const auto image = torch::randn({2, shape[0], shape[1], shape[2]});
    for (const double overlap : {0.0, 0.3, 0.5, 0.9}) {
      for (const bool gaussian : {true, false}) {
        auto options = window_of({16, 16, 8});
        options.gaussian = gaussian;
        options.overlap = overlap;
        options.batch_size = 3;
        const auto out = slide(image, options, [](const Tensor& x) { return x; });
        ASSERT_EQ(out.sizes(), image.sizes());
        EXPECT_LT(largest_difference(out, image), 1e-6);
      }
    }
  }
}

// The voxels of prepared cases: 16 bits, channels last.
TEST(SlidingWindow, TakesAnyTypeAndLayout) {
  torch::manual_seed(2);
  const auto voxels = torch::randn({9, 10, 11, 3}).to(torch::kHalf);
  const auto out =
      slide(voxels.permute({3, 0, 1, 2}), window_of({8, 12, 4}), [](const Tensor& x) { return x; });
  EXPECT_EQ(out.scalar_type(), torch::kFloat);
  EXPECT_LT(largest_difference(out, voxels.permute({3, 0, 1, 2}).to(torch::kFloat)), 1e-6);
}

// Sums of the whole volume at once, in double.
Tensor blend(const Tensor& image, const SlidingWindow& options, const WindowFunction& function) {
  const auto& window = options.window;
  const auto importance = importance_map(window, options.sigma_scale).to(torch::kDouble);
  Tensor sum, weights;
  for (const auto z : window_starts(image.size(1), window[0], options.overlap)) {
    for (const auto y : window_starts(image.size(2), window[1], options.overlap)) {
      for (const auto x : window_starts(image.size(3), window[2], options.overlap)) {
        const auto part = [&](const Tensor& volume) {
          return volume.narrow(1, z, window[0]).narrow(2, y, window[1]).narrow(3, x, window[2]);
        };
        const auto result = function(part(image).unsqueeze(0).clone())[0];
        if (!sum.defined()) {
          const auto volume = image.narrow(0, 0, 1).to(torch::kDouble);
          weights = torch::zeros_like(volume);
          sum = weights.repeat({result.size(0), 1, 1, 1});
        }
        part(sum) += result * importance;
        part(weights) += importance;
      }
    }
  }
  return sum / weights;
}

Tensor depends_on_the_window(const Tensor& x) {
  return torch::cat(
      {x.sin().sum(1, /*keepdim=*/true), x.cumsum(4).mean(1, /*keepdim=*/true),
       x.amax({2, 3, 4}, /*keepdim=*/true).narrow(1, 0, 1).expand_as(x.narrow(1, 0, 1))},
      1);
}

TEST(SlidingWindow, BlendsAsOverTheWholeVolume) {
  torch::manual_seed(3);
  for (const double overlap : {0.0, 0.25, 0.5, 0.75}) {
    auto options = window_of({8, 6, 10});
    options.overlap = overlap;
    options.batch_size = 4;
    const auto image = torch::randn({2, 37, 20, 23});
    EXPECT_LT(largest_difference(slide(image, options, depends_on_the_window),
                                 blend(image, options, depends_on_the_window)),
              1e-5);
  }
}

TEST(SlidingWindow, WindowBatchChangesNoBit) {
  torch::manual_seed(4);
  const auto image = torch::randn({2, 24, 20, 18});
  auto options = window_of({8, 8, 8});
  const auto one = slide(image, options, depends_on_the_window);
  for (const std::int64_t batch_size : {2, 5, 1000}) {
    options.batch_size = batch_size;
    EXPECT_TRUE(torch::equal(slide(image, options, depends_on_the_window), one)) << batch_size;
  }
}

// A window that sees its own mean tells which windows were blended: on one axis of 12 with windows
// of 8 at 0 and 4, voxel 5 is the weighted mean of both.
TEST(SlidingWindow, BlendsByImportance) {
  const auto image = torch::arange(12, torch::kFloat).view({1, 1, 1, 12});
  auto options = window_of({1, 1, 8});
  const auto mean = [](const Tensor& x) {
    return x.mean({2, 3, 4}, /*keepdim=*/true).expand_as(x).clone();
  };
  const auto out = slide(image, options, mean);
  const double first = std::exp(-1.5 * 1.5 / 2), second = std::exp(-2.5 * 2.5 / 2);
  EXPECT_NEAR(out[0][0][0][5].item<double>(), (3.5 * first + 7.5 * second) / (first + second),
              1e-5);
  EXPECT_NEAR(out[0][0][0][1].item<double>(), 3.5, 1e-6);
  options.gaussian = false;
  EXPECT_NEAR(slide(image, options, mean)[0][0][0][5].item<double>(), 5.5, 1e-6);
}

TEST(SlidingWindow, PadsWithEachChannelsValue) {
  auto options = window_of({4, 4, 2});
  options.padding = {-1, 5};
  std::vector<Tensor> seen;
  slide(torch::zeros({2, 1, 6, 2}), options, [&](const Tensor& x) {
    seen.push_back(x.clone());
    return x;
  });
  ASSERT_EQ(seen.size(), 2U);
  for (const auto& window : seen) {  // [1, 2, 4, 4, 2]: one slice of the volume, the second
    EXPECT_EQ(window.narrow(2, 1, 1).abs().sum().item<float>(), 0);
    for (const int z : {0, 2, 3}) {
      EXPECT_TRUE((window[0][0][z] == -1).all().item<bool>());
      EXPECT_TRUE((window[0][1][z] == 5).all().item<bool>());
    }
  }
}

// Takes so many windows at once.
struct SmallMemory {
  std::int64_t most;
  std::vector<std::int64_t> batches = {};
  Tensor operator()(const Tensor& windows) {
    batches.push_back(windows.size(0));
    if (windows.size(0) <= most) return depends_on_the_window(windows);
    throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__}, "CUDA out of memory.");
  }
};

TEST(SlidingWindow, GoesOnWithFewerWindowsWhereMemoryRunsOut) {
  torch::manual_seed(5);
  const auto image = torch::randn({2, 12, 12, 16});  // rows of 2 x 3 windows
  auto options = window_of({8, 8, 8});
  const auto expected = slide(image, options, depends_on_the_window);
  options.batch_size = 5;
  SmallMemory memory{2};
  std::vector<Tensor> parts;
  std::vector<std::string> notices;
  const auto ended = slide_windows(
      image, options, std::ref(memory),
      [&](const Tensor& scores, std::int64_t) { parts.push_back(scores.clone()); },
      [&](const std::string& what) { notices.push_back(what); });
  EXPECT_TRUE(torch::equal(torch::cat(parts, 1), expected));
  EXPECT_THAT(memory.batches, ElementsAre(5, 2, 2, 2, 2, 2, 2));
  EXPECT_EQ(ended.batch_size, 2);
  EXPECT_THAT(notices, ElementsAre("the GPU's memory ran out with 5 windows a pass: going on "
                                   "with 2"));
}

TEST(SlidingWindow, LetsTheErrorThroughWhereNothingIsLeftToLower) {
  auto options = window_of({8, 8, 8});
  options.batch_size = 4;
  SmallMemory memory{0};
  const auto ignore = [](const Tensor&, std::int64_t) {};
  const auto image = torch::zeros({2, 12, 12, 16});
  EXPECT_THROW(slide_windows(image, options, std::ref(memory), ignore), c10::OutOfMemoryError);
  EXPECT_THAT(memory.batches, ElementsAre(4, 2, 1));
  int calls = 0;
  const auto no_memory = [&](const Tensor&) -> Tensor {
    ++calls;
    throw std::bad_alloc();
  };
  EXPECT_THROW(slide_windows(image, options, no_memory, ignore), std::bad_alloc);
  EXPECT_EQ(calls, 3);
  const auto other = [&](const Tensor&) -> Tensor {
    ++calls;
    throw std::runtime_error("something else");
  };
  EXPECT_THROW(slide_windows(image, options, other, ignore), std::runtime_error);
  EXPECT_EQ(calls, 4);
}

TEST(SliceResampler, IsTrilinear) {
  torch::manual_seed(6);
  using Size = std::array<std::int64_t, 3>;
  for (const auto& [from, to] : {std::pair<Size, Size>{{5, 6, 7}, {9, 6, 7}},
                                 {{5, 6, 7}, {13, 11, 20}},
                                 {{20, 9, 8}, {7, 5, 8}},
                                 {{4, 8, 8}, {5, 3, 15}},
                                 {{1, 3, 3}, {4, 5, 5}},
                                 {{6, 3, 3}, {1, 1, 1}},
                                 {{155, 4, 4}, {100, 6, 5}}}) {
    const auto volume = torch::randn({3, from[0], from[1], from[2]});
    const auto expected =
        at::upsample_trilinear3d(volume.unsqueeze(0), to, /*align_corners=*/false).squeeze(0);
    for (const std::int64_t pieces : {1, 2, 100}) {
      std::vector<Tensor> slices;
      SliceResampler resampler(from, to, [&](const Tensor& slice, std::int64_t first) {
        EXPECT_EQ(first, std::ssize(slices));
        slices.push_back(slice.clone());
        slice.zero_();
      });
      for (std::int64_t z = 0; z < from[0]; z += pieces) {
        // A view of memory that changes afterwards.
        auto part = volume.narrow(1, z, std::min(pieces, from[0] - z)).clone();
        resampler.add(part);
        part.zero_();
      }
      ASSERT_EQ(std::ssize(slices), to[0]);
      EXPECT_LT(largest_difference(torch::cat(slices, 1), expected),
                1e-6 * volume.abs().max().item<double>())
          << from[0] << " to " << to[0];
    }
  }
}

}  // namespace
}  // namespace segmamba::engine
