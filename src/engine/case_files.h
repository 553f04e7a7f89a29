#pragma once
// The files of a run of inference that belong to one case, as inference_run.h names them.

#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/engine/inference_run.h"
#include "segmamba/io/volume.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::engine {

class CaseFiles {
 public:
  CaseFiles(const InferenceRunOptions& options, const std::vector<metrics::Region>& regions,
            const std::vector<std::string>& classes)
      : options_(options), regions_(regions), classes_(classes) {}

  std::filesystem::path labels_path(const std::string& name) const;
  // One of the files asked for beside the label map that is not there; "" where all are.
  std::filesystem::path missing_file(const std::string& name) const;
  // Throws Error.
  void make_folders() const;
  // `images`: the channels, where there are to be pictures. Throws Error naming the file that
  // cannot be written; there is no label map then.
  void write(const Prediction& prediction, const std::vector<io::Image>& images) const;

 private:
  void remove_earlier_labels(const std::string& name) const;
  void write_region_masks(const Prediction& prediction) const;
  void write_dicom(const Prediction& prediction) const;
  std::filesystem::path path(const std::filesystem::path& kind, const std::string& name,
                             const char* suffix = ".nii.gz") const;

  const InferenceRunOptions& options_;
  const std::vector<metrics::Region>& regions_;
  const std::vector<std::string>& classes_;
};

}  // namespace segmamba::engine
