#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace segmamba::engine {

enum class StartMode {
  kNew,        // refuses a folder that holds anything but hidden files
  kOverwrite,  // removes an earlier run's files first (and nothing else)
  kResume,     // goes on from the newest checkpoint where there is one
};

// Where a run keeps its files.
struct RunFolder {
  std::filesystem::path path;

  // Makes the folder ready, of which the caller holds the FolderLock. Throws Error saying what to
  // do where it may not be used.
  static RunFolder prepare(const std::filesystem::path& path, StartMode mode);

  std::filesystem::path config() const { return path / "config.yaml"; }
  std::filesystem::path split() const { return path / "split.yaml"; }
  std::filesystem::path log() const { return path / "train.log"; }
  std::filesystem::path environment() const { return path / "environment.json"; }
  std::filesystem::path metrics() const { return path / "metrics.csv"; }
  std::filesystem::path events() const { return path / "events.jsonl"; }
  std::filesystem::path tensorboard() const { return path / "tensorboard"; }
  std::filesystem::path report() const { return path / "report.html"; }
  std::filesystem::path checkpoints() const { return path / "checkpoints"; }
  std::filesystem::path last_checkpoint() const { return checkpoints() / "last.pt"; }
  // What becomes last.pt when it is whole.
  std::filesystem::path next_checkpoint() const { return checkpoints() / "next.pt"; }
  // The last.pt before.
  std::filesystem::path previous_checkpoint() const { return checkpoints() / "previous.pt"; }
  std::filesystem::path best_checkpoint() const { return checkpoints() / "best.pt"; }
  // The weights of best.pt alone.
  std::filesystem::path best_weights() const { return checkpoints() / "best.safetensors"; }
  // One of several that validation.keep_best keeps beside best.pt.
  std::filesystem::path best_checkpoint(std::int64_t iteration) const;

  // What a run writes, there or not: what StartMode::kOverwrite removes.
  std::vector<std::filesystem::path> files() const;
  // Throws Error naming `key` where `input`, which it names, is one of these or lies in one: what a
  // new run reads must not go with the earlier one.
  void check_is_no_file_of_it(const std::string& key, const std::filesystem::path& input) const;

  // The checkpoints that are there, the newest first. Throws where the folder cannot be read.
  std::vector<std::filesystem::path> all_checkpoints() const;
};

}  // namespace segmamba::engine
