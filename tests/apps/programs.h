#pragma once
// The programs as processes, on tiny phantoms.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/temporary_folder.h"

namespace segmamba::test {

namespace fs = std::filesystem;

constexpr unsigned kMostSeconds = 600;  // then SIGALRM ends a program that hangs

struct Outcome {
  int exit_code;  // 1000 + signal where one ended it
  std::string out, err;
};

class Programs : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder;
    const Outcome outcome = run_in(shared_->path(), {"segmamba-data", "phantom", "--output",
                                                     "cases", "--cases", "5", "--size", "32"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    write_file_atomically(shared_->path() / "tiny.yaml",
                          "model:\n"
                          "  dims: [4, 8, 8]\n"
                          "  depths: [1, 1, 1]\n"
                          "  hidden_size: 16\n"
                          "data:\n"
                          "  patch_size: [16, 16, 16]\n"
                          "training:\n"
                          "  iterations: 16\n"
                          "  threads: 1\n"
                          "  workers: 1\n"
                          "  checkpoint_every: 5\n"
                          "validation:\n"
                          "  every: 6\n");
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  // `words`: a program of ours, or a path from the root, and arguments. `prepare` is called in the
  // new process.
  static pid_t start(const fs::path& folder, std::vector<std::string> words,
                     const std::function<void()>& prepare = {}) {
    words[0] = (fs::path(SEGMAMBA_BIN_DIR) / words[0]).string();
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t child = fork();
    if (child != 0) return child;
    const bool ready = ::chdir(folder.c_str()) == 0;
    ::dup2(::open("out.txt", O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
    ::dup2(::open("err.txt", O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
    if (prepare) prepare();
    ::alarm(kMostSeconds);
    if (ready) ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  static Outcome finish(const fs::path& folder, pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status),
            read_file(folder / "out.txt"), read_file(folder / "err.txt")};
  }
  static Outcome run_in(const fs::path& folder, std::vector<std::string> words) {
    return finish(folder, start(folder, std::move(words)));
  }

  fs::path cases() const { return shared_->path() / "cases"; }
  std::vector<std::string> train_command(std::vector<std::string> more) const {
    std::vector<std::string> words = {"segmamba-train",
                                      "--config",
                                      (shared_->path() / "tiny.yaml").string(),
                                      "--device",
                                      "cpu",
                                      "--set",
                                      "data.root=" + cases().string()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Outcome run(std::vector<std::string> words) { return run_in(folder_.path(), std::move(words)); }

  inline static TemporaryFolder* shared_ = nullptr;
  TemporaryFolder folder_;
};
inline std::int64_t line_count(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

// The names of the cases that segmamba-infer has written into a folder, sorted.
inline std::vector<std::string> label_maps(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string();
    if (ends_with(file, ".nii.gz")) names.push_back(file.substr(0, file.size() - 7));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace segmamba::test
