#pragma once
// Where and with what a run was made. This header needs no LibTorch.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/core/json.h"

namespace segmamba::engine {

struct RunStart {
  std::vector<std::string> command_line;  // program and arguments
  std::string device;                     // "cpu", "cuda:0"
  std::int64_t ranks = 1;
};

// What can be found out about this process: version and commit of the program, compiler, LibTorch,
// CUDA, cuDNN and NCCL (of builds with CUDA), processor, threads, memory, GPUs, host, operating
// system, command line, start time (UTC) and working folder. What is not to be known is left out.
Json describe_environment(const RunStart& start);

// Adds that to the list `starts` of environment.json: a resumed run may have another program or
// another machine, and each start stays on record. Atomic. Throws Error where the file is damaged
// or cannot be written.
void record_start(const std::filesystem::path& environment, const RunStart& start);

// The last start; null where there is none.
Json last_start(const std::filesystem::path& environment);

// "cuda:0, NVIDIA H100 80GB HBM3" or "cpu, Intel(R) Xeon(R) ..."; "" for null.
std::string device_text(const Json& start);
// "0.1.0 (36680fe9da2e)"; "" for null.
std::string version_text(const Json& start);

// "2026-11-26T01:20:52.123Z" (ISO 8601).
std::string now_utc();

}  // namespace segmamba::engine
