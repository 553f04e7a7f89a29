#pragma once
// What is wrong with a data set, all of it at once, before hours of training find it one by one.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/fingerprint.h"
#include "segmamba/data/split.h"

namespace segmamba::data {

enum class Severity {
  kNotice,   // worth knowing
  kWarning,  // training starts, and its result may be worse for it
  kError,    // training does not start
};
std::string to_string(Severity severity);

struct Finding {
  Severity severity = Severity::kError;
  std::string kind;       // one of those below; stable, for programs
  std::string case_name;  // "" where it is about the whole set
  std::string message;    // names the file
};

// kind              severity  what it is
//
// missing           error     a file, a case, every case, or with a split those to train on
// unreadable        error     not a NIfTI file, a damaged header, not 3-D, ...
// damaged           error     truncated, or gzip's check sum or stream does not fit
// not-finite        error     NaN or infinite voxels
// geometry          error     channels, or channels and labels, on different grids
// leak              error     with a split: a patient, or the same images, in two of its parts
// empty             error     every voxel of every channel is 0
// not-labels        error     labels that are not whole numbers from 0 to 255
// unknown-label     error     labels that no class has
// constant          warning   a channel without contrast
// label-outside     warning   labelled voxels outside the box of non-zero voxels, which is cut out
// old-label         notice    4 for enhancing tumour, as before BraTS 2023;
//                   warning   where 3 is there, too: 4 may then be the resection cavity
// empty-labels      notice    only background
// absent-class      warning   a class that no case has
// duplicate-case    warning   a case that is in the set under two names of one patient
// duplicate-patient warning   the same under two patients: a split may train on what it tests
// duplicate-channel warning   a channel that is in the set twice
// duplicate-labels  warning   the same labels for different images
// direction         notice    direction cosines that had to be made orthonormal, and by how much;
//                   warning   a sheared sform, in place of which the qform is taken
// orientation       notice    not that of most cases
// spacing           notice    not that of most cases; or, where they vary, more than three times
//                             as large or as small as the median
// size              notice    the same for the size of the grid
// ignored           warning   files or folders in the set that are not taken
inline const std::vector<std::string> kFindingKinds = {"missing",
                                                       "unreadable",
                                                       "damaged",
                                                       "not-finite",
                                                       "geometry",
                                                       "leak",
                                                       "empty",
                                                       "not-labels",
                                                       "unknown-label",
                                                       "constant",
                                                       "label-outside",
                                                       "old-label",
                                                       "empty-labels",
                                                       "absent-class",
                                                       "duplicate-case",
                                                       "duplicate-patient",
                                                       "duplicate-channel",
                                                       "duplicate-labels",
                                                       "direction",
                                                       "orientation",
                                                       "spacing",
                                                       "size",
                                                       "ignored"};

struct CheckReport {
  std::string root, layout;
  std::int64_t cases = 0, patients = 0;
  std::vector<Finding> findings;  // by case, then the worst first
  Fingerprint fingerprint;        // of the cases without an error of their own

  std::int64_t count(Severity severity) const;
  bool can_train() const { return cases > 0 && count(Severity::kError) == 0; }
  Json to_json() const;
  // A page by itself, with the findings by severity and the fingerprint as tables and charts.
  std::string to_html() const;
};

struct CheckOptions {
  int threads = 0;               // 0: as core/parallel.h has it
  const Split* split = nullptr;  // looked at, too, where given
  // Called with the number of cases done, one call at a time.
  std::function<void(std::int64_t done, std::int64_t total)> progress = {};
};

// Reads every voxel of every case, a case a thread. A case that is broken, in whatever way, is a
// finding and stops nothing. Throws Error as survey_dataset() does: where the data set as a whole
// cannot be understood.
CheckReport check_dataset(const DatasetConfig& config, const CheckOptions& options = {});

}  // namespace segmamba::data
