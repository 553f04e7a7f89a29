#include "segmamba/data/cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "layouts.h"
#include "segmamba/core/error.h"
#include "segmamba/core/file_lock.h"
#include "segmamba/core/files.h"
#include "segmamba/core/folder.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/json.h"
#include "segmamba/core/log.h"
#include "segmamba/core/mapped_file.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSettingsName = "settings.json";
constexpr const char* kManifestName = "manifest.json";
constexpr const char* kCaseSuffix = ".case";
constexpr const char* kLockSuffix = ".case-lock";
constexpr int kFormat = 2;  // raised whenever preparing gives other voxels or files

// The first bytes of a case's file. The header follows as JSON, then image and labels, each at a
// multiple of kAlignment.
struct Prefix {
  std::array<char, 8> magic{};
  std::uint64_t header_bytes = 0;
  Hash128 header_hash;
};
constexpr std::array<char, 8> kMagic = {'S', 'E', 'G', 'M', 'C', 'A', 'S', 'E'};
constexpr std::uint64_t kAlignment = 4096;
constexpr std::uint64_t kMostHeaderBytes = std::uint64_t{1} << 24;

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool is_file_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos;
}

fs::path case_path(const fs::path& folder, const std::string& name) {
  if (!is_file_name(name)) {
    throw Error(concat("case ", name, ": such a name cannot be that of a file; rename the case"));
  }
  return folder / (name + kCaseSuffix);
}

// Each value that has a class, with it.
std::vector<std::pair<int, int>> label_values(const ClassMap& map) {
  std::vector<std::pair<int, int>> values;
  for (int value = 0; value < 256; ++value) {
    const auto label = map[static_cast<std::uint8_t>(value)];
    if (label != ClassMap::kNone) values.emplace_back(value, label);
  }
  return values;
}

// Everything that decides the voxels, as "key: value" lines.
std::string settings_text(const Dataset& dataset, const PreprocessConfig& config) {
  std::string text = concat("format: ", kFormat, "\n");
  text += concat("channels: ", join(dataset.channels, ", "), "\n");
  text += concat("classes: ", join(dataset.classes, ", "), "\n");
  std::vector<std::string> values;
  for (const auto& [value, label] : label_values(dataset.class_map)) {
    values.push_back(concat(value, "=", label));
  }
  text += concat("label values: ", join(values, " "), "\n");
  // The name of the recipe decides nothing: its values do.
  const std::string yaml = config_to_yaml(config);
  return text + yaml.substr(yaml.find('\n') + 1);
}

// What differs between two settings, in words.
std::string settings_difference(const std::string& now, const std::string& before) {
  const auto lines = split(now, '\n'), old = split(before, '\n');
  for (std::size_t i = 0; i < std::min(lines.size(), old.size()); ++i) {
    if (lines[i] != old[i]) return concat("\"", old[i], "\", now \"", lines[i], "\"");
  }
  return lines.size() == old.size() ? "" : "another version of segmamba";
}

// The files of a case; of a folder of DICOM files each.
std::vector<fs::path> sources_of(const Case& item) {
  std::vector<fs::path> sources;
  for (const auto& file : item.images) {
    std::vector<fs::path> paths = {file.path};
    std::error_code ignored;
    if (fs::is_directory(file.path, ignored)) {
      paths.clear();
      for (const auto& entry : entries_of(file.path)) {
        if (entry.is_regular_file(ignored)) paths.push_back(entry.path());
      }
    }
    for (const auto& path : paths) {
      if (std::find(sources.begin(), sources.end(), path) == sources.end()) sources.push_back(path);
    }
  }
  if (!item.labels.empty()) sources.push_back(item.labels);
  return sources;
}

// The names of the cases that have a file, by what JSON makes of them.
std::map<std::string, std::string> case_names(const fs::path& folder) {
  std::map<std::string, std::string> names;
  for (const auto& entry : entries_of(folder)) {
    if (entry.path().extension() != kCaseSuffix) continue;
    const auto name = entry.path().stem().string();
    const auto [known, is_new] = names.emplace(utf8_text(name), name);
    if (!is_new) known->second = known->first;  // two that it makes one: that of neither
  }
  return names;
}

// Size and time of a file; nothing where it is not there.
struct Stamp {
  std::uint64_t bytes = 0;
  std::int64_t modified = 0;  // ns
  bool operator==(const Stamp&) const = default;
};
std::optional<Stamp> stamp_of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return Stamp{static_cast<std::uint64_t>(status.st_size),
               std::int64_t{status.st_mtim.tv_sec} * 1000000000 + status.st_mtim.tv_nsec};
}

std::vector<std::optional<Stamp>> stamps_of(const std::vector<fs::path>& paths) {
  std::vector<std::optional<Stamp>> stamps;
  for (const auto& path : paths) stamps.push_back(stamp_of(path));
  return stamps;
}

template <class Array>
Json json_of(const Array& values) {
  return Json(std::vector<typename Array::value_type>(values.begin(), values.end()));
}
// A number that fits: Json would cut one that does not. Throws std::invalid_argument.
template <class Number>
Number number_in(const Json& value) {
  if constexpr (std::is_same_v<Number, bool>) {
    return value.get<bool>();
  } else if constexpr (std::is_floating_point_v<Number>) {
    if (!value.is_number()) throw std::invalid_argument("a number is none");
    return static_cast<Number>(value.get<double>());
  } else {
    if (value.is_number_unsigned() && std::in_range<Number>(value.get<std::uint64_t>())) {
      return static_cast<Number>(value.get<std::uint64_t>());
    }
    if (value.is_number_integer() && !value.is_number_unsigned() &&
        std::in_range<Number>(value.get<std::int64_t>())) {
      return static_cast<Number>(value.get<std::int64_t>());
    }
    throw std::invalid_argument("an integer is none, or out of range");
  }
}
template <class Number>
std::vector<Number> numbers_in(const Json& values) {
  if (!values.is_array()) throw std::invalid_argument("a list is none");
  std::vector<Number> numbers;
  numbers.reserve(values.size());
  for (const auto& value : values) numbers.push_back(number_in<Number>(value));
  return numbers;
}
template <class Array>
void fill(Array& target, const Json& values) {
  const auto list = numbers_in<typename Array::value_type>(values);
  if (list.size() != target.size()) throw Error("a list has another length");
  std::copy(list.begin(), list.end(), target.begin());
}

// Of image and labels.
std::string hash_of(std::span<const Half> image, std::span<const std::uint8_t> labels) {
  return concat(hash_bytes(image.data(), image.size_bytes()).to_string(), "-",
                hash_bytes(labels.data(), labels.size()).to_string());
}

std::string hash_of_file(const fs::path& path) {
  const MappedFile file(path);
  return hash_bytes(file.bytes().data(), file.bytes().size()).to_string();
}

class PreparedFile {
 public:
  // Reads and checks all but the voxels.
  explicit PreparedFile(const fs::path& path)
      : path_(path), file_(std::make_shared<MappedFile>(path)) {
    const auto bytes = file_->bytes();
    Prefix prefix;
    if (bytes.size() < sizeof prefix) damaged("is too short");
    std::memcpy(&prefix, bytes.data(), sizeof prefix);
    if (prefix.magic != kMagic) damaged("is no prepared case");
    if (prefix.header_bytes > kMostHeaderBytes ||
        sizeof prefix + prefix.header_bytes > bytes.size()) {
      damaged("is too short");
    }
    const auto header = bytes.subspan(sizeof prefix, prefix.header_bytes);
    if (hash_bytes(header.data(), header.size()) != prefix.header_hash)
      damaged("has a damaged header");
    try {
      header_ = parse_json(std::string(reinterpret_cast<const char*>(header.data()), header.size()),
                           path.string());
      image_begin_ = aligned(sizeof prefix + prefix.header_bytes);
      read_header();
    } catch (const std::bad_alloc&) {
      throw;  // no damage
    } catch (const std::exception& error) {
      damaged(concat("has a damaged header (", error.what(), ")"));
    }
  }

  const std::string& settings() const { return settings_; }

  // Throws Error where the case has other numbers of them. (That their names are others, the
  // settings say.)
  void check_fits(std::int64_t channels, std::int64_t classes) const {
    if (item_.channels == channels && item_.classes == classes) return;
    damaged(concat("has ", item_.channels, " channels and ", item_.classes, " classes, not ",
                   channels, " and ", classes));
  }

  // Whether the file was made from these files as they are now. `missing` counts those that are
  // not there any more.
  bool is_current(const std::vector<fs::path>& sources, std::int64_t& missing) const {
    if (sources_.size() != sources.size()) return false;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto now = stamp_of(sources[i]);
      if (!now) {
        ++missing;
        continue;
      }
      const auto& before = sources_[i];
      if (*now == before.stamp) continue;
      if (now->bytes != before.stamp.bytes) return false;
      if (hash_of_file(sources[i]) != before.hash) return false;
    }
    return true;
  }

  PreparedCase item() const {
    if (hash_of(item_.image, item_.labels) != hash_) {
      damaged("is damaged: its voxels do not have their hash");
    }
    return item_;
  }
  std::uint64_t bytes() const { return file_->bytes().size(); }
  const std::string& hash() const { return hash_; }

 private:
  [[noreturn]] void damaged(const std::string& how) const {
    throw Error(
        concat(path_.string(), ": ", how, "; remove it and run segmamba-data prepare again"));
  }

  void read_header() {
    settings_ = header_.at("settings").get<std::string>();
    item_.name = header_.at("name").get<std::string>();
    const auto& geometry = header_.at("geometry");
    fill(item_.geometry.size, geometry.at("size"));
    fill(item_.geometry.spacing, geometry.at("spacing"));
    fill(item_.geometry.origin, geometry.at("origin"));
    fill(item_.geometry.direction, geometry.at("direction"));
    fill(item_.axes.axis, header_.at("axes"));
    fill(item_.axes.reversed, header_.at("reversed_axes"));
    fill(item_.crop_begin, header_.at("crop_begin"));
    fill(item_.crop_size, header_.at("crop_size"));
    fill(item_.spacing, header_.at("spacing"));
    fill(item_.size, header_.at("size"));
    item_.channels = number_in<std::int64_t>(header_.at("channels"));
    item_.classes = number_in<std::int64_t>(header_.at("classes"));
    item_.class_counts = numbers_in<std::int32_t>(header_.at("class_counts"));
    item_.outside = numbers_in<float>(header_.at("outside"));
    hash_ = header_.at("hash").get<std::string>();
    for (const auto& source : header_.at("sources")) {
      sources_.push_back({{number_in<std::uint64_t>(source.at("bytes")),
                           number_in<std::int64_t>(source.at("modified"))},
                          source.at("hash").get<std::string>()});
    }
    check_header();
    place_voxels(header_.at("has_labels").get<bool>());
    check_counts();
  }

  // What others use as sizes and as indices.
  void check_header() const {
    constexpr std::array<std::size_t, 3> kAxes = {0, 1, 2};
    const auto& axis = item_.axes.axis;
    if (!std::is_permutation(axis.begin(), axis.end(), std::begin(kAxes))) {
      throw Error("its axes are none");
    }
    const auto are_positive = [](const auto& values) {
      return std::all_of(values.begin(), values.end(), [](auto value) { return value > 0; });
    };
    const auto& grid = item_.geometry;
    if (!are_positive(item_.size) || !are_positive(grid.size) || item_.channels < 0 ||
        item_.classes < 0 || item_.classes > ClassMap::kNone) {
      throw Error("a size is none");
    }
    // By their ratios the sizes of pictures and of neighbourhoods are found.
    if (!are_positive(item_.spacing) || !are_positive(grid.spacing)) {
      throw Error("a spacing is none");
    }
    // No file here has to hold these voxels; they are made where a prediction is put back. The
    // bound is that of NIfTI files.
    double voxels = 1;
    for (const auto size : grid.size) voxels *= static_cast<double>(size);
    if (voxels > 0x1p40) throw Error("its grid has more than 2^40 voxels");
    for (std::size_t dimension = 0; dimension < 3; ++dimension) {
      const auto whole = grid.size[axis[2 - dimension]];
      const auto begin = item_.crop_begin[dimension], size = item_.crop_size[dimension];
      if (begin < 0 || size < 1 || size > whole - begin) {
        throw Error("its crop does not lie in its grid");
      }
    }
    if (item_.outside.size() != static_cast<std::size_t>(item_.channels)) {
      throw Error("a list has another length");
    }
  }

  // After place_voxels(): the products of sizes are then no more than the file's bytes.
  void check_counts() const {
    const auto& counts = item_.class_counts;
    const std::int64_t slices = item_.labels.empty() ? 0 : item_.size[0];
    if (std::ssize(counts) != slices * item_.classes) throw Error("a list has another length");
    for (auto slice = counts.begin(); slice != counts.end(); slice += item_.classes) {
      const auto end = slice + item_.classes;
      if (std::any_of(slice, end, [](std::int32_t count) { return count < 0; }) ||
          std::accumulate(slice, end, std::int64_t{0}) > item_.size[1] * item_.size[2]) {
        throw Error("a slice cannot have so many voxels of its classes");
      }
    }
  }

  void place_voxels(bool has_labels) {
    std::uint64_t count = 1, values = 0, bytes = 0;
    bool is_too_large = false;
    for (const auto size : item_.size) {
      is_too_large |= __builtin_mul_overflow(count, static_cast<std::uint64_t>(size), &count);
    }
    is_too_large |=
        __builtin_mul_overflow(count, static_cast<std::uint64_t>(item_.channels), &values);
    is_too_large |= __builtin_mul_overflow(values, sizeof(Half), &bytes);
    const std::uint64_t file_bytes = file_->bytes().size();
    if (is_too_large || count > file_bytes || bytes > file_bytes ||
        image_begin_ + aligned(bytes) + (has_labels ? count : 0) != file_bytes) {
      throw Error("its size does not fit");
    }
    const auto* const image = file_->bytes().data() + image_begin_;
    item_.image = {reinterpret_cast<const Half*>(image), values};
    if (has_labels) {
      item_.labels = {reinterpret_cast<const std::uint8_t*>(image + aligned(bytes)), count};
    }
    item_.storage = file_;
  }

  fs::path path_;
  std::shared_ptr<MappedFile> file_;
  Json header_;
  std::uint64_t image_begin_ = 0;
  std::string settings_, hash_;
  struct Source {
    Stamp stamp;
    std::string hash;
  };
  std::vector<Source> sources_;
  PreparedCase item_;
};

class CacheBuild {
 public:
  CacheBuild(const Dataset& dataset, const PreprocessConfig& config, const fs::path& folder,
             const std::function<void(std::int64_t, std::int64_t)>& progress)
      : dataset_(dataset),
        config_(config),
        folder_(folder),
        settings_(settings_text(dataset, config)),
        progress_(progress) {}

  CacheReport run() {
    check(config_, dataset_.channels.size());
    make_folders(folder_);
    remove_stale_temporaries(folder_);
    claim_folder();
    files_.resize(dataset_.cases.size());
    std::vector<std::int64_t> all(dataset_.cases.size());
    std::iota(all.begin(), all.end(), 0);
    make_beside_others(all, /*wait=*/false);
    make_beside_others(std::exchange(busy_, {}), /*wait=*/true);
    std::for_each(large_.begin(), large_.end(), [&](std::int64_t i) { make_alone(i); });
    std::sort(report_.failed.begin(), report_.failed.end());
    remove_stale_locks();
    write_manifest();
    return report_;
  }

 private:
  void claim_folder() {
    const fs::path path = folder_ / kSettingsName;
    if (fs::exists(path)) {
      if (!is_cache(folder_)) {
        throw Error(concat(path.string(), " is no file of a cache; give another folder"));
      }
      const auto before = read_json(path).at("settings").get<std::string>();
      const auto difference = settings_difference(settings_, before);
      if (!difference.empty()) {
        throw Error(concat(folder_.string(), " is a cache that was made with other settings: ",
                           difference, "; give another folder, or --overwrite"));
      }
      return;
    }
    write_json(path, {{"segmamba", version()}, {"settings", settings_}});
  }

  // The file where it is ready.
  std::optional<PreparedFile> ready(const Case& item) const {
    const fs::path path = case_path(folder_, item.name);
    if (!fs::exists(path)) return {};
    try {
      PreparedFile file(path);
      std::int64_t missing = 0;
      if (file.settings() == settings_ && file.is_current(sources_of(item), missing)) {
        file.check_fits(std::ssize(dataset_.channels), std::ssize(dataset_.classes));
        file.item();
        return file;
      }
    } catch (const Error& error) {
      log_warning(concat(error.what(), " (made anew now)"));
    }
    return {};
  }

  fs::path lock_path(const std::string& name) const {
    return folder_ / concat(".", name, kLockSuffix);
  }

  // Those of killed processes: to get one that nobody holds and to give it back removes its file.
  void remove_stale_locks() const {
    for (const Case& item : dataset_.cases) {
      if (!is_file_name(item.name) || !fs::exists(lock_path(item.name))) continue;
      FileLock lock(lock_path(item.name));
      static_cast<void>(lock.acquire(/*wait=*/false));
    }
  }

  void make_beside_others(const std::vector<std::int64_t>& cases, bool wait) {
    parallel_for(std::ssize(cases), [&](std::int64_t i) {
      const auto index = cases[static_cast<std::size_t>(i)];
      const auto outcome = make(index, wait);
      const std::lock_guard lock(mutex_);
      if (outcome == Outcome::kBusy) busy_.push_back(index);
      if (outcome == Outcome::kShortMemory) large_.push_back(index);
    });
  }

  void make_alone(std::int64_t index) {
    if (make(index, /*wait=*/true) != Outcome::kShortMemory) return;
    throw Error(concat("case ", dataset_.cases[static_cast<std::size_t>(index)].name,
                       ": not enough memory to prepare it, even by itself; take a machine with "
                       "more, or leave the case out"));
  }

  enum class Outcome { kTold, kBusy, kShortMemory };

  // Prepared, failed, or not done: another process is at work on the case, or memory is short.
  Outcome make(std::int64_t index, bool wait) {
    const Case& item = dataset_.cases[static_cast<std::size_t>(index)];
    std::string failure;
    bool made = false;
    std::optional<PreparedFile> file;
    try {
      file = ready(item);
      if (!file) {
        FileLock lock(lock_path(item.name));
        if (!lock.acquire(wait)) return Outcome::kBusy;
        file = ready(item);
        if (!file) {
          const auto path = case_path(folder_, item.name);
          const auto sources = sources_of(item);
          const auto before = stamps_of(sources);
          const auto prepared = prepare_case(read_case(dataset_, item), config_);
          write_prepared(path, prepared, sources, settings_);
          if (stamps_of(sources) != before) {
            remove_file(path);
            throw Error(concat("case ", item.name, ": a file changed while it was read"));
          }
          file.emplace(path);
          made = true;
        }
      }
    } catch (const WriteError&) {
      throw;  // no fault of the case
    } catch (const std::bad_alloc&) {
      return Outcome::kShortMemory;  // nor is this
    } catch (const std::exception& error) {
      failure = error.what();
    }
    if (!failure.empty() && is_file_name(item.name)) {
      // What an earlier build made of other files must not pass for this case.
      std::error_code ignored;
      fs::remove(case_path(folder_, item.name), ignored);
    }
    const std::lock_guard lock(mutex_);
    auto& entry = files_[static_cast<std::size_t>(index)];
    entry = {{"name", item.name}, {"patient", item.patient}, {"has_labels", !item.labels.empty()}};
    if (!failure.empty()) {
      report_.failed.emplace_back(item.name, failure);
    } else {
      ++(made ? report_.made : report_.kept);
      report_.bytes += file->bytes();
      entry["bytes"] = file->bytes();
      entry["hash"] = file->hash();
    }
    if (progress_) progress_(++done_, static_cast<std::int64_t>(dataset_.cases.size()));
    return Outcome::kTold;
  }

  void write_manifest() const {
    Json failed = Json::object();
    for (const auto& [name, message] : report_.failed) failed[name] = message;
    write_json(folder_ / kManifestName, {{"segmamba", version()},
                                         {"settings", settings_},
                                         {"label_values", label_values(dataset_.class_map)},
                                         {"bytes", report_.bytes},
                                         {"cases", files_},
                                         {"failed", std::move(failed)}});
  }

  const Dataset& dataset_;
  const PreprocessConfig& config_;
  fs::path folder_;
  std::string settings_;
  const std::function<void(std::int64_t, std::int64_t)>& progress_;
  std::mutex mutex_;
  std::int64_t done_ = 0;
  std::vector<std::int64_t> busy_, large_;  // cases that wait for another process, or for memory
  std::vector<Json> files_;
  CacheReport report_;
};

}  // namespace

std::uint64_t largest_cache_bytes(const Dataset& dataset, const PreprocessConfig& config) {
  std::vector<std::uint64_t> bytes(dataset.cases.size(), 0);
  parallel_for(static_cast<std::int64_t>(bytes.size()), [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    const Case& item = dataset.cases[index];
    try {
      const auto& first = item.images.front();
      const auto geometry = io::read_geometry(first.path, first.volume);
      double voxels = static_cast<double>(geometry.voxel_count());
      for (std::size_t axis = 0; axis < config.spacing.size(); ++axis) {
        voxels *= geometry.spacing[2 - axis] / config.spacing[axis];
      }
      const std::size_t each = item.images.size() * sizeof(Half) + (item.labels.empty() ? 0 : 1);
      bytes[index] =
          static_cast<std::uint64_t>(voxels * static_cast<double>(each)) + 2 * kAlignment;
    } catch (const Error&) {  // preparing will say it
    }
  });
  std::uint64_t sum = 0;
  for (const auto count : bytes) sum += count;
  return sum;
}

void write_prepared(const fs::path& path, const PreparedCase& item,
                    const std::vector<fs::path>& sources, const std::string& settings) {
  Json files = Json::array();
  for (const auto& source : sources) {
    const auto stamp = stamp_of(source);
    if (!stamp) throw Error(concat("cannot read ", source.string()));
    files.push_back({{"file", source.filename().string()},
                     {"bytes", stamp->bytes},
                     {"modified", stamp->modified},
                     {"hash", hash_of_file(source)}});
  }
  const Json header = {{"segmamba", version()},
                       {"settings", settings},
                       {"name", item.name},
                       {"sources", std::move(files)},
                       {"geometry",
                        {{"size", json_of(item.geometry.size)},
                         {"spacing", json_of(item.geometry.spacing)},
                         {"origin", json_of(item.geometry.origin)},
                         {"direction", json_of(item.geometry.direction)}}},
                       {"axes", json_of(item.axes.axis)},
                       {"reversed_axes", json_of(item.axes.reversed)},
                       {"crop_begin", json_of(item.crop_begin)},
                       {"crop_size", json_of(item.crop_size)},
                       {"spacing", json_of(item.spacing)},
                       {"size", json_of(item.size)},
                       {"channels", item.channels},
                       {"classes", item.classes},
                       {"class_counts", item.class_counts},
                       {"outside", item.outside},
                       {"has_labels", !item.labels.empty()},
                       {"hash", hash_of(item.image, item.labels)}};
  const std::string text = json_text(header);
  const Prefix prefix = {kMagic, text.size(), hash_bytes(text.data(), text.size())};
  write_file_atomically(path, [&](OutputFile& file) {
    const auto pad = [&](std::uint64_t bytes) {
      file.write(std::string(aligned(bytes) - bytes, '\0'));
    };
    file.write(&prefix, sizeof prefix);
    file.write(text);
    pad(sizeof prefix + text.size());
    file.write(item.image.data(), item.image.size_bytes());
    pad(item.image.size_bytes());
    file.write(item.labels.data(), item.labels.size());
  });
}

PreparedCase map_prepared(const fs::path& path) { return PreparedFile(path).item(); }

CacheReport build_cache(const Dataset& dataset, const PreprocessConfig& config,
                        const fs::path& folder,
                        const std::function<void(std::int64_t, std::int64_t)>& progress) {
  return CacheBuild(dataset, config, folder, progress).run();
}

bool is_cache(const fs::path& folder) {
  const fs::path path = folder / kSettingsName;
  if (!fs::exists(path)) return false;
  try {
    const Json settings = read_json(path);
    return settings.contains("segmamba") && settings.contains("settings");
  } catch (const ReadError&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception&) {
    return false;
  }
}

std::uint64_t cache_bytes(const fs::path& folder) {
  std::uint64_t bytes = 0;
  if (!is_cache(folder)) return bytes;
  for (const auto& entry : entries_of(folder)) {
    if (entry.path().extension() == kCaseSuffix) bytes += entry.file_size();
  }
  return bytes;
}

void remove_cache(const fs::path& folder) {
  if (!is_cache(folder)) return;
  // Last what makes it a cache, so that a killed removal can be repeated.
  for (const auto& entry : entries_of(folder)) {
    const std::string name = entry.path().filename().string();
    const bool is_lock = starts_with(name, ".") && ends_with(name, kLockSuffix);
    if (ends_with(name, kCaseSuffix) || is_lock || name == kManifestName) {
      remove_file(entry.path());
    }
  }
  remove_stale_temporaries(folder);
  remove_file(folder / kSettingsName);
}

Cache::Cache(const fs::path& folder, const Dataset& dataset, const PreprocessConfig& config)
    : folder_(folder),
      settings_(settings_text(dataset, config)),
      channels_(std::ssize(dataset.channels)),
      classes_(std::ssize(dataset.classes)) {
  const auto again = concat("run segmamba-data prepare --output ", folder.string(), " again");
  if (!is_cache(folder)) {
    throw Error(concat(folder.string(), ": is no cache; make it by segmamba-data prepare"));
  }
  if (!fs::exists(folder / kManifestName)) {
    throw Error(concat(folder.string(), ": the cache is not finished; ", again));
  }
  const Json manifest = read_json(folder / kManifestName);
  try {
    const auto difference =
        settings_difference(settings_, manifest.at("settings").get<std::string>());
    if (!difference.empty()) {
      throw Error(concat(folder.string(), ": the cache was made with other settings: ", difference,
                         "; make another cache for this config"));
    }
    failed_ = manifest.at("failed").get<std::map<std::string, std::string>>();
  } catch (const Json::exception&) {
    throw Error(concat((folder / kManifestName).string(), ": is damaged; ", again));
  }

  std::mutex mutex;
  std::vector<std::string> absent, changed;
  std::int64_t missing = 0;
  parallel_for(static_cast<std::int64_t>(dataset.cases.size()), [&](std::int64_t i) {
    const Case& item = dataset.cases[static_cast<std::size_t>(i)];
    const fs::path path = case_path(folder_, item.name);
    std::int64_t gone = 0;
    bool is_current = true;
    const bool exists = fs::exists(path);
    if (exists) {
      const PreparedFile file(path);
      const auto sources = sources_of(item);  // none where the cases come from the cache itself
      is_current =
          file.settings() == settings_ && (sources.empty() || file.is_current(sources, gone));
      if (is_current) file.check_fits(channels_, classes_);
    }
    const std::lock_guard lock(mutex);
    if (!exists && failed_.count(utf8_text(item.name)) == 0) absent.push_back(item.name);
    if (exists && !is_current) changed.push_back(item.name);
    missing += gone;
  });
  const auto refuse = [&](std::vector<std::string>& names, const std::string& what) {
    if (names.empty()) return;
    std::sort(names.begin(), names.end());
    throw Error(concat(folder.string(), ": ", names.size(), " of ", dataset.cases.size(), " cases ",
                       what, ", such as ", names.front(), "; ", again));
  };
  refuse(absent, "are not in the cache");
  refuse(changed, "have changed since they were prepared");
  if (missing > 0) {
    log_warning(concat(folder.string(), ": ", missing,
                       " of the files it was made from are not there any more, so that changes of "
                       "them would not be seen"));
  }
}

Dataset cached_dataset(const fs::path& folder, const std::vector<std::string>& channels,
                       const std::vector<std::string>& classes, Labels labels) {
  const fs::path path = folder / kManifestName;
  if (!fs::exists(path)) {
    throw Error(
        concat(folder.string(), is_cache(folder)
                                    ? ": the cache is not finished; run segmamba-data prepare again"
                                    : ": is no cache; make it by segmamba-data prepare"));
  }
  const Json manifest = read_json(path);
  const auto names = case_names(folder);
  Dataset dataset;
  dataset.layout = "cache";
  dataset.channels = channels;
  dataset.classes = classes;
  try {
    for (const auto& pair : manifest.at("label_values")) {
      dataset.class_map.set(number_in<std::uint8_t>(pair.at(0)),
                            number_in<std::uint8_t>(pair.at(1)));
    }
    for (const auto& item : manifest.at("cases")) {
      if (labels == Labels::kRequired && !item.at("has_labels").get<bool>()) {
        throw Error(concat("case ", item.at("name").get<std::string>(), " has no labels in cache ",
                           folder.string()));
      }
      const auto told = item.at("name").get<std::string>();
      const auto name = names.find(told);
      dataset.cases.push_back({.name = name == names.end() ? told : name->second,
                               .patient = item.at("patient").get<std::string>(),
                               .images = {},
                               .labels = {}});
    }
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception&) {
    throw Error(concat(path.string(), ": is damaged; run segmamba-data prepare again"));
  }
  return dataset;
}

PreparedCase Cache::open(const std::string& name) const {
  const auto failure = failed_.find(utf8_text(name));
  const fs::path path = case_path(folder_, name);
  if (failure != failed_.end() && !fs::exists(path)) throw Error(failure->second);
  PreparedFile file(path);
  if (file.settings() != settings_) {
    throw Error(concat(path.string(), ": was made with other settings"));
  }
  file.check_fits(channels_, classes_);
  auto item = file.item();
  item.name = name;  // the header holds it as UTF-8, which it need not be
  return item;
}

}  // namespace segmamba::data
