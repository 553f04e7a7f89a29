#pragma once
// Damaged inputs out of sound ones: the same for the same seed on every machine.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace segmamba::fuzz {

// The contents of the files in a folder, by name.
std::vector<std::string> read_corpus(const std::filesystem::path& folder);
// The words of a dictionary of libFuzzer: a line each, "..." with \xNN, \" and \\.
std::vector<std::string> read_dictionary(const std::filesystem::path& path);

class Mutator {
 public:
  // `corpus` must not be empty.
  Mutator(std::vector<std::string> corpus, std::vector<std::string> words)
      : corpus_(std::move(corpus)), words_(std::move(words)) {}

  // An input of the corpus after one to eight changes: bytes flipped, replaced, cut out, repeated,
  // words and parts of other inputs put in.
  std::string input(std::uint64_t seed) const;

 private:
  std::vector<std::string> corpus_, words_;
};

}  // namespace segmamba::fuzz
