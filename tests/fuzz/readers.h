#pragma once
// Every function that takes a file or a text from outside, as a function of bytes: for libFuzzer
// (fuzz_reader.cpp) and for the replay of its corpus (fuzz_test.cpp).

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace segmamba::fuzz {

struct Reader {
  std::string name;        // of its folder in tests/data/fuzz, too
  std::string dictionary;  // one of tests/fuzz/dictionaries, without .dict
  std::function<void(std::string_view input)> read;
};

std::vector<Reader> text_readers();     // JSON, YAML, CSV and what is made of them
std::vector<Reader> volume_readers();   // NIfTI and DICOM
std::vector<Reader> dataset_readers();  // folders: data sets, caches, runs
std::vector<Reader> weight_readers();   // what LibTorch is linked for: safetensors, golden files,
                                        // files of torch.save, plans, environments of runs

// What stands between the parts of an input that becomes several files or texts.
inline constexpr std::string_view kCut = "\n%%\n";

// What is wrong with the way in which the reader took the input; "" where it kept what all of them
// promise: it returned, or threw Error with a message of one printable line, and never held more
// than kMostBytes of memory. (That it does not crash or hang is for others to see.)
inline constexpr std::size_t kMostBytes = std::size_t{100} << 20;
std::string broken_promise(const Reader& reader, std::string_view input);

}  // namespace segmamba::fuzz
