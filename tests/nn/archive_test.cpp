#include "segmamba/nn/archive.h"

#include <caffe2/serialize/inline_container.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <new>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

using test::TemporaryFolder;
namespace fs = std::filesystem;

const fs::path kPythonFile = fs::path(SEGMAMBA_TEST_DATA) / "nn" / "python.pt";

Dict example() {
  Dict inner;
  inner.set("rate", 0.1);
  inner.set("steps", 70'000'000'000);
  inner.set("negative", -3);
  inner.set("on", true);
  inner.set("off", false);
  inner.set("nothing", Value());
  inner.set("empty", Dict());
  Dict dict;
  const auto base = torch::arange(24, torch::kFloat32).reshape({4, 6});
  dict.set("float32", base);
  dict.set("transposed", base.t());
  dict.set("part", base.narrow(1, 2, 3));
  dict.set("float64", torch::tensor({1e300, -0.5}, torch::kFloat64));
  dict.set("float16", torch::tensor({1.5, -2.25}, torch::kFloat16));
  dict.set("bfloat16", torch::tensor({1.5, -2.25}, torch::kBFloat16));
  dict.set("int64", torch::tensor({std::int64_t{1} << 40, std::int64_t{-1}}));
  dict.set("uint8", torch::tensor({0, 255}, torch::kUInt8));
  dict.set("bool", torch::tensor({true, false}));
  dict.set("scalar", torch::tensor(3.0, torch::kFloat64));
  dict.set("no elements", torch::empty({0, 3}));
  dict.set("config", "model:\n  name: segmamba\n");
  dict.set("list", List{1, 2.5, "three", List{}, inner});
  dict.set("state", inner);
  return dict;
}

void expect_equal(const Value& actual, const Value& expected, const std::string& where) {
  if (expected.is_tensor()) {
    ASSERT_TRUE(actual.is_tensor()) << where;
    EXPECT_EQ(actual.tensor().scalar_type(), expected.tensor().scalar_type()) << where;
    EXPECT_TRUE(torch::equal(actual.tensor(), expected.tensor())) << where;
  } else if (expected.is_dict()) {
    ASSERT_TRUE(actual.is_dict()) << where;
    const auto& items = expected.dict().items();
    ASSERT_EQ(actual.dict().items().size(), items.size()) << where;
    for (std::size_t i = 0; i < items.size(); ++i) {
      EXPECT_EQ(actual.dict().items()[i].first, items[i].first) << where;
      expect_equal(actual.dict().items()[i].second, items[i].second, where + "." + items[i].first);
    }
  } else if (expected.is_list()) {
    ASSERT_TRUE(actual.is_list()) << where;
    ASSERT_EQ(actual.list().size(), expected.list().size()) << where;
    for (std::size_t i = 0; i < expected.list().size(); ++i) {
      expect_equal(actual.list()[i], expected.list()[i], where + "[" + std::to_string(i) + "]");
    }
  } else if (expected.is_text()) {
    EXPECT_EQ(actual.text(), expected.text()) << where;
  } else if (expected.is_bool()) {
    EXPECT_EQ(actual.boolean(), expected.boolean()) << where;
  } else if (expected.is_integer()) {
    EXPECT_EQ(actual.integer(), expected.integer()) << where;
  } else if (expected.is_real()) {
    EXPECT_EQ(actual.real(), expected.real()) << where;
  } else {
    EXPECT_TRUE(actual.is_none()) << where;
  }
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

TEST(Archive, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "state.pt";
  write_archive(path, example());
  expect_equal(read_archive(path), example(), "root");
}

TEST(Archive, StoresOnlyTheShownPartOfAView) {
  const TemporaryFolder folder;
  Dict dict;
  dict.set("part", torch::zeros({1'000'000}).narrow(0, 5, 2));
  write_archive(folder.path() / "view.pt", dict);
  EXPECT_LT(fs::file_size(folder.path() / "view.pt"), 4096);
}

// python.pt and python_legacy.pt are what write_python.py wrote with torch.save.
class ArchiveOfPython : public ::testing::TestWithParam<const char*> {};

TEST_P(ArchiveOfPython, IsRead) {
  const auto file = read_archive(kPythonFile.parent_path() / GetParam());
  const auto& dict = file.dict();
  const auto& model = dict.at("model").dict();
  const auto base = torch::arange(24, torch::kFloat32).reshape({4, 6});
  EXPECT_TRUE(torch::equal(model.at("layer.weight").tensor(), base));
  EXPECT_TRUE(torch::equal(model.at("layer.transposed").tensor(), base.t()));
  EXPECT_TRUE(torch::equal(model.at("layer.part").tensor(), base.narrow(1, 2, 3)));
  EXPECT_TRUE(torch::equal(model.at("parameter").tensor(), torch::tensor({1.0f, 2.0f})));
  EXPECT_TRUE(torch::equal(model.at("half").tensor(), torch::tensor({0.5, -2.0}, torch::kFloat16)));
  EXPECT_TRUE(
      torch::equal(model.at("bfloat16").tensor(), torch::tensor({1.5, -3.0}, torch::kBFloat16)));
  EXPECT_TRUE(torch::equal(model.at("count").tensor(), torch::tensor(std::int64_t{1} << 40)));
  EXPECT_TRUE(torch::equal(model.at("bool").tensor(), torch::tensor({true, false})));
  EXPECT_TRUE(torch::equal(model.at("expanded").tensor(), torch::full({3, 4}, 7.0f)));
  EXPECT_EQ(dict.at("config").text(), "model:\n  name: segmamba\n");
  EXPECT_EQ(dict.at("epoch").integer(), 12);
  EXPECT_EQ(dict.at("large").integer(), -(std::int64_t{1} << 40));
  EXPECT_EQ(dict.at("loss").real(), 0.25);
  EXPECT_TRUE(dict.at("best").boolean());
  EXPECT_TRUE(dict.at("nothing").is_none());
  EXPECT_EQ(dict.at("betas").list()[1].real(), 0.999);
  EXPECT_EQ(dict.at("nested").dict().at("0").dict().at("step").integer(), 3);
  EXPECT_EQ(tensor_map(model).size(), model.items().size());
}

INSTANTIATE_TEST_SUITE_P(Archive, ArchiveOfPython,
                         ::testing::Values("python.pt", "python_legacy.pt"),
                         [](const auto& info) { return concat("Form", info.index); });

// What training programs keep beside the weights.
TEST(Archive, ReadsPlainDataOfEveryKind) {
  const auto file = read_archive(kPythonFile.parent_path() / "python_training.pt");
  const auto& dict = file.dict();
  EXPECT_EQ(dict.at("best_acc").real(), 0.75);
  EXPECT_EQ(dict.at("epoch").integer(), 7);
  EXPECT_TRUE(dict.at("flag").boolean());
  EXPECT_EQ(dict.at("half").real(), 0.5);
  EXPECT_TRUE(torch::equal(dict.at("curve").tensor(), torch::arange(6.0F).reshape({2, 3})));
  EXPECT_TRUE(torch::equal(dict.at("columns").tensor(), torch::arange(6).reshape({2, 3})));
  EXPECT_EQ(dict.at("args").dict().at("lr").real(), 1e-4);
  EXPECT_EQ(dict.at("args").dict().at("names").list()[1].text(), "b");
  EXPECT_EQ(dict.at("counts").dict().at("epochs").list()[0].integer(), 3);
  EXPECT_EQ(dict.at("counter").dict().at("a").integer(), 2);
  EXPECT_EQ(dict.at("set").list()[0].integer(), 4);
  EXPECT_EQ(dict.at("size").list()[1].integer(), 3);
  EXPECT_EQ(dict.at("device").text(), "cuda:1");
  EXPECT_EQ(dict.at("type").text(), "torch.float16");
  EXPECT_EQ(dict.at("bytes").text(), std::string("\xff\0a", 3));
  EXPECT_EQ(dict.at("path").text(), "/a/b");
  EXPECT_EQ(dict.at("big").real(), 0x1p70);
  EXPECT_EQ(dict.at("state_dict").dict().at("wide").tensor().to(torch::kInt64).sum().item<int>(),
            65536);
}

TEST(Archive, RefusesCodeAndOtherObjects) {
  const auto folder = fs::path(SEGMAMBA_TEST_DATA) / "nn";
  EXPECT_THAT(error_of([&] { read_archive(folder / "python_code.pt"); }),
              ::testing::HasSubstr("\"posix.system\" is not plain data"));
  EXPECT_THAT(error_of([&] { read_archive(folder / "python_object.pt"); }),
              ::testing::HasSubstr("\"fractions.Fraction\" is not plain data"));
}

// Without the flush to the disk of write_file_atomically, which thousands of files need not wait
// for.
void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Archive, RefusesEveryTruncation) {
  const TemporaryFolder folder;
  const auto bytes = read_file(kPythonFile);
  for (std::size_t length = 0; length < bytes.size(); length += 97) {
    const auto path = folder.path() / "short.pt";
    write_bytes(path, bytes.substr(0, length));
    EXPECT_THROW(read_archive(path), Error) << length;
  }
}

// Any damaged byte gives either an Error or a value, never a crash.
TEST(Archive, SurvivesEveryFlippedByte) {
  const TemporaryFolder folder;
  auto bytes = read_file(kPythonFile);
  const auto path = folder.path() / "flipped.pt";
  int refused = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    auto damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    write_bytes(path, damaged);
    try {
      read_archive(path);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

std::string pickled(const std::string& text) {
  std::string bytes = "X";
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return bytes + text;
}

std::string repeated(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

// Small files that ask for far more memory than they take.
TEST(Archive, RefusesFilesThatUnfold) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "unfolds.pt";
  const auto error_with = [&](const std::string& pickle, const std::string& storage,
                              bool compress = false) {
    {
      caffe2::serialize::PyTorchStreamWriter writer(path.string());
      writer.writeRecord("data.pkl", pickle.data(), pickle.size());
      writer.writeRecord("data/0", storage.data(), storage.size(), compress);
      writer.writeEndOfFile();
    }
    return error_of([&] { read_archive(path); });
  };
  // A tensor that shows the first byte of its storage; memo entry 0 is that storage.
  const std::string tensor = "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled("storage") +
                             "ctorch\nByteStorage\n" + pickled("0") + pickled("cpu") + "K\1tQq" +
                             std::string(1, '\0') + "K";
  const std::string offset_and_rest = std::string(1, '\0') + "K\1\x85K\1\x85\x89}tR.";
  EXPECT_EQ(error_with(tensor + offset_and_rest, "abc"), "(no error)");
  EXPECT_THAT(error_with(tensor + offset_and_rest, std::string(1 << 20, 'a'), /*compress=*/true),
              ::testing::HasSubstr("data/0 is compressed"));

  // A text of 1 MB, memo entry 1, used 300 times.
  const std::string text = pickled(std::string(1 << 20, 'a')) + "q\1";
  EXPECT_THAT(error_with("](" + text + repeated("h\1", 300) + "e.", ""),
              ::testing::HasSubstr("too much text"));
  EXPECT_THAT(error_with("](" + text + repeated("}h\1Ns", 300) + "e.", ""),
              ::testing::HasSubstr("too much text"));
  EXPECT_THAT(error_with(text + "h\1\x93.", ""), ::testing::HasSubstr("is too long"));
  // Sizes of 65 dimensions.
  EXPECT_THAT(
      error_with(tensor + std::string(1, '\0') + "(" + repeated("K\1", 65) + "tK\1\x85\x89}tR.",
                 "abc"),
      ::testing::HasSubstr("65 dimensions"));
}

TEST(Archive, NamesTheFileAndTheReason) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "text.pt";
  write_bytes(path, "model: 1\n");
  EXPECT_THAT(error_of([&] { read_archive(path); }),
              ::testing::HasSubstr("text.pt: not a file of torch.save"));
  EXPECT_THAT(error_of([&] { read_archive(folder.path() / "none.pt"); }),
              ::testing::HasSubstr("none.pt: No such file"));
  EXPECT_THAT(error_of([] { example().at("absent"); }), ::testing::HasSubstr("\"absent\""));
  EXPECT_THAT(error_of([] { example().at("config").tensor(); }),
              ::testing::HasSubstr("expected a tensor, found text"));
}

#ifdef SEGMAMBA_TEST_PYTHON
// Python's torch.load(weights_only=True) finds in our file what we wrote.
// As LibTorch's allocator where there is no more.
struct NoMemory : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    C10_THROW_ERROR(Error, concat("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't "
                                  "allocate memory: you tried to allocate ",
                                  bytes, " bytes."));
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

// A checkpoint that does not fit into memory must not pass for a damaged one.
TEST(Archive, ShortMemoryIsNoDamage) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "weights.pt";
  Dict weights;
  weights.set("weight", torch::ones({4, 4}));
  write_archive(path, weights);
  NoMemory none;
  auto* const usual = c10::GetAllocator(c10::kCPU);
  c10::SetAllocator(c10::kCPU, &none, /*priority=*/100);
  EXPECT_THROW(read_archive(path), std::bad_alloc);
  c10::SetAllocator(c10::kCPU, usual, /*priority=*/100);
  EXPECT_EQ(read_archive(path).dict().at("weight").tensor().numel(), 16);
}

TEST(Archive, IsReadByPython) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "state.pt";
  write_archive(path, example());
  const std::string command = "'" + std::string(SEGMAMBA_TEST_PYTHON) + "' '" +
                              SEGMAMBA_SOURCE_DIR + "/tests/nn/check_archive.py' '" +
                              path.string() + "'";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}
#endif

}  // namespace
}  // namespace segmamba::nn
