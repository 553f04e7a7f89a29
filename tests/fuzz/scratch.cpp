#include "scratch.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "readers.h"

namespace segmamba::fuzz {
namespace {

namespace fs = std::filesystem;

struct Scratch {
  Scratch() {
    std::error_code error;
    const bool in_memory = std::getenv("TMPDIR") == nullptr && fs::is_directory("/dev/shm", error);
    const fs::path parent = in_memory ? "/dev/shm" : fs::temp_directory_path();
    std::string pattern = (parent / "segmamba-fuzz-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

}  // namespace

const fs::path& scratch() {
  static const Scratch kScratch;
  return kScratch.path;
}

// By system calls: a stream would take as long as the reader of a small file.
fs::path scratch_file(const std::string& name, std::string_view content) {
  auto path = scratch() / name;
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) throw std::runtime_error("cannot write " + path.string());
  const auto written = ::write(file, content.data(), content.size());
  ::close(file);
  if (written != static_cast<ssize_t>(content.size())) {
    throw std::runtime_error("cannot write all of " + path.string());
  }
  return path;
}

fs::path empty_folder(const std::string& name) {
  auto path = scratch() / name;
  fs::remove_all(path);
  fs::create_directory(path);
  return path;
}

std::vector<std::string_view> parts(std::string_view input, std::size_t most) {
  std::vector<std::string_view> all;
  while (all.size() + 1 < most) {
    const auto end = input.find(kCut);
    if (end == std::string_view::npos) break;
    all.push_back(input.substr(0, end));
    input.remove_prefix(end + kCut.size());
  }
  all.push_back(input);
  return all;
}

std::vector<std::string> lines(std::string_view text, std::size_t most) {
  std::vector<std::string> all;
  while (!text.empty() && all.size() < most) {
    const auto end = text.find('\n');
    all.emplace_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return all;
}

}  // namespace segmamba::fuzz
