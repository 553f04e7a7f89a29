#include "mutator.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <stdexcept>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxInput = 1 << 16;

std::string unescaped(const std::string& text) {
  std::string word;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      word += text[i];
    } else if (text.at(i + 1) == 'x') {
      word += static_cast<char>(std::stoi(text.substr(i + 2, 2), nullptr, 16));
      i += 3;
    } else {
      word += text[++i];
    }
  }
  return word;
}

// What the standard's engines give is the same everywhere; what its distributions make of it is
// not.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  // 0 to count - 1; 0 where count is 0.
  std::size_t below(std::size_t count) {
    return count == 0 ? 0 : static_cast<std::size_t>(engine_() % count);
  }
  char byte() { return static_cast<char>(engine_()); }
  const std::string& one_of(const std::vector<std::string>& texts) {
    return texts[below(texts.size())];
  }

 private:
  std::mt19937_64 engine_;
};

// Some part of a text, most often a short one.
std::string part_of(const std::string& text, Dice& dice) {
  const auto begin = dice.below(text.size());
  const auto most =
      dice.below(4) == 0 ? text.size() - begin : std::min<std::size_t>(text.size() - begin, 24);
  return text.substr(begin, 1 + dice.below(most));
}

void change(std::string& input, const std::vector<std::string>& corpus,
            const std::vector<std::string>& words, Dice& dice) {
  const auto at = dice.below(input.size() + 1);
  const auto length = std::min(1 + dice.below(16), input.size() - at);
  switch (dice.below(10)) {
    case 0:  // a bit
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << dice.below(8));
      break;
    case 1:  // a byte
      if (at < input.size()) input[at] = dice.byte();
      break;
    case 2:
      input.erase(at, length);
      break;
    case 3:
      input.resize(at);
      break;
    case 4:  // a part of itself again, once or many times
      for (auto times = dice.below(4) == 0 ? dice.below(100) : 1; times > 0; --times) {
        if (input.size() < kMaxInput) input.insert(at, input.substr(at, length));
      }
      break;
    case 5:
      input.replace(at, length, length, dice.below(2) == 0 ? '\0' : '\xff');
      break;
    case 6:
      input.insert(at, dice.one_of(words));
      break;
    case 7: {
      const auto& word = dice.one_of(words);
      input.replace(at, std::min(word.size(), input.size() - at), word);
      break;
    }
    case 8:
      input.insert(at, part_of(dice.one_of(corpus), dice));
      break;
    default:  // the end of another one
      const auto& other = dice.one_of(corpus);
      input.replace(at, std::string::npos, other.substr(dice.below(other.size())));
  }
}

}  // namespace

std::vector<std::string> read_corpus(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> contents;
  for (const auto& path : paths) contents.push_back(read_file(path));
  return contents;
}

std::vector<std::string> read_dictionary(const fs::path& path) {
  std::vector<std::string> words;
  for (const auto& line : split(read_file(path), '\n')) {
    if (line.empty() || line[0] == '#') continue;
    if (line.size() < 3 || line.front() != '"' || line.back() != '"') {
      throw std::runtime_error(path.string() + ": not a word in quotes: " + line);
    }
    words.push_back(unescaped(line.substr(1, line.size() - 2)));
  }
  return words;
}

std::string Mutator::input(std::uint64_t seed) const {
  Dice dice(seed);
  std::string input = dice.one_of(corpus_);
  for (auto changes = 1 + dice.below(8); changes > 0; --changes) {
    change(input, corpus_, words_, dice);
  }
  if (input.size() > kMaxInput) input.resize(kMaxInput);
  return input;
}

}  // namespace segmamba::fuzz
