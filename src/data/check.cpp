#include "segmamba/data/check.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/data/cases.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

// What is kept of a case once its voxels are gone, to compare it with the others.
struct CaseSummary {
  std::vector<Finding> findings;
  std::vector<std::pair<fs::path, std::uint64_t>> hashes;  // of the channels that could be read
  std::optional<io::Geometry> geometry;
};

// Two volumes of equal hash are taken as equal: among 10^4 files a false match has a chance of
// 10^-12.
std::uint64_t hash_of(const std::vector<float>& voxels) {
  std::uint64_t hash = 0xcbf29ce484222325 ^ voxels.size();
  for (const float value : voxels) {
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  return hash;
}

// "LPS": the patient's side to which each axis of the file runs.
std::string orientation(const io::Geometry& geometry) {
  constexpr std::array<const char*, 3> kSides = {"RL", "AP", "IS"};  // negative and positive in LPS
  std::string code;
  for (std::size_t column = 0; column < 3; ++column) {
    std::size_t largest = 0;
    for (std::size_t row = 1; row < 3; ++row) {
      if (std::abs(geometry.direction[3 * row + column]) >
          std::abs(geometry.direction[3 * largest + column])) {
        largest = row;
      }
    }
    code += kSides[largest][geometry.direction[3 * largest + column] > 0 ? 1 : 0];
  }
  return code;
}

std::string spacing_text(const io::Geometry& geometry) {
  std::vector<std::string> texts;
  for (const double value : geometry.spacing) texts.push_back(format_fixed(value, 3));
  return join(texts, "x") + " mm";
}

class CaseCheck {
 public:
  CaseCheck(const fs::path& folder, const std::vector<std::string>& channels)
      : folder_(folder), name_(folder.filename().string()) {
    for (const auto& channel : channels) check_channel(channel);
    if (summary_.hashes.size() == channels.size() && !any_nonzero_) {
      add(Severity::kError, "empty", "every voxel of every channel is 0");
    }
    check_labels();
  }
  CaseSummary take() { return std::move(summary_); }

 private:
  void add(Severity severity, std::string kind, std::string message) {
    summary_.findings.push_back({severity, std::move(kind), name_, std::move(message)});
  }

  // The file of a channel, read by `read`; nothing where it is missing or damaged.
  template <class Read>
  auto read(const std::string& channel, fs::path& path, Read read)
      -> std::optional<decltype(read(path))> {
    path = find_case_file(folder_, channel);
    if (path.empty()) {
      add(Severity::kError, "missing", concat(name_, "-", channel, ".nii.gz (or .nii) is missing"));
      return {};
    }
    try {
      return read(path);
    } catch (const Error& error) {
      add(Severity::kError, "unreadable", error.what());
      return {};
    }
  }

  void check_grid(const fs::path& path, const io::Geometry& geometry) {
    if (!summary_.geometry) {
      summary_.geometry = geometry;
      first_ = path;
      return;
    }
    const std::string difference = io::geometry_difference(*summary_.geometry, geometry);
    if (!difference.empty()) {
      add(Severity::kError, "geometry",
          concat(first_.filename().string(), " and ", path.filename().string(),
                 " do not share a grid: ", difference));
    }
  }

  void check_channel(const std::string& channel) {
    fs::path path;
    const auto image = read(channel, path, io::read_image);
    if (!image) return;
    check_grid(path, image->geometry);
    summary_.hashes.emplace_back(path, hash_of(image->voxels));
    // Over the voxels that the z-score uses.
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (const float value : image->voxels) {
      if (value == 0) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    const std::string file = path.filename().string();
    if (low > high) {
      add(Severity::kWarning, "constant", concat(file, " is 0 in every voxel"));
    } else if (low == high) {
      add(Severity::kWarning, "constant",
          concat(file, " has the value ", low, " in every voxel that is not 0"));
    }
    any_nonzero_ = any_nonzero_ || low <= high;
  }

  void check_labels() {
    fs::path path;
    const auto labels = read("seg", path, io::read_labels);
    if (!labels) return;
    check_grid(path, labels->geometry);
    std::array<std::int64_t, 256> counts{};
    for (const auto label : labels->voxels) ++counts[label];
    const std::string file = path.filename().string();
    std::vector<int> unknown;
    for (int label = kEnhancing + 2; label < 256; ++label) {
      if (counts[static_cast<std::size_t>(label)] > 0) unknown.push_back(label);
    }
    if (!unknown.empty()) {
      add(Severity::kError, "labels",
          concat(file, " has label ", join(unknown, ", "),
                 "; BraTS has 0 to 3 (or 4 for enhancing tumour)"));
    }
    if (counts[kEnhancing + 1] > 0) {
      add(counts[kEnhancing] > 0 ? Severity::kWarning : Severity::kNotice, "old-labels",
          counts[kEnhancing] > 0
              ? concat(file, " has labels 3 and 4; both are taken as enhancing tumour")
              : concat(file, " marks enhancing tumour by 4, as before BraTS 2023; read as 3"));
    }
    if (counts[0] == static_cast<std::int64_t>(labels->voxels.size())) {
      add(Severity::kNotice, "no-tumour",
          concat(file, " is 0 everywhere: a case without a tumour"));
    }
  }

  fs::path folder_, first_;
  std::string name_;
  bool any_nonzero_ = false;
  CaseSummary summary_;
};

void find_duplicates(const std::vector<CaseSummary>& summaries,
                     const std::vector<std::string>& names, std::vector<Finding>& findings) {
  std::map<std::uint64_t, fs::path> seen;
  for (std::size_t i = 0; i < summaries.size(); ++i) {
    for (const auto& [path, hash] : summaries[i].hashes) {
      const auto [first, is_new] = seen.emplace(hash, path);
      if (is_new) continue;
      findings.push_back({Severity::kWarning, "duplicate", names[i],
                          concat(path.filename().string(), " has the same voxels as ",
                                 first->second.filename().string())});
    }
  }
}

// Folders beside the cases that training passes over: an empty case, or files of another name.
void find_ignored(const fs::path& root, const std::vector<fs::path>& folders,
                  std::vector<Finding>& findings) {
  const fs::path parent = fs::canonical(root);
  if (folders.front() == parent) return;  // one case alone
  for (const auto& entry : fs::directory_iterator(parent)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || starts_with(name, ".") ||
        std::binary_search(folders.begin(), folders.end(), entry.path())) {
      continue;
    }
    findings.push_back({Severity::kWarning, "ignored", name,
                        concat("not taken as a case: no files ", name, "-CHANNEL.nii.gz in it")});
  }
}

// Cases whose `property` differs from that of most. Silent where no value has a majority.
template <class Property>
void find_outliers(const std::vector<CaseSummary>& summaries, const std::vector<std::string>& names,
                   const std::string& what, Property property, std::vector<Finding>& findings) {
  std::map<std::string, std::int64_t> counts;
  std::int64_t total = 0;
  for (const auto& summary : summaries) {
    if (!summary.geometry) continue;
    ++counts[property(*summary.geometry)];
    ++total;
  }
  for (const auto& [usual, count] : counts) {
    if (2 * count <= total) continue;
    for (std::size_t i = 0; i < summaries.size(); ++i) {
      if (!summaries[i].geometry) continue;
      const std::string value = property(*summaries[i].geometry);
      if (value == usual) continue;
      findings.push_back({Severity::kNotice, "outlier", names[i],
                          concat(what, " ", value, " where most cases have ", usual)});
    }
  }
}

}  // namespace

std::string to_string(Severity severity) {
  switch (severity) {
    case Severity::kNotice:
      return "notice";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      break;
  }
  return "error";
}

std::int64_t CheckReport::count(Severity severity) const {
  return std::count_if(findings.begin(), findings.end(),
                       [&](const Finding& finding) { return finding.severity == severity; });
}

Json CheckReport::to_json() const {
  Json list = Json::array();
  for (const auto& finding : findings) {
    list.push_back({{"severity", to_string(finding.severity)},
                    {"kind", finding.kind},
                    {"case", finding.case_name},
                    {"message", finding.message}});
  }
  return {{"cases", cases},
          {"patients", patients},
          {"can_train", can_train()},
          {"errors", count(Severity::kError)},
          {"warnings", count(Severity::kWarning)},
          {"notices", count(Severity::kNotice)},
          {"findings", std::move(list)}};
}

CheckReport check_cases(
    const fs::path& root, const std::vector<std::string>& channels,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  const auto folders = find_case_folders(root);
  CheckReport report;
  report.cases = static_cast<std::int64_t>(folders.size());
  if (folders.empty()) {
    report.findings.push_back(
        {Severity::kError, "missing", "",
         concat(root.string(), " has no cases: folders NAME with files NAME-t1n.nii.gz ...")});
    return report;
  }

  std::vector<CaseSummary> summaries(folders.size());
  std::mutex mutex;
  std::int64_t done = 0;
  parallel_for(report.cases, [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    summaries[index] = CaseCheck(folders[index], channels).take();
    const std::lock_guard lock(mutex);
    if (progress) progress(++done, report.cases);
  });

  std::vector<std::string> names;
  std::set<std::string> patients;
  for (const auto& folder : folders) {
    names.push_back(folder.filename().string());
    patients.insert(patient_of(names.back()));
  }
  report.patients = static_cast<std::int64_t>(patients.size());
  for (const auto& summary : summaries) {
    report.findings.insert(report.findings.end(), summary.findings.begin(), summary.findings.end());
  }
  find_ignored(root, folders, report.findings);
  find_duplicates(summaries, names, report.findings);
  find_outliers(summaries, names, "orientation", orientation, report.findings);
  find_outliers(summaries, names, "spacing", spacing_text, report.findings);
  std::stable_sort(report.findings.begin(), report.findings.end(),
                   [](const Finding& a, const Finding& b) {
                     if (a.case_name != b.case_name) return a.case_name < b.case_name;
                     return a.severity > b.severity;
                   });
  return report;
}

}  // namespace segmamba::data
