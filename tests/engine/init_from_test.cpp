// What starting from weights tells beside what was loaded.

#include <gmock/gmock.h>
#include <torch/torch.h>

#include "segmamba/core/text.h"
#include "segmamba/engine/fine_tuning.h"
#include "segmamba/nn/weights.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

nn::ModelConfig small_swin() {
  nn::ModelConfig config;
  config.name = "swin_unetr";
  config.swin_unetr.feature_size = 6;
  config.swin_unetr.depths = {1, 1, 1, 1};
  config.swin_unetr.num_heads = {1, 2, 3, 4};
  return config;
}

class InitFromTest : public ::testing::Test {
 protected:
  // Starts `config` from the weights of `other`.
  std::vector<std::string> start(nn::ModelConfig config, const nn::ModelConfig& other,
                                 const std::string& part = "") const {
    config.init_from = (folder_.path() / "weights.safetensors").string();
    auto state = nn::state_dict(*nn::make_model(other));
    std::erase_if(state, [&](const auto& item) { return !starts_with(item.first, part); });
    nn::write_safetensors(config.init_from,
                          {.tensors = state, .metadata = {{"model", config_to_yaml(other)}}});
    return start_from_weights(*nn::make_model(config), config);
  }

  test::TemporaryFolder folder_;
};

TEST_F(InitFromTest, TellsInWhatTheNetworkOfTheFileDiffers) {
  auto other = small_swin();
  other.swin_unetr.merging = "legacy";
  other.swin_unetr.drop_rate = 0.1;
  other.out_channels = 2;
  EXPECT_THAT(start(small_swin(), other),
              Contains("model.init_from: the file's network has merging: legacy (here merging)"));
  other.swin_unetr.merging = "merging";
  EXPECT_THAT(
      start(small_swin(), other),
      Not(Contains(AnyOf(HasSubstr("the file's network has"), HasSubstr("no file tells")))));
  other.name = "swin_unetr_v2";
  EXPECT_THAT(start(small_swin(), other), Contains(HasSubstr("name: swin_unetr_v2 (here swin_")));
}

TEST_F(InitFromTest, WarnsWhereLittleIsLoaded) {
  const auto config = small_swin();
  EXPECT_THAT(start(config, config), Not(Contains(HasSubstr("only "))));
  EXPECT_THAT(start(config, config, "swinViT."),
              Contains(AllOf(HasSubstr("model.init_from: only "),
                             HasSubstr(" % of the network's numbers were loaded"))));
}

}  // namespace
}  // namespace segmamba::engine
