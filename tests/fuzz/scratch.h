#pragma once
// What the readers' functions share: cutting an input into parts, and files to read it from.

#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace segmamba::fuzz {

// A folder in memory (or in TMPDIR), of this process alone, which is removed when it ends.
const std::filesystem::path& scratch();
// A file in it, or in a folder of it, with this content; its path.
std::filesystem::path scratch_file(const std::string& name, std::string_view content);
// A folder in it that holds nothing.
std::filesystem::path empty_folder(const std::string& name);

// The input between its cuts; at most `most` parts, of which the last holds the rest.
std::vector<std::string_view> parts(std::string_view input, std::size_t most);
// The lines of a text; at most `most`.
std::vector<std::string> lines(std::string_view text, std::size_t most);

// Calls functions that are independent of each other: where some throw, goes on, and throws the
// first error at the end.
class Calls {
 public:
  template <class Function>
  void operator()(const Function& function) {
    try {
      function();
    } catch (...) {
      if (!first_) first_ = std::current_exception();
    }
  }
  void finish() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::exception_ptr first_;
};

// What a reader gives must have some property; no Error, so that it counts as a finding.
inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error(what);
}

}  // namespace segmamba::fuzz
