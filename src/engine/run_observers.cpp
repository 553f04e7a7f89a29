#include "segmamba/engine/run_observers.h"

#include "segmamba/engine/events_observer.h"
#include "segmamba/engine/observers.h"
#include "segmamba/engine/tensorboard_observer.h"
#include "segmamba/engine/training_report.h"

namespace segmamba::engine {

std::vector<std::unique_ptr<Observer>> run_observers(const RunFolder& run) {
  std::vector<std::unique_ptr<Observer>> observers;
  observers.push_back(std::make_unique<ConsoleObserver>());
  observers.push_back(std::make_unique<CsvObserver>(run.metrics()));
  observers.push_back(std::make_unique<EventsObserver>(run.events()));
  observers.push_back(std::make_unique<TensorBoardObserver>(run.tensorboard()));
  observers.push_back(std::make_unique<ReportObserver>(run));  // reads what the table has
  return observers;
}

}  // namespace segmamba::engine
