#include "segmamba/nn/vss_block.h"

#include <gmock/gmock.h>

#include "support/error_of.h"

namespace segmamba::nn {
namespace {

std::vector<std::int64_t> path(const ops::ScanOrder& order, std::int64_t length) {
  std::vector<std::int64_t> tokens;
  for (std::int64_t t = 0; t < length; ++t) {
    const auto step = order.reversed ? length - 1 - t : t;
    const auto rest = step / order.extent[2];
    tokens.push_back(rest / order.extent[1] * order.stride[0] +
                     rest % order.extent[1] * order.stride[1] +
                     step % order.extent[2] * order.stride[2]);
  }
  return tokens;
}

// The tokens of a volume whose axes have been exchanged, read in memory order.
std::vector<std::int64_t> path_of(torch::IntArrayRef sizes, torch::IntArrayRef axes) {
  const auto tokens = torch::arange(c10::multiply_integers(sizes)).view(sizes).permute(axes);
  const auto flat = tokens.contiguous().flatten();
  return {flat.data_ptr<std::int64_t>(), flat.data_ptr<std::int64_t>() + flat.numel()};
}

TEST(CrossScanOrders, WalkEachAxisFastestAndBack) {
  const auto expect = [](const std::vector<std::int64_t>& sizes,
                         const std::vector<std::vector<std::int64_t>>& axes) {
    const auto orders = cross_scan_orders(sizes);
    const auto length = c10::multiply_integers(sizes);
    ASSERT_EQ(orders.size(), 2 * axes.size());
    for (std::size_t k = 0; k < axes.size(); ++k) {
      auto expected = path_of(sizes, axes[k]);
      EXPECT_EQ(path(orders[k], length), expected) << k;
      std::reverse(expected.begin(), expected.end());
      EXPECT_EQ(path(orders[k + axes.size()], length), expected) << k;
    }
  };
  expect({3, 5}, {{0, 1}, {1, 0}});
  expect({2, 3, 4}, {{0, 1, 2}, {1, 2, 0}, {2, 0, 1}});
}

TEST(VssBlock, ErrorsNameTheKey) {
  EXPECT_EQ(test::error_of([] { VssBlock(VssBlockOptions{.dim = 8, .ssm_ratio = 0.1}); }),
            "model.ssm_ratio: 0.1 of 8 channels is less than one");
}

}  // namespace
}  // namespace segmamba::nn
