// Who this process is, as its starter says in environment variables.

#include <cstdlib>
#include <string>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/distributed.h"

namespace segmamba::engine {
namespace {

// Empty where it is not set.
std::string value_of(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value != nullptr ? value : "";
}

bool is_set(const std::string& name) { return !value_of(name).empty(); }

// `starter` set the other variables that go with this one.
std::string required(const std::string& name, const std::string& starter) {
  if (!is_set(name)) {
    throw Error(concat("the environment variable ", name, " is missing beside those of ", starter,
                       ": start all ranks with ", starter, ", or unset its variables"));
  }
  return value_of(name);
}

std::int64_t number(const std::string& name, const std::string& text, std::int64_t smallest,
                    std::int64_t largest) {
  const auto value = to_integer(text);
  if (!value || *value < smallest || *value > largest) {
    throw Error(concat("the environment variable ", name, " is '", text,
                       "', not a whole number from ", smallest, " to ", largest));
  }
  return *value;
}

constexpr std::int64_t kMostRanks = 1 << 20, kLargestPort = 65535;

std::int64_t required_number(const std::string& name, const std::string& starter,
                             std::int64_t smallest, std::int64_t largest) {
  return number(name, required(name, starter), smallest, largest);
}

RankInfo from_torchrun() {
  const std::string starter = "torchrun";
  RankInfo info;
  info.size = required_number("WORLD_SIZE", starter, 1, kMostRanks);
  info.rank = required_number("RANK", starter, 0, info.size - 1);
  if (info.size == 1) return info;
  info.local_rank = required_number("LOCAL_RANK", starter, 0, info.size - 1);
  info.local_size = required_number("LOCAL_WORLD_SIZE", starter, 1, info.size);
  info.address = required("MASTER_ADDR", starter);
  info.port = required_number("MASTER_PORT", starter, 1, kLargestPort);
  info.store_is_external = value_of("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (is_set("TORCHELASTIC_RESTART_COUNT")) {
    info.attempt = required_number("TORCHELASTIC_RESTART_COUNT", starter, 0, std::int64_t{1} << 40);
  }
  return info;
}

// "gpu[003-006,9],login" is "gpu003": the first number of every bracket.
std::string first_host(const std::string& list) {
  std::string host;
  for (std::size_t i = 0; i < list.size() && list[i] != ','; ++i) {
    if (list[i] != '[') {
      host += list[i];
      continue;
    }
    const auto stop = list.find_first_of(",-]", i);
    host += list.substr(i + 1, stop - i - 1);
    i = list.find(']', i);
    if (i == std::string::npos) break;
  }
  return host;
}

// Below the ports that Linux hands out by itself (32768 and up); jobs that share a machine differ
// in the last digits of their number.
std::int64_t port_of_job(std::int64_t job) { return 20000 + job % 10000; }

RankInfo from_srun() {
  const std::string starter = "srun";
  RankInfo info;
  info.size = required_number("SLURM_STEP_NUM_TASKS", starter, 1, kMostRanks);
  info.rank = required_number("SLURM_PROCID", starter, 0, info.size - 1);
  if (info.size == 1) return info;
  info.local_rank = required_number("SLURM_LOCALID", starter, 0, info.size - 1);
  // Task 0 runs on the first host. (SLURM_LAUNCH_NODE_IPADDR is where srun was called, which may be
  // a login node.)
  info.address = is_set("MASTER_ADDR") ? value_of("MASTER_ADDR")
                                       : first_host(required("SLURM_STEP_NODELIST", starter));
  info.port = is_set("MASTER_PORT")
                  ? required_number("MASTER_PORT", starter, 1, kLargestPort)
                  : port_of_job(required_number("SLURM_JOB_ID", starter, 0, std::int64_t{1} << 40));
  return info;
}

}  // namespace

RankInfo rank_from_environment() {
  if (is_set("RANK") || is_set("WORLD_SIZE")) return from_torchrun();
  // A batch script has SLURM_PROCID as well, but is no step of its own.
  if (is_set("SLURM_STEP_NUM_TASKS")) return from_srun();
  if (is_set("SLURM_PROCID") && is_set("SLURM_NTASKS") && value_of("SLURM_NTASKS") != "1") {
    log_warning(concat("this SLURM job has ", value_of("SLURM_NTASKS"),
                       " tasks, but srun did not start this program: it runs on one rank"));
  }
  return {};
}

}  // namespace segmamba::engine
