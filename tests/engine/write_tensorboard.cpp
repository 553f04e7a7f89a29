// write_tensorboard FOLDER: a made-up run that is killed before its first checkpoint, once more
// after step 6 and resumed from step 4, for tensorboard_test.py.

#include <cstdio>

#include "run_events.h"
#include "segmamba/core/error.h"
#include "segmamba/engine/tensorboard_observer.h"

namespace {

using namespace segmamba::engine;

void write_run(const std::filesystem::path& folder) {
  {
    TensorBoardObserver killed(folder);
    killed.on_start(test_run::started());
    killed.on_step(test_run::skipped_step(1));
    killed.on_step(test_run::skipped_step(2));
  }
  {
    TensorBoardObserver killed(folder);
    killed.on_start(test_run::started());
    for (const int iteration : {1, 2, 3, 4, 5, 6}) {
      auto step = test_run::step(iteration);
      if (iteration > 4) step.loss = 100;  // must not be seen again
      killed.on_step(step);
      if (iteration == 4) killed.on_validation(test_run::validation(4, 0.75, true));
    }
    killed.on_patch_validation(test_run::patch_validation(6));
  }
  TensorBoardObserver resumed(folder);
  resumed.on_start(test_run::started(4));
  for (const int iteration : {5, 6, 7, 8, 9, 10}) {
    resumed.on_step(iteration == 6 ? test_run::skipped_step(6) : test_run::step(iteration));
  }
  resumed.on_patch_validation(test_run::patch_validation(8));
  resumed.on_validation(test_run::validation(8, 1, true));
  resumed.on_validation(test_run::validation(10, 0.5, false));
  resumed.on_end(RunEnd::kComplete, 10);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    write_run(argv[1]);
  } catch (const segmamba::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
