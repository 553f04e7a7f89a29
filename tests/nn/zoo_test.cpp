// The networks of the paper's table against their originals: numbers and names.

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/verify.h"
#include "support/error_of.h"

namespace segmamba::nn {
namespace {

namespace fs = std::filesystem;

const fs::path kZoo = fs::path(SEGMAMBA_TEST_DATA) / "nn/zoo";

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kZoo)) {
    if (entry.path().extension() == ".safetensors") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class ZooGolden : public ::testing::TestWithParam<std::string> {};

// What verify() allows is what the golden files' README asks for.
TEST_P(ZooGolden, ComputesWhatItsOriginalComputes) {
  const auto path = kZoo / (GetParam() + ".safetensors");
  const auto file = read_safetensors(path);
  for (const auto type : {torch::kFloat64, torch::kFloat32}) {
    const auto result = verify(file, path, type);
    const auto expect_all = [&](const std::vector<Deviation>& deviations, const char* what) {
      for (const auto& deviation : deviations) {
        EXPECT_LE(deviation.relative, deviation.allowed) << type << " " << what << deviation.name;
      }
    };
    expect_all(result.outputs, "");
    expect_all(result.gradient_norms, "gradient norm of ");
    expect_all(result.gradient_dots, "gradient dot of ");
    EXPECT_EQ(result.gradient_norms.size(),
              parse_json(file.metadata.at("parameters"), "parameters").size() + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo, ZooGolden, ::testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

// A config at the paper's size, the list of the original's state dict, and its number of
// parameters.
struct FullSize {
  std::string list;
  std::function<void(ModelConfig&)> change;
  std::int64_t parameters;
};

void PrintTo(const FullSize& network, std::ostream* out) { *out << network.list; }

ModelConfig config_of(const FullSize& network) {
  ModelConfig config;
  network.change(config);
  return config;
}

class ZooNames : public ::testing::TestWithParam<FullSize> {};

TEST_P(ZooNames, AreThoseOfTheOriginal) {
  const auto model = make_model(config_of(GetParam()));
  std::map<std::string, std::string> own;
  for (const auto& [name, tensor] : state_dict(*model))
    own[name] = tensor.dim() == 0 ? "scalar" : join(tensor.sizes(), "x");
  std::ifstream file(kZoo / "names" / (GetParam().list + ".txt"));
  ASSERT_TRUE(file);
  std::map<std::string, std::string> expected;  // NAME, shape and kind, with tabs between
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const auto words = split(line, '\t');
    expected[words[0]] = words[1];
  }
  EXPECT_EQ(own, expected);
}

const std::vector<FullSize>& full_sizes() {
  static const std::vector<FullSize> sizes = {
      {"mednext_b_k3",
       [](auto& c) {
         c.name = "mednext";
         c.deep_supervision = true;
       },
       10530325},
      {"nnunet", [](auto& c) { c.name = "nnunet"; }, 31199796},
      {"nnunet_resenc", [](auto& c) { c.name = "nnunet_resenc"; }, 102353972},
      {"segresnet",
       [](auto& c) {
         c.name = "segresnet";
         c.out_channels = 3;
       },
       4702227},
      {"uxnet", [](auto& c) { c.name = "uxnet"; }, 53059444},
      {"transbts",
       [](auto& c) {
         c.name = "transbts";
         c.transbts.img_size = {128, 128, 128};
       },
       32987588},
      {"vim", [](auto& c) { c.name = "vim"; }, 56385124},
      {"vmamba", [](auto& c) { c.name = "vmamba"; }, 57632836},
      {"umamba_bot", [](auto& c) { c.name = "umamba_bot"; }, 42124692},
      {"umamba_enc",
       [](auto& c) {
         c.name = "umamba_enc";
         c.umamba.input_size = {128, 128, 128};
       },
       42755220},
      {"unetr",
       [](auto& c) {
         c.name = "unetr";
         c.out_channels = 3;
         c.unetr.img_size = {128, 128, 128};
       },
       102468147},
      {"swin_unetr",
       [](auto& c) {
         c.name = "swin_unetr";
         c.out_channels = 3;
       },
       62191941},
      {"swin_unetr_v2",
       [](auto& c) {
         c.name = "swin_unetr_v2";
         c.out_channels = 3;
       },
       72767301},
      {"nnformer",
       [](auto& c) {
         c.name = "nnformer";
         c.nnformer.crop_size = {128, 128, 128};
       },
       37606726},
  };
  return sizes;
}

TEST_P(ZooNames, HoldAsManyParameters) {
  std::int64_t count = 0;
  for (const auto& parameter : make_model(config_of(GetParam()))->parameters()) {
    count += parameter.numel();
  }
  EXPECT_EQ(count, GetParam().parameters);
}

INSTANTIATE_TEST_SUITE_P(Zoo, ZooNames, ::testing::ValuesIn(full_sizes()),
                         [](const auto& info) { return info.param.list; });

}  // namespace
}  // namespace segmamba::nn
