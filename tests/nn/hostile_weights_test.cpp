// Weight files that lie: each gives one clear line, whatever it asks for.

#include <gmock/gmock.h>

#include <array>
#include <bit>
#include <cmath>
#include <fstream>
#include <limits>

#include "hostile_files.h"
#include "segmamba/core/files.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_weights.h"
#include "segmamba/nn/verify.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::global;
using test::pickled;
using test::repeated;
using test::sound_pickle;
using test::sound_zip;
using test::TemporaryFolder;
using test::u16;
using test::u32;
using test::u64;
using test::Zip;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class HostileWeights : public ::testing::Test {
 protected:
  // What reading a file of these bytes complains of, "" where it does not.
  std::string error_with(const std::string& bytes, const std::string& suffix = ".pt") {
    const auto path = folder_.path() / ("file" + suffix);
    fs::remove(path);  // ext4 waits for the disk where a file is cut and written again
    std::ofstream(path, std::ios::binary) << bytes;
    auto message = error_of([&] { read_state_dict(path); });
    if (!message.empty()) {
      EXPECT_THAT(message, AllOf(HasSubstr(path.string() + ": "), Not(HasSubstr("\n"))));
      EXPECT_LT(message.size(), 1500U);
    }
    return message;
  }
  std::string error_with(const Zip& zip) { return error_with(zip.bytes()); }
  std::string error_with_pickle(const std::string& pickle) {
    return error_with(sound_zip("\x80\2" + pickle + "."));
  }
  static std::string data(const std::string& name) {
    return read_file(fs::path(SEGMAMBA_TEST_DATA) / "nn" / name);
  }

  TemporaryFolder folder_;
};

TEST_F(HostileWeights, ASoundZipIsRead) { EXPECT_EQ(error_with(sound_zip()), ""); }

TEST_F(HostileWeights, ZipEntriesThatLie) {
  auto zip = sound_zip();
  zip.entries[1].method = 8;
  EXPECT_THAT(error_with(zip), HasSubstr("x/data/0 is compressed"));
  zip = sound_zip();
  zip.entries[1].flags = 1;
  EXPECT_THAT(error_with(zip), HasSubstr("x/data/0 is encrypted"));
  zip = sound_zip();
  zip.entries[1].checksum = 0x12345678;
  EXPECT_THAT(error_with(zip), HasSubstr("the checksum of data/0 is wrong"));
  zip = sound_zip();
  zip.entries[1].checksum = 0x6522df69;  // of eight zeros
  EXPECT_EQ(error_with(zip), "");
  // More bytes than the archive has, and as many as 64 bits can say.
  zip = sound_zip();
  zip.entries[2].size = 1 << 30;
  EXPECT_THAT(error_with(zip), HasSubstr("x/version lies outside"));
  zip = sound_zip();
  zip.entries[2].size = 0xffffffff;
  EXPECT_THAT(error_with(zip), HasSubstr("x/version lies outside"));
  zip.entries[2].extra = u16(1) + u16(8) + u64(8);
  EXPECT_THAT(error_with(zip), HasSubstr("a 64-bit size of x/version is missing"));
  zip.entries[2].extra =
      u16(1) + u16(16) + u64(std::uint64_t{1} << 63) + u64(std::uint64_t{1} << 63);
  EXPECT_THAT(error_with(zip), HasSubstr("x/version lies outside"));
  zip.entries[2].extra = u16(1) + u16(16) + u64(2) + u64(3);
  EXPECT_THAT(error_with(zip), HasSubstr("x/version has two sizes"));
  zip.entries[2].extra = u16(1) + u16(999);
  EXPECT_THAT(error_with(zip), HasSubstr("an extra field of x/version is too long"));
  // The same bytes as several entries, which is how small archives unfold to petabytes.
  zip = sound_zip();
  zip.entries[1].size = 40;
  EXPECT_THAT(error_with(zip), HasSubstr("overlaps another entry"));
  zip = sound_zip();
  zip.entries.push_back({.name = "x/data.pkl", .content = sound_pickle(), .header = 0});
  EXPECT_THAT(error_with(zip), HasSubstr("x/data.pkl overlaps another entry"));
  zip = sound_zip();
  zip.entries.push_back(zip.entries[1]);
  EXPECT_THAT(error_with(zip), HasSubstr("holds data/0 twice"));
  zip = sound_zip();
  zip.entries.push_back({.name = "x/other", .header = 5});
  EXPECT_THAT(error_with(zip), HasSubstr("x/other overlaps another entry"));
  zip = {.entries = {{.name = "x/other", .header = 5}}};
  EXPECT_THAT(error_with("PK" + zip.bytes()), HasSubstr("damaged zip archive"));
}

TEST_F(HostileWeights, PathsInNamesLeadNowhere) {
  auto zip = sound_zip();
  zip.entries.push_back({.name = "x/../../../etc/passwd", .content = "root"});
  zip.entries.push_back({.name = "/etc/passwd", .content = "root"});
  EXPECT_EQ(error_with(zip), "");
}

TEST_F(HostileWeights, ZipDirectoriesThatLie) {
  auto zip = sound_zip();
  zip.count = 60000;
  EXPECT_THAT(error_with(zip), HasSubstr("too small for 60000 entries"));
  zip.count = 0xffff;
  EXPECT_THAT(error_with(zip), HasSubstr("its 64-bit end record is missing"));
  zip = sound_zip();
  zip.count = 4;
  EXPECT_THAT(error_with(zip), HasSubstr("damaged zip archive"));
  zip = sound_zip();
  zip.directory = 1 << 20;
  EXPECT_THAT(error_with(zip), HasSubstr("its directory lies outside"));
  zip.directory = 3;
  EXPECT_THAT(error_with(zip), HasSubstr("its directory ends too early"));
  zip = sound_zip();
  zip.directory_bytes = 0xfffffff0;
  EXPECT_THAT(error_with(zip), HasSubstr("its directory is too large"));
  const auto end64 = [](std::uint64_t count, std::uint64_t bytes, std::uint64_t start) {
    return "PK\6\6" + u64(44) + u16(45) + u16(45) + u32(0) + u32(0) + u64(count) + u64(count) +
           u64(bytes) + u64(start);
  };
  const auto size = sound_zip().bytes().size() - 22;  // where the end records start
  const auto locator = [](std::uint64_t place) { return "PK\6\7" + u32(0) + u64(place) + u32(1); };
  zip = sound_zip();
  zip.count = 0xffff;
  zip.directory = zip.directory_bytes = 0xffffffff;
  const auto most = ~std::uint64_t{0};
  zip.before_end = end64(most, most, 0) + locator(size);
  EXPECT_THAT(error_with(zip), HasSubstr("its directory is too large"));
  zip.before_end = end64(most, 200, 0) + locator(size);
  EXPECT_THAT(error_with(zip), HasSubstr("too small for 18446744073709551615 entries"));
  zip.before_end = end64(3, 200, most - 100) + locator(size);
  EXPECT_THAT(error_with(zip), HasSubstr("its directory lies outside"));
  zip.before_end = end64(3, 200, 0) + locator(most);
  EXPECT_THAT(error_with(zip), HasSubstr("its 64-bit end record lies outside"));
  zip = sound_zip();
  zip.before_end = end64(2, 100, 0) + locator(size);
  EXPECT_THAT(error_with(zip), HasSubstr("its end records contradict each other"));
  const auto bytes = sound_zip().bytes();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_NE(error_with(bytes.substr(0, length)), "") << length;
  }
}

// No function is ever called and no class is made, by whatever opcode a file asks for it.
TEST_F(HostileWeights, PicklesThatAskForCode) {
  const std::string call = "(" + pickled("touch /tmp/owned") + "tR";
  for (const auto& [module, name] : std::vector<std::pair<std::string, std::string>>{
           {"os", "system"},
           {"posix", "system"},
           {"nt", "system"},
           {"builtins", "eval"},
           {"builtins", "exec"},
           {"__builtin__", "getattr"},
           {"builtins", "__import__"},
           {"subprocess", "Popen"},
           {"torch.hub", "load"},
           {"torch", "load"},
           {"torch.storage", "_load_from_bytes"},
           {"torch._utils", "_rebuild_tensor_v2.__globals__"},
           {"collections", "namedtuple"},
           {"numpy.core.multiarray", "fromfile"},
           {"numpy", "load"},
           {"functools", "partial"},
           {"operator", "attrgetter"},
           {"types", "CodeType"},
           {"importlib", "import_module"},
           {"pickle", "loads"},
           {"webbrowser", "open"}}) {
    const auto refused = HasSubstr("\"" + module + "." + name + "\" is not plain data");
    EXPECT_THAT(error_with_pickle(global(module, name) + call), refused);
    EXPECT_THAT(error_with_pickle("}" + pickled("a") + global(module, name) + call + "s"), refused);
    // Made by NEWOBJ, named by STACK_GLOBAL, and never called at all.
    EXPECT_THAT(error_with_pickle(global(module, name) + ")\x81"), refused);
    EXPECT_THAT(error_with_pickle(pickled(module) + pickled(name) + "\x93" + call), refused);
    EXPECT_THAT(error_with_pickle("}" + pickled("a") + global(module, name) + "s"), refused);
  }
  // Attributes for a class, for a list, and for a dict (where they are passed over).
  EXPECT_THAT(error_with_pickle(global("os", "environ") + "}b"), HasSubstr("pickle at byte"));
  EXPECT_THAT(error_with_pickle("]}b"), HasSubstr("pickle at byte"));
  EXPECT_THAT(error_with_pickle(global("collections", "OrderedDict") + ")R}" +
                                pickled("__setstate__") + global("os", "system") + "sb"),
              HasSubstr("holds no dict of tensors"));
  EXPECT_THAT(error_with_pickle(global("argparse", "Namespace") + ")\x81}" + pickled("__class__") +
                                global("os", "system") + "sb"),
              HasSubstr("\"os.system\" is not plain data"));
  EXPECT_THAT(
      error_with_pickle(global("collections", "defaultdict") + global("os", "system") + "\x85R"),
      HasSubstr("holds no dict of tensors"));
  // A whole module, and opcodes that make objects in other ways.
  EXPECT_THAT(error_with_pickle("(" + pickled("module") + global("a", "Net") + "tQ"),
              HasSubstr("a whole Python module?"));
  EXPECT_THAT(error_with_pickle("(ios\nsystem\n"), HasSubstr("opcode 0x69"));
  EXPECT_THAT(error_with_pickle("(" + global("os", "system") + "o"), HasSubstr("opcode 0x6f"));
  EXPECT_THAT(error_with_pickle("\x82\1"), HasSubstr("opcode 0x82"));
  EXPECT_THAT(error_with_pickle(global("os", "system") + "}}\x92"), HasSubstr("opcode 0x92"));
  EXPECT_THAT(error_with_pickle("P0\n"), HasSubstr("opcode 0x50"));
  EXPECT_THAT(error_with_pickle("c" + std::string(2000, 'a') + "\nb\n"), HasSubstr("too long"));
  EXPECT_THAT(error_with_pickle(global("a\x1b[2J", "b") + ")R"), HasSubstr("a?[2J.b"));
}

// A few bytes that copy a long list or text again and again.
TEST_F(HostileWeights, PicklesThatUnfold) {
  const std::string list = "](" + repeated("N", 100'000) + "eq\1";
  EXPECT_THAT(error_with_pickle("(" + list + global("builtins", "set") + "q\2" +
                                repeated("h\2h\1\x85R", 200) + "t"),
              HasSubstr("it unfolds to too much"));
  EXPECT_THAT(error_with_pickle("(" + pickled(std::string(1 << 20, 'a')) + "q\1" +
                                global("_codecs", "encode") + "q\2" + pickled("latin1") + "q\3" +
                                repeated("h\2h\1h\3\x86R", 200) + "t"),
              HasSubstr("it unfolds to too much"));
  EXPECT_THAT(error_with_pickle("(" + repeated("N", 9'000'000) + "t"),
              HasSubstr("too many objects"));
  EXPECT_THAT(error_with_pickle("N" + repeated("\x94", 9'000'000)), HasSubstr("too many objects"));
  EXPECT_THAT(error_with_pickle(repeated("(", 9'000'000)), HasSubstr("an object is missing"));
  EXPECT_THAT(error_with_pickle(repeated("]", 100) + repeated("a", 99)),
              HasSubstr("nested deeper than 64"));
  EXPECT_THAT(error_with_pickle("]q\1h\1a"), HasSubstr("nested deeper than 64"));  // in itself
  // Lists of lists of lists, 10^12 values.
  EXPECT_THAT(
      error_with_pickle("(](" + repeated("N", 1000) + "eq\1](" + repeated("h\1", 1000) + "eq\2](" +
                        repeated("h\2", 1000) + "eq\3](" + repeated("h\3", 1000) + "et"),
      HasSubstr("too many values"));
  EXPECT_THAT(error_with(sound_zip(std::string(17 << 20, 'N'))), HasSubstr("is too large"));
}

// Copies of one long text in what a single call makes: counted before they are made.
TEST_F(HostileWeights, PathsThatUnfold) {
  const std::string path = "(" + pickled(std::string(1 << 20, 'a')) + "q\1" +
                           global("pathlib", "PosixPath") + "(" + repeated("h\1", 1000) + "tRt";
  EXPECT_THAT(error_with_pickle(path), HasSubstr("it unfolds to too much"));
}

TEST_F(HostileWeights, NamesThatUnfold) {
  const std::string names = "(" + pickled(std::string(900, 'a')) + "q\1" + pickled("b") + "q\2";
  EXPECT_THAT(error_with_pickle(names + repeated("h\1h\2\x93", 200'000) + "t"),
              HasSubstr("it unfolds to too much"));
  EXPECT_THAT(error_with_pickle(names + global("torch", "device") + "q\3" +
                                repeated("h\3h\1\x85R", 200'000) + "t"),
              HasSubstr("it unfolds to too much"));
  EXPECT_THAT(error_with_pickle("(" + pickled("storage") + global("torch", "FloatStorage") +
                                pickled(std::string(2000, 'a')) + pickled("cpu") + "K\2tQ"),
              HasSubstr("the key of a storage is too long"));
}

// Tensors may show a number of their storage many times, but not more numbers than anyone needs.
TEST_F(HostileWeights, TensorsThatUnfold) {
  const auto shown = [&](const std::string& sizes, const std::string& strides, int times = 1) {
    std::string pickle = "}" + pickled("w") + global("torch._utils", "_rebuild_tensor_v2") + "((" +
                         pickled("storage") + global("torch", "FloatStorage") + pickled("0") +
                         pickled("cpu") + "K\2tQK" + std::string(1, '\0') + sizes + strides +
                         "\x89}tRq\1s";
    for (int i = 1; i < times; ++i) pickle += pickled(concat(i)) + "h\1s";
    return error_with_pickle(pickle);
  };
  const std::string million = "J" + u32(1 << 20);
  const auto none = std::string("K") + std::string(1, '\0');
  EXPECT_EQ(shown(million + "K\2\x86", none + "K\1\x86"), "");
  const auto refused = HasSubstr("a number of a storage is shown again and again");
  // 4 GB of one number, the same of two that overlap, and of many tensors together.
  EXPECT_THAT(shown(million + "M" + u16(1000) + "\x86", none + none + "\x86"), refused);
  EXPECT_THAT(shown(million + million + "K\2\x87", none + none + "K\1\x87"), refused);
  EXPECT_THAT(shown(million + "K\2\x86", none + "K\1\x86", 30), refused);
  EXPECT_EQ(shown("K\2\x85", "K\1\x85", 1000), "");
}

TEST_F(HostileWeights, TensorsThatLie) {
  // Storage "0" holds eight bytes.
  const auto tensor = [&](const std::string& type, const std::string& elements,
                          const std::string& rest) {
    return error_with_pickle("}" + pickled("w") + global("torch._utils", "_rebuild_tensor_v2") +
                             "((" + pickled("storage") + global("torch", type) + pickled("0") +
                             pickled("cpu") + elements + "tQ" + rest + "\x89}tRs");
  };
  const std::string most = "\x8a\x08" + std::string(7, '\xff') + "\x7f", none(1, '\0');
  EXPECT_EQ(tensor("FloatStorage", "K\2", "K" + none + "K\2\x85K\1\x85"), "");
  EXPECT_THAT(tensor("FloatStorage", "K\3", "K" + none + "K\2\x85K\1\x85"),
              HasSubstr("holds 8 bytes, its tensors need 12"));
  EXPECT_THAT(tensor("FloatStorage", most, "K" + none + "K\2\x85K\1\x85"),
              HasSubstr("bad number of elements"));
  EXPECT_THAT(tensor("FloatStorage", "J\xff\xff\xff\xff", "K" + none + "K\2\x85K\1\x85"),
              HasSubstr("bad number of elements"));
  EXPECT_THAT(tensor("FloatStorage", "K\2", "K\1K\2\x85K\1\x85"), HasSubstr("outside its storage"));
  EXPECT_THAT(tensor("FloatStorage", "K\2", "K" + none + "K\2\x85K\2\x85"),
              HasSubstr("outside its storage"));
  EXPECT_THAT(tensor("FloatStorage", "K\2", "K" + none + most + "\x85" + most + "\x85"),
              HasSubstr("outside its storage"));
  EXPECT_THAT(tensor("FloatStorage", "K\2", "K" + none + "J\xff\xff\xff\xff\x85K\1\x85"),
              HasSubstr("negative size"));
  // No elements, but sizes whose product no integer holds.
  EXPECT_THAT(
      tensor("FloatStorage", "K\2", "K" + none + "K" + none + most + most + "\x87K\1K\1K\1\x87"),
      HasSubstr("outside its storage"));
  EXPECT_THAT(tensor("QInt8Storage", "K\2", "K" + none + "K\2\x85K\1\x85"),
              HasSubstr("torch.QInt8Storage is not supported"));
  EXPECT_THAT(tensor("UntypedStorage", "K\2", "K" + none + "K\2\x85K\1\x85"),
              HasSubstr("a tensor without a type"));
}

// Every opcode, also those that are unknown, after and before whatever may surround it.
TEST_F(HostileWeights, EveryOpcodeInEveryPlace) {
  const std::string zeros(12, '\0'), ones(12, '\xff');
  const std::vector<std::string> before = {"",
                                           "N",
                                           "]",
                                           "}",
                                           "(",
                                           "NN",
                                           "(NN",
                                           "]N",
                                           "}NN",
                                           "}(NNN",
                                           "]q" + zeros.substr(0, 1),
                                           "(K\1K\2t",
                                           pickled("a"),
                                           pickled("a") + pickled("b"),
                                           pickled("storage") + "\x85",
                                           global("collections", "OrderedDict") + ")",
                                           global("argparse", "Namespace") + ")R}"};
  const std::vector<std::string> after = {"", zeros, ones, "a\nb\n"};
  std::int64_t refused = 0;
  for (int opcode = 0; opcode < 256; ++opcode) {
    for (const auto& left : before) {
      for (const auto& right : after) {
        refused += error_with_pickle(left + static_cast<char>(opcode) + right).empty() ? 0 : 1;
      }
    }
  }
  // None of them holds any weights.
  EXPECT_EQ(refused, 256 * std::ssize(before) * std::ssize(after));
}

// What a list, a dict or the memo refers to may be itself, or used as what it is not.
TEST_F(HostileWeights, ObjectsThatReferToThemselves) {
  EXPECT_THAT(error_with_pickle("}q\1h\1h\1s"), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(error_with_pickle("}q\1h\1Ns"), HasSubstr("neither text nor an integer"));
  EXPECT_THAT(error_with_pickle("}q\1K\1h\1s"), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(error_with_pickle("}q\1" + pickled("a") + "h\1s"),
              HasSubstr("nested deeper than 64"));
  EXPECT_THAT(error_with_pickle(global("argparse", "Namespace") + ")\x81q\1h\1b"),
              HasSubstr("holds no dict of tensors"));
  EXPECT_THAT(error_with_pickle("]q\1(h\1h\1h\1e"), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(error_with_pickle("]q\1\x85q\2h\2a"), HasSubstr("expected a list"));
  EXPECT_THAT(error_with_pickle("h\1"), HasSubstr("an unknown memo entry"));
  EXPECT_THAT(error_with_pickle("q\1"), HasSubstr("an object is missing"));
  EXPECT_THAT(error_with_pickle("(q\1"), HasSubstr("an object is missing"));
  EXPECT_THAT(error_with_pickle("Nr\xff\xff\xff\xffj\xff\xff\xff\xff\x86"),
              HasSubstr("holds no dict of tensors"));
  EXPECT_THAT(error_with_pickle("N" + repeated("\x85", 700'000)),
              HasSubstr("nested deeper than 64"));
  // Dict keys that Python would not take, or that stand twice.
  EXPECT_THAT(error_with_pickle("}]Ns"), HasSubstr("neither text nor an integer"));
  EXPECT_THAT(error_with_pickle("}(" + pickled("a") + "N" + pickled("a") + "K\1u"),
              HasSubstr("holds no dict of tensors"));
}

// Numbers of any length are numbers.
TEST_F(HostileWeights, HugeNumbers) {
  const auto read = [&](const std::string& pickle) {
    const auto path = folder_.path() / "number.pt";
    std::ofstream(path, std::ios::binary) << sound_zip("\x80\2" + pickle + ".").bytes();
    return read_archive(path);
  };
  EXPECT_EQ(read(std::string("\x8a\0", 2)).integer(), 0);
  EXPECT_EQ(read("\x8a\x08" + std::string(7, '\xff') + "\x7f").integer(), INT64_MAX);
  EXPECT_EQ(read("\x8a\x08" + std::string(7, '\0') + "\x80").integer(), INT64_MIN);
  EXPECT_EQ(read("\x8a\x09" + std::string(8, '\0') + "\1").real(), 0x1p64);
  EXPECT_EQ(read("\x8a\xff" + std::string(254, '\xff') + "\x7f").real(),
            std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(read("G\x7f\xf8" + std::string(6, '\0')).real()));
  EXPECT_THAT(error_with_pickle("\x8b\xff\xff\xff\x7f"), HasSubstr("opcode 0x8b"));
  EXPECT_THAT(error_with_pickle("X\xff\xff\xff\xff"), HasSubstr("ends too early"));
  EXPECT_THAT(error_with_pickle("\x8d" + u64(~std::uint64_t{0})), HasSubstr("ends too early"));
  EXPECT_THAT(error_with_pickle("\x8e" + u64(std::uint64_t{1} << 40)), HasSubstr("ends too early"));
}

// Tensors over one another's storage are tensors: each is what it shows. Another type may look at
// the same bytes where there are enough of them.
TEST_F(HostileWeights, TensorsThatShareAStorage) {
  const std::string none(1, '\0');
  const auto tensor = [&](const std::string& name, const std::string& type, char elements,
                          char offset, char size, char stride) {
    return pickled(name) + global("torch._utils", "_rebuild_tensor_v2") + "((" +
           pickled("storage") + global("torch", type) + pickled("0") + pickled("cpu") + "K" +
           elements + "tQK" + offset + "K" + size + "\x85K" + stride + "\x85\x89}tRs";
  };
  const auto path = folder_.path() / "shared.pt";
  auto zip =
      sound_zip("\x80\2}" + tensor("a", "FloatStorage", 2, 0, 2, 1) +
                tensor("b", "FloatStorage", 2, 1, 1, 1) + tensor("c", "DoubleStorage", 1, 0, 1, 1) +
                tensor("d", "ByteStorage", 8, 0, 4, 2) + ".");
  zip.entries[1].content = std::string("\0\0\x80\x3f\0\0\0\x40", 8);
  std::ofstream(path, std::ios::binary) << zip.bytes();
  const auto read = read_state_dict(path).tensors;
  EXPECT_TRUE(torch::equal(read.at("a"), torch::tensor({1.0F, 2.0F})));
  EXPECT_TRUE(torch::equal(read.at("b"), torch::tensor({2.0F})));
  EXPECT_EQ(read.at("c").item<double>(), std::bit_cast<double>(0x400000003f800000));
  EXPECT_TRUE(torch::equal(read.at("d"), torch::tensor({0, 0x80, 0, 0}, torch::kUInt8)));
  EXPECT_THAT(error_with_pickle("}" + tensor("a", "FloatStorage", 2, 0, 2, 1) +
                                tensor("b", "DoubleStorage", 2, 0, 2, 1)),
              HasSubstr("storage 0 is too short"));
  EXPECT_THAT(error_with_pickle("}" + tensor("a", "FloatStorage", 2, 1, 2, 1)),
              HasSubstr("outside its storage"));
  EXPECT_THAT(error_with_pickle("}" + tensor("a", "FloatStorage", 2, 0, 2, 1) +
                                tensor("b", "DoubleStorage", 1, 1, 1, 1)),
              HasSubstr("outside its storage"));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Of each byte of a pickle a new object: a file of 1 MB takes less than 100 MB.
TEST_F(HostileWeights, AMegabyteTakesNoHundred) {
  constexpr int kBytes = 1'000'000;
  const auto path = folder_.path() / "megabyte.pt";
  const auto memory_of = [&](const std::string& bytes) {
    EXPECT_LT(bytes.size(), kBytes + 2000U);
    std::ofstream(path, std::ios::binary) << bytes;
    const auto before = restart_peak_memory();
    error_of([&] { read_state_dict(path); });
    return resident_memory().peak - before;
  };
  constexpr std::uint64_t kMost = 100'000'000;
  const std::string empty = std::string("\x8c\0", 2);
  for (const auto& unit :
       {std::string("N"), std::string("]"), std::string("}"), std::string(")"), std::string("("),
        std::string("\x8f"), std::string("K\1"), empty, std::string("]N") + "a", "}" + empty + "Ns",
        std::string("]\x94"), std::string("c\n\n"), std::string("]\x85")}) {
    const int count = kBytes / static_cast<int>(unit.size());
    EXPECT_LT(memory_of(sound_zip("\x80\2(" + repeated(unit, count) + "t.").bytes()), kMost)
        << unit;
  }
  EXPECT_LT(memory_of(sound_zip("\x80\2N" + repeated("\x85", kBytes) + ".").bytes()), kMost);
  EXPECT_LT(memory_of(sound_zip("\x80\2N" + repeated("\x94", kBytes) + ".").bytes()), kMost);
  // Keys of a dict, each another one.
  std::string keys = "\x80\2}(";
  for (int i = 0; keys.size() + 6 < kBytes; ++i) keys += "J" + u32(i) + "N";
  EXPECT_LT(memory_of(sound_zip(keys + "u.").bytes()), kMost);
  // Many small tensors of one storage; entry 1 of the memo is it, 2 a tuple of 1, 3 the function.
  std::string tensors = "\x80\2](" + global("torch._utils", "_rebuild_tensor_v2") + "q\3(" +
                        pickled("storage") + global("torch", "FloatStorage") + pickled("0") +
                        pickled("cpu") + "K\2tQq\1K\1\x85q\2}q\4";
  while (tensors.size() + 20 < kBytes) {
    tensors += "h\3(h\1K" + std::string(1, '\0') + "h\2h\2\x89h\4tR";
  }
  EXPECT_LT(memory_of(sound_zip(tensors + "e.").bytes()), kMost);

  const auto with_header = [&](const std::string& unit) {
    std::string header = "{\"a\":[";
    while (header.size() + unit.size() + 10 < kBytes) header += unit + ",";
    header += unit + "]}";
    return u64(header.size()) + header;
  };
  for (const auto* unit : {"0", "[]", "{}", "\"\"", "{\"\":0}", "[[]]"}) {
    EXPECT_LT(memory_of(with_header(unit)), kMost) << unit;
  }
  std::string names = "{";
  for (int i = 0; names.size() + 60 < kBytes; ++i) {
    names += concat(i > 0 ? "," : "", "\"", i,
                    "\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}");
  }
  names += "}";
  EXPECT_LT(memory_of(u64(names.size()) + names), kMost);
  std::string metadata = "{\"__metadata__\":{";
  for (int i = 0; metadata.size() + 60 < kBytes; ++i) {
    metadata += concat(i > 0 ? "," : "", "\"", i, "\":\"\"");
  }
  metadata += "}}";
  EXPECT_LT(memory_of(u64(metadata.size()) + metadata), kMost);
  // A config inside, as YAML and as JSON.
  for (const auto* unit : {"a,", "[],", "{},", "[[]],"}) {
    TensorFile file;
    file.tensors = {{"a", torch::ones({2})}};
    std::string list = "model: [";
    while (list.size() < kBytes - 1000) list += unit;
    file.metadata = {{"model", list + "]"}};
    write_safetensors(folder_.path() / "config.safetensors", file);
    EXPECT_LT(memory_of(read_file(folder_.path() / "config.safetensors")), kMost);
    file.metadata["model"].resize(250'000);
    file.metadata["model"] += "]";
    write_safetensors(folder_.path() / "config.safetensors", file);
    EXPECT_LT(memory_of(read_file(folder_.path() / "config.safetensors")), kMost) << unit;
  }
}
#endif

TEST_F(HostileWeights, FilesBeforePyTorch16) {
  const auto sound = data("python_legacy.pt");
  EXPECT_EQ(error_with(sound), "");
  for (std::size_t length = 0; length < sound.size(); ++length) {
    EXPECT_NE(error_with(sound.substr(0, length)), "") << length;
  }
  const std::string start = sound.substr(0, 15), version = "\x80\2M\xe9\3.", machine = "\x80\2}.";
  const auto with = [&](const std::string& storage, const std::string& rest) {
    return error_with(start + version + machine + "\x80\2}" + pickled("weight") +
                      global("torch._utils", "_rebuild_tensor_v2") + "((" + pickled("storage") +
                      global("torch", "FloatStorage") + storage + "tQK" + std::string(1, '\0') +
                      "K\2\x85K\1\x85\x89}tRs." + rest);
  };
  const std::string storage = pickled("7") + pickled("cpu") + "K\2N",
                    keys = "\x80\2](" + pickled("7") + "e.";
  EXPECT_EQ(with(storage, keys + u64(2) + std::string(8, '\0')), "");
  EXPECT_THAT(with(storage, keys + u64(2) + std::string(7, '\0')),
              HasSubstr("truncated in storage 7"));
  EXPECT_THAT(with(storage, keys + u64(1) + std::string(8, '\0')), HasSubstr("has 1 elements"));
  EXPECT_THAT(with(storage, keys + u64(~std::uint64_t{0})), HasSubstr("has -1 elements"));
  EXPECT_THAT(with(storage, "\x80\2]."), HasSubstr("there is no data of storage 7"));
  EXPECT_THAT(with(storage, "\x80\2](" + pickled("8") + "e."), HasSubstr("of no tensor"));
  EXPECT_THAT(with(storage, "\x80\2](" + pickled("7") + pickled("7") + "e." + u64(2) +
                                std::string(8, '\0') + u64(2) + std::string(8, '\0')),
              HasSubstr("storage 7"));
  EXPECT_THAT(with(pickled("7") + pickled("cpu") + "J\xff\xff\xff\x7fN", keys),
              HasSubstr("need more bytes than the file has"));
  EXPECT_THAT(with(pickled("7") + pickled("cpu") + "K\2(K\1K\1K\1t", keys),
              HasSubstr("a part of another one"));
  EXPECT_THAT(error_with(start + "\x80\2K\1."), HasSubstr("unknown version"));
  EXPECT_THAT(error_with(start + version + "\x80\2}" + pickled("little_endian") + "\x89s."),
              HasSubstr("big-endian"));
  EXPECT_THAT(error_with(start + version + machine + "\x80\2" + global("os", "system") + "(" +
                         pickled("true") + "tR."),
              HasSubstr("\"os.system\" is not plain data"));
}

TEST_F(HostileWeights, Safetensors) {
  const auto with = [&](const std::string& header, const std::string& rest = std::string(8, '\0')) {
    return error_with(u64(header.size()) + header + rest, ".safetensors");
  };
  EXPECT_EQ(with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"), "");
  EXPECT_THAT(with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                       "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
              HasSubstr("holds \"a\" twice"));
  EXPECT_THAT(with(R"({"a":{"dtype":"I8","dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
              HasSubstr("holds \"dtype\" twice"));
  EXPECT_THAT(with(R"({"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}})"),
              HasSubstr("no valid JSON"));
  for (const auto* shape : {"[2.0]", "[-2]", "[1e1]", "[\"2\"]", "2", "[null]", "[[2]]"}) {
    EXPECT_THAT(
        with(concat(R"({"a":{"dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,8]}})")),
        HasSubstr("tensor a: the header needs dtype, shape and data_offsets"))
        << shape;
  }
  for (const auto* offsets : {"[8,0]", "[0,18446744073709551615]", "[4,12]"}) {
    EXPECT_THAT(with(concat(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)", offsets, "}}")),
                HasSubstr("lies outside the file's 8 bytes"))
        << offsets;
  }
  EXPECT_THAT(with(R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,9223372036854775807],
                       "data_offsets":[0,0]}})",
                   ""),
              HasSubstr("shape is too large"));
  EXPECT_THAT(with(concat(R"({"a":{"dtype":"F32","shape":[)", repeated("1,", 70),
                          R"(2],"data_offsets":[0,8]}})")),
              HasSubstr("too many dimensions"));
  EXPECT_THAT(with(R"({"__metadata__":{"a":1}})"), HasSubstr("map strings to strings"));
  EXPECT_THAT(with(repeated("[", 1'000'000)), HasSubstr("no valid JSON"));
  EXPECT_THAT(with(repeated("{\"a\":", 500'000)), HasSubstr("no valid JSON"));
  EXPECT_THAT(with(std::string(5 << 20, ' ')), HasSubstr("bad header length"));
  EXPECT_THAT(with(R"({"a\n\u001b":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}})"),
              HasSubstr("tensor a??: type F7 is not supported"));
  EXPECT_THAT(with("{}", ""), HasSubstr("holds no weights"));
  // As many names as fit: in time that does not grow with their square.
  std::string many = "{";
  for (int i = 0; many.size() < (4 << 20) - 100; ++i) many += concat("\"", i, "\":0,");
  EXPECT_THAT(with(many + "\"x\":0}"), HasSubstr("needs dtype, shape"));
}

// The arguments of an original are JSON in the metadata: nested too deep, or too many, they are
// none.
TEST_F(HostileWeights, MetadataThatIsNoArguments) {
  TensorFile file;
  file.tensors = {{"a", torch::ones({2})},
                  {"golden/input", torch::ones({2})},
                  {"golden/logits", torch::ones({2})},
                  {"golden/grad_norm", torch::ones({1})},
                  {"golden/grad_dot", torch::ones({1})},
                  {"golden/grad_input", torch::ones({2})}};
  const auto path = folder_.path() / "deep.safetensors";
  const auto refusal = [&](const std::string& config, const std::string& parameters = "[\"a\"]") {
    file.metadata = {{"model", "segresnet"}, {"parameters", parameters}, {"config", config}};
    write_safetensors(path, file);
    read_state_dict(path);  // whose weights may be of use all the same
    return error_of([&] { verify(file, path, torch::kFloat32); });
  };
  EXPECT_THAT(refusal("{\"a\":" + repeated("[", 30'000) + repeated("]", 30'000) + "}"),
              HasSubstr("nested deeper than 64"));
  EXPECT_THAT(refusal("{\"a\":" + repeated("[", 900'000) + repeated("]", 900'000) + "}"),
              HasSubstr("metadata config takes more than 64 KiB"));
  std::string many = "{";
  for (int i = 0; many.size() < (3 << 20); ++i) many += concat("\"", i, "\":0,");
  EXPECT_THAT(refusal(many + "\"x\":0}"), HasSubstr("takes more than 64 KiB"));
  EXPECT_THAT(refusal("{}", many + "\"x\":0}"), HasSubstr("parameters takes more than 256 KiB"));
  EXPECT_THAT(refusal("{}", "[" + repeated("[", 1000) + repeated("]", 1000) + "]"),
              HasSubstr("nested deeper than 64"));
  for (const auto* parameters : {"{}", "[]", "[1]", "\"a\"", "null"}) {
    EXPECT_THAT(refusal("{}", parameters),
                HasSubstr("metadata parameters must be a list of texts"));
  }
}

// A network as large as its config says would not fit any machine: the file's own weights show
// that it is none of theirs, before it takes memory.
TEST_F(HostileWeights, NetworksLargerThanTheirWeights) {
  TensorFile file;
  file.tensors = {{"a", torch::ones({2})},
                  {"golden/input", torch::ones({1, 1, 8, 8, 8})},
                  {"golden/logits", torch::ones({1, 2, 8, 8, 8})},
                  {"golden/grad_norm", torch::ones({1})},
                  {"golden/grad_dot", torch::ones({1})},
                  {"golden/grad_input", torch::ones({2})}};
  for (const auto& [model, config, why] : std::vector<std::array<std::string, 3>>{
           {"segmamba", R"({"feat_size": [65536, 65536], "depths": [1024, 1024]})", "left: take"},
           {"segmamba", R"({"feat_size": [4, 4], "depths": [1, 1], "hidden_size": 4096})",
            "weights do not fit the model"},
           {"segmamba", R"({"feat_size": [1099511627776]})", "must be an integer from 1 to 65536"},
           {"segmamba", R"({"feat_size": [1e300]})", "must be a list of integers"},
           {"segmamba", R"({"feat_size": [0]})", "must be an integer from 1 to 65536"},
           {"segmamba", R"({"depths": [-1]})", "must be an integer from 1 to 1024"},
           {"unetr", R"({"in_channels": 1, "out_channels": 2, "img_size": 4096,
                         "hidden_size": 65536,
                         "num_heads": 16})",
            "left: take"},
           {"swin_unetr", R"({"in_channels": 1, "out_channels": 2, "window_size": [64, 64, 64]})",
            "left: take"},
           {"nnunet", R"({"input_channels": 1, "num_classes": 2, "n_stages": 1,
                          "features_per_stage": [65536], "kernel_sizes": [31, 31, 31],
                          "strides": [1], "n_conv_per_stage": [1024],
                          "n_conv_per_stage_decoder": []})",
            ""},
           {"vim_blocks", R"({"depth": 1024, "length": 1000000000, "dim": 65536})", ""},
           {"vmamba_block_2d", R"({"hidden_dim": 65536})", "weights do not fit the model"}}) {
    file.metadata = {{"model", model}, {"parameters", "[\"a\"]"}, {"config", config}};
    const auto before = restart_peak_memory();
    EXPECT_THAT(error_of([&] { verify(file, "file", torch::kFloat32); }),
                AllOf(HasSubstr("file: "), HasSubstr(why), Not(HasSubstr("\n"))))
        << model << config;
    EXPECT_LT(resident_memory().peak - before, std::uint64_t{512} << 20) << model << config;
  }
}

// What a file says of its network is read in time that does not grow with its square.
TEST_F(HostileWeights, ConfigsWithTooManyKeys) {
  const auto weights = tensor_dict({{"a", torch::ones({2})}});
  Dict plans, arguments, checkpoint;
  for (int i = 0; i < 200'000; ++i) plans.set(concat(i), Value());
  arguments.set("plans", plans);
  arguments.set("configuration", "3d_fullres");
  checkpoint.set("network_weights", weights);
  checkpoint.set("init_args", arguments);
  const auto path = folder_.path() / "plans.pt";
  write_archive(path, checkpoint);
  EXPECT_EQ(read_state_dict(path).config_problem, "the plans hold more than 10000 values");

  std::string many = "{";
  for (int i = 0; many.size() < (3 << 20); ++i) many += concat("\"", i, "\":0,");
  const auto keys = folder_.path() / "keys.safetensors";
  write_safetensors(keys, {.tensors = {{"a", torch::ones({2})}},
                           .metadata = {{"model", "segresnet"}, {"config", many + "\"x\":0}"}}});
  EXPECT_EQ(read_state_dict(keys).config_problem,
            "the config inside: the arguments take more than 64 KiB");
}

// Empty tensors, of sizes whose product is no number.
TEST_F(HostileWeights, EmptyTensorsOfHugeSizes) {
  const auto huge = std::int64_t{1} << 62;
  const std::string stem = "vit.patch_embedding.patch_embeddings.";
  const auto adapt = [](const char* network, const std::string& name, torch::Tensor tensor,
                        const char* proj_type = "conv") {
    ModelConfig config;
    config.name = network;
    config.unetr.proj_type = proj_type;
    const TensorMap given = {{name, tensor}};
    EXPECT_EQ(error_of([&] { adapt_state_dict(config, given); }), "") << network;
  };
  adapt("unetr", stem + "1.weight", torch::empty({huge, 0}));
  adapt("unetr", stem + "weight",
        torch::empty({0}).as_strided({0, huge, huge, 1, 1}, {1, 1, 1, 1, 1}), "perceptron");
}

}  // namespace
}  // namespace segmamba::nn
