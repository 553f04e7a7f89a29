// A program for libFuzzer: SEGMAMBA_FUZZ_READER names the reader that gets the inputs. Without it
// the program prints their names, each with that of its dictionary.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "readers.h"
#include "segmamba/core/log.h"

namespace segmamba::fuzz {
namespace {

std::vector<Reader> readers_of_program() {
#ifdef SEGMAMBA_FUZZ_WEIGHTS
  return weight_readers();
#else
  auto all = text_readers();
  for (const auto& more : {volume_readers(), dataset_readers()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
#endif
}

const Reader& chosen_reader() {
  static const auto kReaders = readers_of_program();
  static const Reader* const kChosen = [] {
    const char* const name = std::getenv("SEGMAMBA_FUZZ_READER");
    for (const auto& reader : kReaders) {
      if (name != nullptr && reader.name == name) return &reader;
    }
    for (const auto& reader : kReaders) {
      std::printf("%s %s\n", reader.name.c_str(), reader.dictionary.c_str());
    }
    std::exit(name == nullptr ? 0 : 2);
  }();
  return *kChosen;
}

}  // namespace
}  // namespace segmamba::fuzz

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  segmamba::set_log_level(segmamba::LogLevel::kError);
  segmamba::fuzz::chosen_reader();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto& reader = segmamba::fuzz::chosen_reader();
  const auto broken =
      segmamba::fuzz::broken_promise(reader, {reinterpret_cast<const char*>(bytes), size});
  if (broken.empty()) return 0;
  std::fprintf(stderr, "%s: %s\n", reader.name.c_str(), broken.c_str());
  std::abort();
}
