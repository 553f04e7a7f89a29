#include "segmamba/engine/environment.h"

#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <sys/utsname.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <fstream>
#include <thread>
#include <utility>

#ifdef SEGMAMBA_WITH_CUDA
#include <cuda_runtime_api.h>
#include <torch/csrc/cuda/nccl.h>
#endif

#include "segmamba/core/error.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::engine {
namespace {

// The value behind `key` in lines of "key : value" or "key=value"; "" where there is none.
std::string value_in(const char* file, const std::string& key, char separator) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    const auto end = line.find(separator);
    if (end == std::string::npos || trim(line.substr(0, end)) != key) continue;
    const std::string value = trim(line.substr(end + 1));
    const bool quoted = value.size() > 1 && value.front() == '"' && value.back() == '"';
    return quoted ? value.substr(1, value.size() - 2) : value;
  }
  return "";
}

void add_known(Json& object, const char* key, const std::string& value) {
  if (!value.empty()) object[key] = value;
}

std::string compiler() {
#ifdef __clang__
  return __VERSION__;  // "Clang 18.1.3 ..."
#else
  return "GCC " __VERSION__;
#endif
}

#ifdef SEGMAMBA_WITH_CUDA
// CUDA and cuDNN write 13.0 as 13000 or, since cuDNN 9, 9.10.2 as 91002.
std::string cuda_version(int version) {
  return version == 0 ? "" : concat(version / 1000, ".", version % 1000 / 10);
}

std::string cudnn_version(long version) {
  const long major = version >= 90000 ? 10000 : 1000;
  return concat(version / major, ".", version % major / 100, ".", version % 100);
}

// Four numbers of 16 bits (torch/csrc/cuda/nccl.cpp): major, minor, patch.
std::string nccl_version(std::uint64_t version) {
  return concat(version >> 32, ".", version >> 16 & 0xffff, ".", version & 0xffff);
}

Json gpu_libraries() {
  Json libraries = Json::object();
  int runtime = 0, driver = 0;
  if (cudaRuntimeGetVersion(&runtime) == cudaSuccess) {
    add_known(libraries, "runtime", cuda_version(runtime));
  }
  // The newest CUDA that the driver can run; 0 where there is no driver.
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return libraries;
  add_known(libraries, "driver", cuda_version(driver));
  // Loads cuDNN, which ends the process where memory does not suffice for it: not without need.
  const auto& hooks = at::detail::getCUDAHooks();
  if (hooks.hasCuDNN()) libraries["cudnn"] = cudnn_version(hooks.versionRuntimeCuDNN());
  libraries["nccl"] = nccl_version(torch::cuda::nccl::version());
  return libraries;
}

Json gpus() {
  Json list = Json::array();
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) continue;
    list.push_back({{"name", std::string(properties.name)},
                    {"memory", format_bytes(properties.totalGlobalMem)},
                    {"compute_capability", concat(properties.major, ".", properties.minor)}});
  }
  return list;
}
#endif

// The list of starts is nested 4 levels deep, with room for what other versions add. What is nested
// deeper would take many times its text when it is written, indented, again.
constexpr int kMaxDepth = 6;

bool is_deeper_than(int levels, const Json& value) {
  if (!value.is_structured()) return false;
  return levels == 0 || std::any_of(value.begin(), value.end(), [&](const Json& item) {
           return is_deeper_than(levels - 1, item);
         });
}

Json read_starts(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return Json::array();
  Json file = read_json(path);
  if (!file.is_object() || !file.contains("starts") || !file["starts"].is_array()) {
    throw Error(concat(path.string(), ": has no list 'starts'; remove or mend the file"));
  }
  if (is_deeper_than(kMaxDepth, file["starts"])) {
    throw Error(concat(path.string(), ": 'starts' is nested deeper than ", kMaxDepth,
                       "; remove or mend the file"));
  }
  return std::move(file["starts"]);  // a large list is not there twice
}

// Texts out of files of any version.
std::string text_at(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_string()) return "";
  return object[key];
}

}  // namespace

Json describe_environment(const RunStart& start) {
  Json value = Json::object();
  value["time"] = now_utc();
  value["program"] = {{"version", version()}, {"commit", commit()}, {"compiler", compiler()}};
  value["command_line"] = start.command_line;
  value["folder"] = std::filesystem::current_path().string();
  value["device"] = start.device;
  value["ranks"] = start.ranks;
  value["libtorch"] = TORCH_VERSION;
#ifdef SEGMAMBA_WITH_CUDA
  value["cuda"] = gpu_libraries();
  value["gpus"] = gpus();
#endif
  Json processor = Json::object();
  add_known(processor, "name", value_in("/proc/cpuinfo", "model name", ':'));
  processor["processors"] = std::thread::hardware_concurrency();
  processor["threads"] = thread_count();
  processor["threads_of_libtorch"] = at::get_num_threads();
  value["cpu"] = processor;
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGE_SIZE);
  if (pages > 0 && page > 0) {
    value["memory"] =
        format_bytes(static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page));
  }
  utsname system{};
  if (::uname(&system) == 0) {
    value["host"] = system.nodename;
    add_known(value, "operating_system", value_in("/etc/os-release", "PRETTY_NAME", '='));
    value["kernel"] = concat(system.sysname, " ", system.release, " ", system.machine);
  }
  return value;
}

void record_start(const std::filesystem::path& environment, const RunStart& start) {
  Json file = Json::object();
  file["starts"] = read_starts(environment);
  file["starts"].push_back(describe_environment(start));
  write_json(environment, file);
}

Json last_start(const std::filesystem::path& environment) {
  Json starts = read_starts(environment);
  return starts.empty() ? Json() : std::move(starts.back());
}

std::string now_utc() {
  using std::chrono::milliseconds;
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto thousandths =
      std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char date[32], text[40];
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text, sizeof text, "%s.%03dZ", date, static_cast<int>(thousandths));
  return text;
}

std::string device_text(const Json& start) {
  const std::string device = text_at(start, "device");
  std::string name;
  if (starts_with(device, "cuda")) {
    std::size_t index = 0;
    if (const auto colon = device.find(':'); colon != std::string::npos) {
      std::from_chars(device.data() + colon + 1, device.data() + device.size(), index);
    }
    if (start.contains("gpus") && start["gpus"].is_array() && index < start["gpus"].size()) {
      name = text_at(start["gpus"][index], "name");
    }
  } else if (start.is_object() && start.contains("cpu")) {
    name = text_at(start["cpu"], "name");
  }
  return name.empty() ? device : concat(device, ", ", name);
}

std::string version_text(const Json& start) {
  if (!start.is_object() || !start.contains("program")) return "";
  const std::string commit = text_at(start["program"], "commit");
  return concat(text_at(start["program"], "version"), commit.empty() ? "" : " (" + commit + ")");
}

}  // namespace segmamba::engine
