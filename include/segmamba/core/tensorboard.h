#pragma once
// Event files that TensorBoard shows. Nothing of TensorFlow is needed to write them.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "segmamba/core/append_file.h"

namespace segmamba {

// Writes one event file: records as in tensorflow/core/lib/io/record_writer.h, each an Event of
// tensorflow/core/util/event.proto. Every call's events are in the file when it returns; each
// throws Error naming the file where it cannot be written. A slash in a tag groups it on the page.
class TensorBoardWriter {
 public:
  // Begins a file events.out.tfevents.SECONDS.HOST.PROCESS.N in `folder`, which is made. The
  // names sort in the order of their making even where the clock went back: TensorBoard reads them
  // in this order. A run that goes on gives the first step that it will write: TensorBoard then
  // drops what earlier files hold from that step on.
  explicit TensorBoardWriter(const std::filesystem::path& folder, std::int64_t first_step = 0);

  // Values are kept in single precision. Those that are nan or infinite are left out, for which
  // TensorBoard has no place on a curve.
  void add_scalars(std::int64_t step, const std::vector<std::pair<std::string, double>>& values);
  // `png`: the bytes of a PNG file. Throws Error where they are none.
  void add_image(std::int64_t step, const std::string& tag, std::string_view png);
  void add_text(std::int64_t step, const std::string& tag, const std::string& markdown);

  // The run as a row of the page HPARAMS. Values that read as numbers, true or false are such; the
  // rest is text. `metric`: the tag of the scalar whose last value stands in the row.
  void add_hyper_parameters(const std::vector<std::pair<std::string, std::string>>& values,
                            const std::string& metric);
  // Says on that page that the run is complete; until then it counts as running.
  void add_completion();

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  AppendFile file_;
};

}  // namespace segmamba
