#include "segmamba/nn/weights.h"

#include <gmock/gmock.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/state_dict.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

using test::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

// A safetensors file of the given header and data.
std::filesystem::path write_raw(const TemporaryFolder& folder, const std::string& header,
                                const std::string& data) {
  const auto path = folder.path() / "raw.safetensors";
  const std::uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  std::ofstream(path, std::ios::binary) << bytes << header << data;
  return path;
}

TEST(Safetensors, ReadsBackEveryTypeItWrote) {
  const TemporaryFolder folder;
  TensorFile file;
  for (const auto type :
       {torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kInt64,
        torch::kInt32, torch::kInt16, torch::kInt8, torch::kUInt8, torch::kBool}) {
    file.tensors[torch::toString(type)] = torch::arange(12).reshape({3, 4}).to(type).t();
  }
  file.tensors["scalar"] = torch::tensor(2.5);
  file.tensors["no elements"] = torch::empty({0, 2});
  file.metadata["info"] = "{\"a \\\"quoted\\\" text\": 1}";
  const auto path = folder.path() / "all.safetensors";
  write_safetensors(path, file);
  const auto loaded = read_safetensors(path);
  EXPECT_EQ(loaded.metadata, file.metadata);
  ASSERT_EQ(loaded.tensors.size(), file.tensors.size());
  for (const auto& [name, tensor] : file.tensors) {
    EXPECT_EQ(loaded.tensors.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(torch::equal(loaded.tensors.at(name), tensor)) << name;
  }
}

TEST(Safetensors, ReadsTheBytesOfTheFormat) {
  const TemporaryFolder folder;
  const float values[] = {1.5f, -2.0f};
  const auto path = write_raw(folder, R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                              std::string(reinterpret_cast<const char*>(values), sizeof values));
  EXPECT_TRUE(torch::equal(read_safetensors(path).tensors.at("a"), torch::tensor({1.5f, -2.0f})));
}

TEST(Safetensors, RefusesMalformedFilesByNameAndReason) {
  const TemporaryFolder folder;
  const auto reading = [&](const std::string& header, const std::string& data) {
    const auto path = write_raw(folder, header, data);
    return error_of([&] { read_safetensors(path); });
  };
  const std::string eight(8, '\0');
  EXPECT_THAT(reading(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}})", eight),
              HasSubstr("raw.safetensors: tensor a: data [0, 9) lies outside"));
  EXPECT_THAT(reading(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", eight),
              HasSubstr("takes 12 bytes, data_offsets hold 8"));
  EXPECT_THAT(reading(R"({"a":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}})", eight),
              HasSubstr("tensor a: type F7 is not supported"));
  EXPECT_THAT(reading(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},
                          "b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                      eight),
              HasSubstr("overlap or hole"));
  EXPECT_THAT(reading(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", eight),
              HasSubstr("overlap or hole"));
  EXPECT_THAT(reading(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", eight),
              HasSubstr("8 bytes of data, the header describes 4"));
  EXPECT_THAT(reading(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", eight),
              HasSubstr("needs dtype, shape and data_offsets"));
  EXPECT_THAT(
      reading(R"({"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
              eight),
      HasSubstr("shape is too large"));
  EXPECT_THAT(reading("[]", eight), HasSubstr("no JSON object"));
  EXPECT_THAT(reading("{\"a\":", eight), HasSubstr("raw.safetensors"));
  const auto path = folder.path() / "short.safetensors";
  std::ofstream(path, std::ios::binary) << std::string(8, '\x7f');
  EXPECT_THAT(error_of([&] { read_safetensors(path); }), HasSubstr("bad header length"));
  std::ofstream(path, std::ios::binary) << "abc";
  EXPECT_THAT(error_of([&] { read_safetensors(path); }), HasSubstr("bad header length"));
}

torch::nn::Sequential small_module() {
  return torch::nn::Sequential(
      {{"linear", torch::nn::Linear(2, 3)}, {"norm", torch::nn::BatchNorm1d(3)}});
}

TEST(StateDict, NamesParametersAndBuffersAndLoadsThem) {
  auto from = small_module(), to = small_module();
  from->forward(torch::randn({4, 2}));  // moves the running statistics
  EXPECT_THAT(state_dict(*from),
              ::testing::UnorderedElementsAre(
                  ::testing::Key("linear.weight"), ::testing::Key("linear.bias"),
                  ::testing::Key("norm.weight"), ::testing::Key("norm.bias"),
                  ::testing::Key("norm.running_mean"), ::testing::Key("norm.running_var"),
                  ::testing::Key("norm.num_batches_tracked")));
  load_state_dict(*to, state_dict(*from));
  for (const auto& [name, tensor] : state_dict(*from)) {
    EXPECT_TRUE(torch::equal(state_dict(*to).at(name), tensor)) << name;
  }
}

TEST(StateDict, NamesWhatDoesNotFitAndLeavesTheModuleAlone) {
  auto module = small_module();
  auto tensors = state_dict(*small_module());
  tensors.erase("norm.bias");
  tensors["linear.weight"] = torch::zeros({3, 5});
  tensors["extra"] = torch::zeros({1});
  const auto before = module->parameters()[1].detach().clone();
  const auto message = error_of([&] { load_state_dict(*module, tensors); });
  EXPECT_THAT(message, HasSubstr("1 missing: norm.bias"));
  EXPECT_THAT(message, HasSubstr("1 extra: extra"));
  EXPECT_THAT(message, HasSubstr("linear.weight (file float32 [3, 5], model float32 [3, 2])"));
  EXPECT_TRUE(torch::equal(module->parameters()[1], before));
}

// As strict as match_state_dict() reports, and about integer buffers, too.
TEST(StateDict, TakesNumbersOfTheRightKindAlone) {
  auto module = small_module();
  const auto error_with = [&](const std::string& name, const torch::Tensor& tensor) {
    auto tensors = state_dict(*small_module());
    tensors.erase(name);
    if (tensor.defined()) tensors[name] = tensor;
    return error_of([&] { load_state_dict(*module, tensors); });
  };
  EXPECT_THAT(error_with("linear.bias", torch::tensor({1, 2, 3})),
              HasSubstr("linear.bias (file int64 [3], model float32 [3])"));
  EXPECT_THAT(error_with("norm.num_batches_tracked", torch::tensor(1.5)),
              HasSubstr("norm.num_batches_tracked (file float32 [], model int64 [])"));
  EXPECT_THAT(error_with("norm.num_batches_tracked", {}),
              HasSubstr("1 missing: norm.num_batches_tracked"));
  EXPECT_EQ(error_with("linear.bias", torch::ones({3}, torch::kFloat16)), "(no error)");
  EXPECT_EQ(error_with("norm.num_batches_tracked", torch::tensor(2, torch::kInt32)), "(no error)");
}

TEST(StateDict, ErrorsAreFitForATerminal) {
  auto tensors = state_dict(*small_module());
  tensors["\x1b[2J"] = torch::zeros({1});
  EXPECT_THAT(error_of([&] { load_state_dict(*small_module(), tensors); }),
              HasSubstr("1 extra: ?[2J"));
}

TEST(Weights, AreFoundInFilesOfEveryForm) {
  const TemporaryFolder folder;
  const auto module = small_module();
  const auto state = state_dict(*module);
  const auto expect_same = [&](const std::filesystem::path& path) {
    const auto weights = read_weights(path);
    ASSERT_EQ(weights.size(), state.size()) << path;
    for (const auto& [name, tensor] : state) {
      EXPECT_TRUE(torch::equal(weights.at(name), tensor)) << path << " " << name;
    }
  };
  const auto path = [&](const std::string& name) { return folder.path() / name; };
  TensorFile plain, golden, parallel;
  plain.tensors = state;
  golden.tensors["input"] = torch::zeros({1});
  for (const auto& [name, tensor] : state) {
    golden.tensors["param." + name] = tensor;
    parallel.tensors["module." + name] = tensor;
  }
  write_safetensors(path("plain.safetensors"), plain);
  write_safetensors(path("golden.safetensors"), golden);
  write_safetensors(path("parallel.safetensors"), parallel);
  Dict checkpoint;
  checkpoint.set("epoch", 3);
  checkpoint.set("model", tensor_dict(state));
  write_archive(path("checkpoint.pt"), checkpoint);
  write_archive(path("state.pt"), tensor_dict(state));
  // A checkpoint with an average of the parameters, which the weights as trained do not hide.
  auto trained = state;
  std::map<std::string, torch::Tensor> parameters;
  for (const auto& item : module->named_parameters()) {
    parameters[item.key()] = item.value().detach();
    trained[item.key()] = item.value().detach() + 1;
  }
  Dict averaged, average;
  average.set("weights", tensor_dict(parameters));
  averaged.set("model", tensor_dict(trained));
  averaged.set("average", average);
  write_archive(path("averaged.pt"), averaged);
  for (const auto* name : {"plain.safetensors", "golden.safetensors", "parallel.safetensors",
                           "checkpoint.pt", "averaged.pt", "state.pt"}) {
    expect_same(path(name));
  }
  EXPECT_THAT(read_state_dict(path("golden.safetensors")).notes,
              ElementsAre(HasSubstr("1 tensors of a golden file left out beside its weights")));
}

// A file that holds a single name by chance as golden files have them is none of them.
TEST(Weights, NamesLikeThoseOfGoldenFilesStay) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "file.safetensors";
  TensorFile file;
  file.tensors = {{"param.scale", torch::ones({1})},
                  {"linear.weight", torch::ones({2})},
                  {"input.weight", torch::ones({3})}};
  write_safetensors(path, file);
  EXPECT_EQ(read_weights(path).size(), 3U);
  EXPECT_THAT(read_state_dict(path).notes, ::testing::IsEmpty());
}

// The content tells safetensors from files of torch.save, whatever a file is called.
TEST(Weights, AreToldApartByContent) {
  const TemporaryFolder folder;
  const auto state = state_dict(*small_module());
  TensorFile file;
  file.tensors = state;
  // Headers of all lengths that begin with 'P' (0x50) or another byte.
  for (int padding = 0; padding < 600; padding += 8) {
    file.metadata["padding"] = std::string(static_cast<std::size_t>(padding), ' ');
    for (const auto* name : {"file", "file.bin", "file.pt", "file.safetensors"}) {
      write_safetensors(folder.path() / name, file);
      EXPECT_EQ(read_weights(folder.path() / name).size(), state.size()) << name << padding;
    }
  }
  for (const auto* name : {"file", "file.bin", "file.pt", "file.safetensors"}) {
    write_archive(folder.path() / name, tensor_dict(state));
    EXPECT_EQ(read_weights(folder.path() / name).size(), state.size()) << name;
  }
}

}  // namespace
}  // namespace segmamba::nn
