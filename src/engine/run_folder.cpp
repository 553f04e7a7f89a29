#include "segmamba/engine/run_folder.h"

#include <string>
#include <system_error>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace fs = std::filesystem;

RunFolder RunFolder::prepare(const fs::path& path, StartMode mode) {
  RunFolder run{path};
  std::error_code ignored;
  const bool used = fs::is_directory(path, ignored) && !fs::is_empty(path, ignored);
  if (used && mode == StartMode::kNew) {
    throw Error(concat(path.string(), " is not empty: add --resume to continue the run in it, ",
                       "--overwrite to start anew, or take another folder"));
  }
  if (mode == StartMode::kOverwrite) {
    for (const auto& file : {run.config(), run.split(), run.log(), run.metrics(),
                             run.last_checkpoint(), run.best_checkpoint()}) {
      std::error_code error;
      fs::remove(file, error);
      if (error) throw Error(concat("cannot remove ", file.string(), ": ", error.message()));
    }
  }
  make_folders(run.checkpoints());
  remove_stale_temporaries(run.path);
  remove_stale_temporaries(run.checkpoints());
  return run;
}

}  // namespace segmamba::engine
