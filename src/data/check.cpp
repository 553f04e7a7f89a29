#include "segmamba/data/check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>

#include "channel_reader.h"
#include "segmamba/core/error.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/io/orientation.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

// What is kept of a case once its voxels are gone.
struct CaseResult {
  std::vector<Finding> findings;
  // Of each channel, where it could be read and is not constant: constant ones are no duplicates.
  std::vector<std::optional<Hash128>> channels;
  std::vector<std::string> channel_files;  // for messages
  std::optional<Hash128> labels;           // where any voxel is labelled
  std::string labels_file;
  std::optional<io::Geometry> geometry;
  std::array<bool, ClassMap::kNone> has_class{};
  std::optional<CaseNumbers> numbers;  // where nothing is wrong
};

template <class T>
Hash128 hash_of(const std::vector<T>& voxels) {
  return hash_bytes(voxels.data(), voxels.size() * sizeof(T));
}

// Turned to LPS, so that sizes and spacings of cases in any orientation compare.
io::Geometry in_lps(const io::Geometry& geometry) {
  return io::reoriented(geometry, io::axes_towards(geometry, "LPS"));
}

std::string spacing_text(const io::Geometry& geometry) {
  std::vector<std::string> texts;
  for (const double value : in_lps(geometry).spacing) texts.push_back(format_fixed(value, 3));
  return join(texts, "x") + " mm";
}

std::string size_text(const io::Geometry& geometry) { return join(in_lps(geometry).size, "x"); }

// The box of the voxels that are not 0 in any channel, as the intervals [begin, end) in x, y, z.
struct NonzeroBox {
  std::array<std::int64_t, 3> begin{}, end{};

  bool is_empty() const { return end[0] == 0; }
  bool holds(std::int64_t x, std::int64_t y, std::int64_t z) const {
    return x >= begin[0] && x < end[0] && y >= begin[1] && y < end[1] && z >= begin[2] &&
           z < end[2];
  }
  double voxels() const {
    double product = 1;
    for (std::size_t i = 0; i < 3; ++i) product *= static_cast<double>(end[i] - begin[i]);
    return product;
  }
  void include(std::int64_t first_x, std::int64_t last_x, std::int64_t y, std::int64_t z) {
    const std::array<std::int64_t, 3> low = {first_x, y, z}, high = {last_x + 1, y + 1, z + 1};
    const bool was_empty = is_empty();
    for (std::size_t i = 0; i < 3; ++i) {
      begin[i] = was_empty ? low[i] : std::min(begin[i], low[i]);
      end[i] = std::max(end[i], high[i]);
    }
  }
  void include(const io::Image& image) {
    const auto& size = image.geometry.size;
    const float* row = image.voxels.data();
    const auto is_nonzero = [](float value) { return value != 0; };
    for (std::int64_t z = 0; z < size[2]; ++z) {
      for (std::int64_t y = 0; y < size[1]; ++y, row += size[0]) {
        const float* end_of_row = row + size[0];
        const float* first = std::find_if(row, end_of_row, is_nonzero);
        if (first == end_of_row) continue;
        const float* last = end_of_row - 1;
        while (*last == 0) --last;
        include(first - row, last - row, y, z);
      }
    }
  }
};

class CaseCheck {
 public:
  CaseCheck(const Case& item, const Dataset& dataset)
      : item_(item), dataset_(dataset), reader_(item) {}

  CaseResult run() {
    numbers_.name = item_.name;
    numbers_.class_voxels.assign(dataset_.classes.size(), 0);
    check_labels();
    for (std::size_t channel = 0; channel < item_.images.size(); ++channel) check_channel(channel);
    if (channels_read_ == item_.images.size() && box_.is_empty()) {
      // That each of them is constant is no news then.
      std::erase_if(result_.findings, [](const Finding& f) { return f.kind == "constant"; });
      add(Severity::kError, "empty", "every voxel of every channel is 0");
    }
    check_labels_against_channels();
    report_directions();
    finish_numbers();
    return std::move(result_);
  }

 private:
  void add(Severity severity, std::string kind, std::string message) {
    result_.findings.push_back({severity, std::move(kind), item_.name, std::move(message)});
  }

  // What `read` reads; nothing where that fails.
  template <class Read>
  auto attempt(const fs::path& path, Read read) -> std::optional<decltype(read())> {
    try {
      return read();
    } catch (const io::DamagedFileError& error) {
      add(Severity::kError, "damaged", error.what());
    } catch (const io::NotFiniteError& error) {
      add(Severity::kError, "not-finite", error.what());
    } catch (const io::NotLabelsError& error) {
      add(Severity::kError, "not-labels", error.what());
    } catch (const Error& error) {
      add(Severity::kError, "unreadable", error.what());
    } catch (const std::bad_alloc&) {
      add(Severity::kError, "unreadable", concat(path.string(), ": not enough memory to read it"));
    } catch (const std::exception& error) {
      add(Severity::kError, "unreadable", concat(path.string(), ": ", error.what()));
    }
    return std::nullopt;
  }

  // The image of a channel. Channels that are volumes of one file are read at once.
  std::optional<io::Image> read_channel(const ChannelFile& file) {
    if (reader_.has_failed(file.path)) return std::nullopt;  // which has been said
    return attempt(file.path, [&] { return reader_.read(file); });
  }

  void check_channel(std::size_t channel) {
    const ChannelFile& file = item_.images[channel];
    result_.channels.emplace_back();
    result_.channel_files.emplace_back();
    numbers_.nonzero.emplace_back();
    numbers_.foreground.emplace_back();
    if (file.path.empty()) return;  // "missing" is there already
    const auto image = read_channel(file);
    if (!image) return;
    std::string& name = result_.channel_files.back();
    name = file.path.filename().string();
    if (file.volume >= 0) name += concat(" volume ", file.volume);
    ++channels_read_;
    check_grid(name, image->geometry);
    note_direction(file.path, image->geometry);
    box_.include(*image);

    std::vector<float> nonzero, foreground;
    nonzero.reserve(image->voxels.size());
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (const float value : image->voxels) {
      if (value == 0) continue;
      low = std::min(low, value);
      high = std::max(high, value);
      nonzero.push_back(value);
    }
    if (low > high) {
      add(Severity::kWarning, "constant", concat(name, " is 0 in every voxel"));
    } else if (low == high) {
      add(Severity::kWarning, "constant",
          concat(name, " has the value ", low, " in every voxel that is not 0"));
    } else {
      result_.channels.back() = hash_of(image->voxels);
    }
    if (labels_ && labels_->voxels.size() == image->voxels.size()) {
      for (std::size_t i = 0; i < image->voxels.size(); ++i) {
        const std::uint8_t label = dataset_.class_map[labels_->voxels[i]];
        if (label != 0 && label != ClassMap::kNone) foreground.push_back(image->voxels[i]);
      }
    }
    numbers_.nonzero.back() = IntensitySample(std::move(nonzero));
    numbers_.foreground.back() = IntensitySample(std::move(foreground));
  }

  void check_grid(const std::string& name, const io::Geometry& geometry) {
    if (!result_.geometry) {
      result_.geometry = geometry;
      first_name_ = name;
      return;
    }
    const std::string difference = io::geometry_difference(*result_.geometry, geometry);
    if (difference.empty()) return;
    add(Severity::kError, "geometry",
        concat(first_name_, " and ", name, " do not share a grid: ", difference));
  }

  void check_labels() {
    const fs::path& path = item_.labels;
    if (path.empty()) return;
    labels_ = attempt(path, [&] { return io::read_labels(path); });
    if (!labels_) return;
    const std::string name = path.filename().string();
    result_.labels_file = name;
    std::array<std::int64_t, 256> counts{};
    for (const auto value : labels_->voxels) ++counts[value];
    std::vector<int> unknown;
    std::int64_t labelled = 0;
    for (int value = 0; value < 256; ++value) {
      const std::int64_t count = counts[static_cast<std::size_t>(value)];
      if (count == 0) continue;
      const std::uint8_t index = dataset_.class_map[static_cast<std::uint8_t>(value)];
      if (index == ClassMap::kNone) {
        unknown.push_back(value);
        continue;
      }
      numbers_.class_voxels[index] += count;
      result_.has_class[index] = true;
      if (index != 0) labelled += count;
    }
    if (!unknown.empty()) {
      add(Severity::kError, "unknown-label",
          concat(name, " has label ", join(unknown, ", "), ", which no class has; known are ",
                 dataset_.class_map.values(), " (say what it is by data.label_map: [",
                 unknown.front(), "=CLASS])"));
    } else if (labelled == 0) {
      add(Severity::kNotice, "empty-labels", concat(name, " marks no voxel"));
    }
    if (labelled > 0) result_.labels = hash_of(labels_->voxels);
    check_old_label(name, counts);
  }

  // Before 2023 BraTS had no 3, and enhancing tumour was 4; since 2024 it is a cavity.
  void check_old_label(const std::string& name, const std::array<std::int64_t, 256>& counts) {
    constexpr std::uint8_t kFour = 4;
    const bool names_values = dataset_.layout == "nnunet" || dataset_.layout == "decathlon";
    const std::uint8_t index = dataset_.class_map[kFour];
    if (names_values || counts[kFour] == 0 || index == ClassMap::kNone ||
        index != dataset_.class_map[kEnhancing]) {
      return;
    }
    if (counts[kEnhancing] == 0) {
      add(Severity::kNotice, "old-label",
          concat(name, " marks enhancing tumour by 4, as before BraTS 2023; read as ",
                 dataset_.classes[index]));
    } else {
      add(Severity::kWarning, "old-label",
          concat(name, " has labels 3 and 4; both are taken as ", dataset_.classes[index],
                 ", but 4 is the resection cavity since BraTS 2024 (then list it among "
                 "data.classes)"));
    }
  }

  void check_labels_against_channels() {
    if (!labels_) return;
    note_direction(item_.labels, labels_->geometry);
    const std::string name = item_.labels.filename().string();
    if (!result_.geometry) return;
    check_grid(name, labels_->geometry);
    const auto& size = labels_->geometry.size;
    if (size != result_.geometry->size || box_.is_empty() ||
        channels_read_ != item_.images.size()) {
      return;
    }
    std::int64_t labelled = 0, outside = 0;
    std::size_t i = 0;
    for (std::int64_t z = 0; z < size[2]; ++z) {
      for (std::int64_t y = 0; y < size[1]; ++y) {
        for (std::int64_t x = 0; x < size[0]; ++x, ++i) {
          const std::uint8_t label = dataset_.class_map[labels_->voxels[i]];
          if (label == 0 || label == ClassMap::kNone) continue;
          ++labelled;
          outside += box_.holds(x, y, z) ? 0 : 1;
        }
      }
    }
    if (outside == 0) return;
    add(Severity::kWarning, "label-outside",
        concat(name, ": ", outside, " of ", labelled,
               " labelled voxels lie outside the box of non-zero voxels, and are cut off with it"));
  }

  void note_direction(const fs::path& path, const io::Geometry& geometry) {
    const io::DirectionRepair repair = io::direction_repair(geometry);
    // Below that it is the rounding of float.
    constexpr double kRounding = 1e-4;
    if (repair.sheared_sform) sheared_.insert(path.filename().string());
    if (repair.largest_change > kRounding) {
      turned_.insert(path.filename().string());
      largest_turn_ = std::max(largest_turn_, repair.largest_change);
    }
  }

  // The files of a case come from one program: one finding for them all.
  void report_directions() {
    const auto files = [](const std::set<std::string>& names) {
      return names.size() == 1 ? *names.begin()
                               : concat(*names.begin(), " and ", names.size() - 1, " more");
    };
    if (!turned_.empty()) {
      add(Severity::kNotice, "direction",
          concat(files(turned_), ": direction cosines are orthonormal only to ",
                 format_fixed(largest_turn_, 4), "; the nearest orthonormal ones are used"));
    }
    if (!sheared_.empty()) {
      add(Severity::kWarning, "direction",
          concat(files(sheared_), ": the sform is sheared; the qform is used instead"));
    }
  }

  void finish_numbers() {
    const bool is_sound =
        std::none_of(result_.findings.begin(), result_.findings.end(),
                     [](const Finding& finding) { return finding.severity == Severity::kError; });
    if (!is_sound || !labels_ || !result_.geometry || channels_read_ != item_.images.size()) return;
    const io::Geometry grid = in_lps(*result_.geometry);
    numbers_.size = grid.size;
    numbers_.spacing = grid.spacing;
    numbers_.crop_share = box_.voxels() / static_cast<double>(result_.geometry->voxel_count());
    result_.numbers = std::move(numbers_);
  }

  const Case& item_;
  const Dataset& dataset_;
  CaseResult result_;
  CaseNumbers numbers_;
  std::optional<io::LabelMap> labels_;
  ChannelReader reader_;
  std::string first_name_;
  std::size_t channels_read_ = 0;
  NonzeroBox box_;
  std::set<std::string> turned_, sheared_;
  double largest_turn_ = 0;
};

// Everything that only a look at all cases shows.
class SetCheck {
 public:
  // `parts` are the parts of a split by case, empty where there is none.
  SetCheck(const Dataset& dataset, const std::vector<CaseResult>& results,
           const std::map<std::string, std::string>& parts, std::vector<Finding>& findings)
      : dataset_(dataset), results_(results), parts_(parts), findings_(findings) {}

  void run() {
    find_duplicates();
    find_absent_classes();
    find_unusual_texts("orientation", io::orientation_of, [](const io::Geometry&) { return true; });
    find_unusual("spacing", spacing_text, [](const io::Geometry& g) { return in_lps(g).spacing; });
    find_unusual("size", size_text, [](const io::Geometry& g) {
      std::array<double, 3> size{};
      const auto turned = in_lps(g).size;
      std::copy(turned.begin(), turned.end(), size.begin());
      return size;
    });
  }

 private:
  void add(Severity severity, std::string kind, std::size_t index, std::string message) {
    findings_.push_back(
        {severity, std::move(kind), dataset_.cases[index].name, std::move(message)});
  }

  void find_duplicates() {
    struct Place {
      std::size_t index;
      std::string file;
    };
    std::map<std::vector<Hash128>, std::vector<std::size_t>> whole;
    std::map<Hash128, Place> channels, labels;
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const CaseResult& result = results_[i];
      std::vector<Hash128> all;
      for (const auto& hash : result.channels) {
        if (hash) all.push_back(*hash);
      }
      if (!all.empty() && all.size() == result.channels.size()) {
        auto& equal = whole[all];
        if (!equal.empty()) {
          // One finding a case: of those equal to it, one in another part of the split is the
          // worst.
          const auto leak = std::find_if(equal.begin(), equal.end(), [&](std::size_t other) {
            return are_apart(dataset_.cases[i], dataset_.cases[other]);
          });
          add_duplicate(i, leak == equal.end() ? equal.front() : *leak);
        }
        equal.push_back(i);
        if (equal.size() > 1) continue;
      }
      for (std::size_t channel = 0; channel < result.channels.size(); ++channel) {
        if (!result.channels[channel]) continue;
        const std::string& file = result.channel_files[channel];
        const auto [first, is_new] =
            channels.try_emplace(*result.channels[channel], Place{i, file});
        if (is_new) continue;
        add(Severity::kWarning, "duplicate-channel", i,
            concat(file, " has the same voxels as ", first->second.file));
      }
      if (!result.labels) continue;
      const auto [first, is_new] = labels.try_emplace(*result.labels, Place{i, result.labels_file});
      if (is_new) continue;
      add(Severity::kWarning, "duplicate-labels", i,
          concat(result.labels_file, " has the same labels as ", first->second.file,
                 ", while the images differ"));
    }
  }

  // Two cases with the same images.
  void add_duplicate(std::size_t index, std::size_t other_index) {
    const Case& item = dataset_.cases[index];
    const Case& other = dataset_.cases[other_index];
    if (are_apart(item, other)) {
      add(Severity::kError, "leak", index,
          concat("has the same images as case ", other.name, ", and the split has this one in ",
                 part_of(item), " and that one in ", part_of(other)));
      return;
    }
    const bool same_patient = item.patient == other.patient;
    add(Severity::kWarning, same_patient ? "duplicate-case" : "duplicate-patient", index,
        concat("has the same images as case ", other.name,
               same_patient ? ""
                            : ", which counts as another patient: a split may train on what it "
                              "tests"));
  }

  // In two parts of the split.
  bool are_apart(const Case& a, const Case& b) const {
    const std::string part = part_of(a), other = part_of(b);
    return part != other && !part.empty() && !other.empty();
  }

  // "" where the split does not have it, or there is none.
  std::string part_of(const Case& item) const {
    const auto found = parts_.find(item.name);
    return found == parts_.end() ? "" : found->second;
  }

  void find_absent_classes() {
    const bool all_read =
        std::all_of(results_.begin(), results_.end(),
                    [](const CaseResult& result) { return !result.labels_file.empty(); });
    if (!all_read || results_.empty()) return;
    for (std::size_t index = 1; index < dataset_.classes.size(); ++index) {
      if (std::any_of(results_.begin(), results_.end(),
                      [&](const CaseResult& result) { return result.has_class[index]; })) {
        continue;
      }
      findings_.push_back({Severity::kWarning, "absent-class", "",
                           concat("no case has the class ", dataset_.classes[index])});
    }
  }

  // Cases whose `property` differs from that of most; where many do, how many have which. True
  // where most have the same, so that there is something to differ from. `counts` says which cases
  // are compared at all.
  template <class Property, class Counts>
  bool find_unusual_texts(const std::string& kind, Property property, Counts counts) {
    std::map<std::string, std::vector<std::size_t>> groups;
    std::size_t total = 0;
    for (std::size_t i = 0; i < results_.size(); ++i) {
      if (!results_[i].geometry || !counts(*results_[i].geometry)) continue;
      groups[property(*results_[i].geometry)].push_back(i);
      ++total;
    }
    const auto usual = std::max_element(
        groups.begin(), groups.end(),
        [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
    if (usual == groups.end() || 2 * usual->second.size() <= total) {
      if (kind == "orientation" && groups.size() > 1) add_groups(kind, groups);
      return false;
    }
    const std::size_t others = total - usual->second.size();
    // A third is no exception any more.
    if (others > 1 && 3 * others > total) {
      add_groups(kind, groups);
      return true;
    }
    for (const auto& [value, members] : groups) {
      if (value == usual->first) continue;
      for (const std::size_t i : members) {
        add(Severity::kNotice, kind, i,
            concat(kind, " ", value, " where most cases have ", usual->first));
      }
    }
    return true;
  }

  void add_groups(const std::string& kind,
                  const std::map<std::string, std::vector<std::size_t>>& groups) {
    constexpr std::size_t kShown = 6;
    std::vector<std::pair<std::size_t, std::string>> sorted;
    sorted.reserve(groups.size());
    for (const auto& [value, members] : groups) sorted.emplace_back(members.size(), value);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < std::min(sorted.size(), kShown); ++i) {
      texts.push_back(concat(sorted[i].second, " in ", sorted[i].first));
    }
    if (sorted.size() > kShown) texts.push_back(concat(sorted.size() - kShown, " others"));
    findings_.push_back(
        {Severity::kNotice, kind, "", concat("the ", kind, " differs: ", join(texts, ", "))});
  }

  template <class Text, class Numbers>
  void find_unusual(const std::string& kind, Text text, Numbers numbers) {
    if (find_unusual_texts(kind, text, [](const io::Geometry&) { return true; })) return;
    // No value that most have: what lies far from the median.
    constexpr double kFar = 3;
    std::array<double, 3> median{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      std::vector<double> values;
      for (const auto& result : results_) {
        if (result.geometry) values.push_back(numbers(*result.geometry)[axis]);
      }
      median[axis] = describe(std::move(values)).median;
    }
    for (std::size_t i = 0; i < results_.size(); ++i) {
      if (!results_[i].geometry) continue;
      const auto values = numbers(*results_[i].geometry);
      bool is_far = false;
      for (std::size_t axis = 0; axis < 3; ++axis) {
        is_far = is_far || values[axis] > kFar * median[axis] || kFar * values[axis] < median[axis];
      }
      if (!is_far) continue;
      std::vector<std::string> medians;
      medians.reserve(median.size());
      for (const double value : median) medians.push_back(format_double(value));
      add(Severity::kNotice, kind, i,
          concat(kind, " ", text(*results_[i].geometry), " where the median is ",
                 join(medians, "x")));
    }
  }

  const Dataset& dataset_;
  const std::vector<CaseResult>& results_;
  const std::map<std::string, std::string>& parts_;
  std::vector<Finding>& findings_;
};

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
  return {{"root", root},
          {"layout", layout},
          {"cases", cases},
          {"patients", patients},
          {"can_train", can_train()},
          {"errors", count(Severity::kError)},
          {"warnings", count(Severity::kWarning)},
          {"notices", count(Severity::kNotice)},
          {"findings", std::move(list)},
          {"fingerprint", fingerprint.to_json()}};
}

namespace {

// The parts of the split by case. Cases that the set does not have, patients in two parts, and that
// there is nothing to train on, are findings.
std::map<std::string, std::string> check_split(const Split& split, const Dataset& dataset,
                                               std::vector<Finding>& findings) {
  std::map<std::string, std::string> parts;
  for (const char* part : {"train", "validation", "test"}) {
    for (const auto& name : split_part(split, part)) parts[name] = part;
  }
  if (split.train.empty()) {
    findings.push_back({Severity::kError, "missing", "", "the split has no cases to train on"});
  }
  std::set<std::string> names;
  for (const auto& item : dataset.cases) names.insert(item.name);
  for (const auto& [name, part] : parts) {
    if (names.contains(name)) continue;
    findings.push_back({Severity::kError, "missing", name,
                        concat("the split has it in ", part, ", and the data set does not")});
  }
  for (const auto& patient : leaking_patients(split, dataset.cases)) {
    findings.push_back(
        {Severity::kError, "leak", "",
         concat("patient ", patient, " has scans in more than one part of the split")});
  }
  return parts;
}

}  // namespace

CheckReport check_dataset(const DatasetConfig& config, const CheckOptions& options) {
  const DatasetSurvey survey = survey_dataset(config, Labels::kRequired);
  const Dataset& dataset = survey.dataset;
  CheckReport report;
  report.root = config.root;
  report.layout = dataset.layout;
  report.cases = std::ssize(dataset.cases);
  std::set<std::string> patients;
  for (const auto& item : dataset.cases) patients.insert(item.patient);
  report.patients = std::ssize(patients);
  for (const auto& problem : survey.missing) {
    report.findings.push_back({Severity::kError, "missing", problem.case_name, problem.message});
  }
  for (const auto& problem : survey.ignored) {
    report.findings.push_back({Severity::kWarning, "ignored", problem.case_name, problem.message});
  }

  std::vector<CaseResult> results(dataset.cases.size());
  std::mutex mutex;
  std::int64_t done = 0;
  parallel_for(
      report.cases,
      [&](std::int64_t i) {
        const auto index = static_cast<std::size_t>(i);
        results[index] = CaseCheck(dataset.cases[index], dataset).run();
        const std::lock_guard lock(mutex);
        if (options.progress) options.progress(++done, report.cases);
      },
      options.threads);

  std::vector<CaseNumbers> numbers;
  for (auto& result : results) {
    report.findings.insert(report.findings.end(), result.findings.begin(), result.findings.end());
    if (result.numbers) numbers.push_back(std::move(*result.numbers));
  }
  std::map<std::string, std::string> parts;
  if (options.split != nullptr) parts = check_split(*options.split, dataset, report.findings);
  SetCheck(dataset, results, parts, report.findings).run();
  std::stable_sort(report.findings.begin(), report.findings.end(),
                   [](const Finding& a, const Finding& b) {
                     if (a.case_name != b.case_name) return a.case_name < b.case_name;
                     return a.severity > b.severity;
                   });
  report.fingerprint = summarise(std::move(numbers), dataset.channels, dataset.classes);
  return report;
}

}  // namespace segmamba::data
