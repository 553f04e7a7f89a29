#include "segmamba/engine/device_batch.h"

#include <gtest/gtest.h>

#include "segmamba/data/phantom.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

// On the CPU as the device, cuts give the very patches that the loader's workers give.
TEST(ToDevice, AugmentsCutsAsTheWorkersWould) {
  const test::TemporaryFolder folder;
  data::write_phantoms(folder.path(), {.cases = 2, .size = {32, 36, 40}, .seed = 3});
  data::DatasetConfig config;
  config.root = folder.path().string();
  data::PreprocessConfig preprocess;
  preprocess.normalise = "crop";  // so that what lies outside is not 0
  data::CaseStore store(data::open_dataset(config, data::Labels::kRequired), preprocess,
                        std::uint64_t{1} << 30);
  data::PatchOptions options;
  options.size = {24, 20, 28};
  options.seed = 5;
  auto& augment = options.augment;
  augment.rotation.probability = augment.elastic.probability = 0.5;
  augment.noise.probability = augment.blur.probability = augment.gamma.probability = 0.5;
  data::PatchSource source(store, options);
  data::BatchLoader rendered(source, {.batch_size = 2}, 0, 8);
  data::BatchLoader cuts(source, {.batch_size = 2, .render = false, .workers = 2}, 0, 8);
  for (int i = 0; i < 8; ++i) {
    const auto expected = to_device(rendered.next(), torch::kCPU);
    const auto& batch = cuts.next();
    EXPECT_TRUE(batch.images.empty());
    const auto actual = to_device(batch, torch::kCPU);
    EXPECT_EQ(actual.images.sizes(), expected.images.sizes());
    EXPECT_TRUE(torch::equal(actual.images, expected.images)) << "batch " << i;
    EXPECT_TRUE(torch::equal(actual.labels, expected.labels)) << "batch " << i;
  }
}

}  // namespace
}  // namespace segmamba::engine
