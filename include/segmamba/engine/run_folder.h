#pragma once

#include <filesystem>

namespace segmamba::engine {

enum class StartMode {
  kNew,        // refuses a folder that holds anything
  kOverwrite,  // removes an earlier run's files first (and nothing else)
  kResume,     // goes on from checkpoints/last.pt where there is one
};

// Where a run keeps its files.
struct RunFolder {
  std::filesystem::path path;

  // Makes the folder ready. Throws Error saying what to do where it may not be used.
  static RunFolder prepare(const std::filesystem::path& path, StartMode mode);

  std::filesystem::path config() const { return path / "config.yaml"; }
  std::filesystem::path split() const { return path / "split.yaml"; }
  std::filesystem::path log() const { return path / "train.log"; }
  std::filesystem::path metrics() const { return path / "metrics.csv"; }
  std::filesystem::path checkpoints() const { return path / "checkpoints"; }
  std::filesystem::path last_checkpoint() const { return checkpoints() / "last.pt"; }
  std::filesystem::path best_checkpoint() const { return checkpoints() / "best.pt"; }
};

}  // namespace segmamba::engine
