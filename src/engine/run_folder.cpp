#include "segmamba/engine/run_folder.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <system_error>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/folder.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace fs = std::filesystem;

namespace {

// Apart from hidden files, such as the lock of the caller.
bool holds_anything(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  const auto entries = entries_of(folder);
  return std::any_of(entries.begin(), entries.end(), [](const fs::directory_entry& entry) {
    return !starts_with(entry.path().filename().string(), ".");
  });
}

}  // namespace

RunFolder RunFolder::prepare(const fs::path& path, StartMode mode) {
  RunFolder run{path};
  const bool used = holds_anything(path);
  if (used && mode == StartMode::kNew) {
    throw Error(concat(path.string(), " is not empty: add --resume to continue the run in it, ",
                       "--overwrite to start anew, or take another folder"));
  }
  if (mode == StartMode::kOverwrite) {
    for (const auto& file : run.files()) {
      std::error_code error;
      fs::remove_all(file, error);
      if (error) throw Error(concat("cannot remove ", file.string(), ": ", error.message()));
    }
  }
  make_folders(run.checkpoints());
  remove_stale_temporaries(run.path);
  remove_stale_temporaries(run.checkpoints());
  remove_file(run.next_checkpoint());  // a killed process may have left it
  return run;
}

std::vector<fs::path> RunFolder::files() const {
  auto files = all_checkpoints();
  for (const auto& file : {config(), split(), log(), environment(), metrics(), events(), report(),
                           tensorboard(), best_weights()}) {
    files.push_back(file);
  }
  return files;
}

void RunFolder::check_is_no_file_of_it(const std::string& key, const fs::path& input) const {
  if (input.empty()) return;
  const auto place = fs::weakly_canonical(input);
  for (const auto& file : files()) {
    const auto removed = fs::weakly_canonical(file);
    const auto [end, ignored] =
        std::mismatch(removed.begin(), removed.end(), place.begin(), place.end());
    if (end != removed.end()) continue;
    throw Error(concat(key, " is ", input.string(), ", which --overwrite removes with the run in ",
                       path.string(), ": take another output folder, or a copy of it"));
  }
}

fs::path RunFolder::best_checkpoint(std::int64_t iteration) const {
  return checkpoints() / concat("best-", iteration, ".pt");
}

std::vector<fs::path> RunFolder::all_checkpoints() const {
  std::vector<std::pair<std::int64_t, fs::path>> best;
  // Where the folder cannot be read, that is an error: a run with checkpoints must not start anew.
  if (!fs::exists(checkpoints())) return {};
  for (const auto& entry : entries_of(checkpoints())) {
    const auto name = entry.path().filename().string();
    std::int64_t iteration = 0;
    const char* end = name.data() + name.size();
    if (!starts_with(name, "best-")) continue;
    const auto number = std::from_chars(name.data() + 5, end, iteration);
    if (number.ec == std::errc() && std::string(number.ptr, end) == ".pt") {
      best.emplace_back(-iteration, entry.path());
    }
  }
  std::sort(best.begin(), best.end());
  std::vector<fs::path> all;
  for (const auto& path : {last_checkpoint(), previous_checkpoint()}) {
    if (fs::exists(path)) all.push_back(path);
  }
  for (auto& [iteration, path] : best) all.push_back(std::move(path));
  if (fs::exists(best_checkpoint())) all.push_back(best_checkpoint());
  return all;
}

}  // namespace segmamba::engine
