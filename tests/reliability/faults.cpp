#include "faults.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba::test {
namespace {

constexpr const char* kTraceName = "calls.txt";

}  // namespace

std::string Call::known_name() const {
  const std::string file = fs::path(path).filename().string();
  if (!starts_with(file, ".segmamba-tmp-")) return file;
  auto parts = split(file, '-');  // ".segmamba", "tmp", host, process, start, number, name
  parts.erase(parts.begin(), parts.begin() + 6);
  return join(parts, "-");
}

bool Call::is_in_folder(const std::string& folder) const {
  return path.find("/" + folder + "/") != std::string::npos || ends_with(path, "/" + folder);
}

bool Call::is_below(const fs::path& folder) const {
  return path == folder.string() || starts_with(path, folder.string() + "/");
}

std::int64_t number_from_environment(const char* name, std::int64_t otherwise) {
  const char* const text = std::getenv(name);
  if (text == nullptr) return otherwise;
  return to_integer(text).value_or(otherwise);
}

std::vector<std::size_t> fault_places(const std::string& command, std::size_t calls) {
  const auto wanted = static_cast<std::size_t>(number_from_environment("SEGMAMBA_FAULTS", 1));
  const std::size_t count = wanted == 0 ? calls : std::min(wanted, calls);
  std::size_t first = command.size() * 7;
  const auto from = number_from_environment("SEGMAMBA_FAULTS_FROM", 0);
  if (from > 0) first = static_cast<std::size_t>(from) - 1;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < count; ++i) places.push_back((first + i * calls / count) % calls);
  return places;
}

FaultyPrograms::Child::Child(fs::path folder, pid_t id) : folder_(std::move(folder)), id_(id) {}

FaultyPrograms::Child::~Child() {
  if (id_ == 0) return;
  send(SIGKILL);
  ::waitpid(id_, nullptr, 0);
}

void FaultyPrograms::Child::send(int signal) const { ::kill(id_, signal); }

bool FaultyPrograms::Child::stops() const {
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(id_), &info, WEXITED | WSTOPPED | WNOWAIT);
  return info.si_code == CLD_STOPPED;
}

Outcome FaultyPrograms::Child::finish() {
  return FaultyPrograms::finish(folder_, std::exchange(id_, 0));
}

fs::path FaultyPrograms::new_folder(const std::string& name) const {
  const auto folder = folder_.path() / name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

pid_t FaultyPrograms::start_with(const fs::path& folder, const std::vector<std::string>& words,
                                 const Fault& fault) const {
  const auto trace = folder / kTraceName;
  fs::remove(trace);
  const std::vector<std::pair<const char*, std::string>> variables = {
      {"LD_PRELOAD", SEGMAMBA_FAULT_SHIM},
      {"SEGMAMBA_FAULT_WRITES", fault.writes.string()},
      {"SEGMAMBA_FAULT_READS", fault.reads.string()},
      {"SEGMAMBA_FAULT_TRACE", trace.string()},
      {"SEGMAMBA_FAULT_AT", concat(fault.at)},
      {"SEGMAMBA_FAULT_TIMES", fault.times},
      {"SEGMAMBA_FAULT_ACTION", fault.action}};
  return start(folder, words, [&] {
    for (const auto& [name, value] : variables) ::setenv(name, value.c_str(), 1);
  });
}

Outcome FaultyPrograms::run_with(const fs::path& folder, const std::vector<std::string>& words,
                                 const Fault& fault) const {
  return finish(folder, start_with(folder, words, fault));
}

std::vector<Call> FaultyPrograms::calls(const fs::path& folder) {
  std::vector<Call> all;
  const auto trace = folder / kTraceName;
  if (!fs::exists(trace)) return all;
  for (const auto& line : split(read_file(trace), '\n')) {
    const auto cut = line.find(' ');
    if (cut == std::string::npos) continue;
    const std::size_t begin = line.front() == '!' ? 1 : 0;
    all.push_back({line.substr(begin, cut - begin), line.substr(cut + 1), begin == 1});
  }
  return all;
}

std::pair<Call, Call> FaultyPrograms::hit_calls(const fs::path& folder) {
  Call before;
  for (auto& call : calls(folder)) {
    if (call.is_hit) return {before, call};
    before = call;
  }
  ADD_FAILURE() << "no call was hit";
  return {};
}

}  // namespace segmamba::test
