#include "cpu_lanes.h"

#include <atomic>

namespace segmamba::kernels {
namespace {

#if defined(SEGMAMBA_X86_LANES)
bool has_f16c() {
#if defined(__clang__) && __clang_major__ < 19
  return true;  // no word for it there; every processor with AVX2 has it
#else
  return __builtin_cpu_supports("f16c");
#endif
}
#endif

bool is_supported(InstructionSet set) {
#if defined(SEGMAMBA_X86_LANES)
  switch (set) {
    case InstructionSet::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("fma") && has_f16c();
    case InstructionSet::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case InstructionSet::kBaseline:
      return true;
  }
#endif
  return set == InstructionSet::kBaseline;
}

std::atomic<InstructionSet>& chosen() {
  static std::atomic<InstructionSet> set{
      is_supported(InstructionSet::kAvx512) ? InstructionSet::kAvx512
      : is_supported(InstructionSet::kAvx2) ? InstructionSet::kAvx2
                                            : InstructionSet::kBaseline};
  return set;
}

}  // namespace

InstructionSet instruction_set() { return chosen(); }

bool set_instruction_set(InstructionSet set) {
  if (!is_supported(set)) return false;
  chosen() = set;
  return true;
}

template <class T>
const CpuLanes<T>& cpu_lanes() {
#if defined(SEGMAMBA_X86_LANES)
  if (instruction_set() == InstructionSet::kAvx512) return avx512::cpu_lanes<T>();
  if (instruction_set() == InstructionSet::kAvx2) return avx2::cpu_lanes<T>();
#endif
  return baseline::cpu_lanes<T>();
}

template const CpuLanes<float>& cpu_lanes<float>();
template const CpuLanes<double>& cpu_lanes<double>();
template const CpuLanes<BFloat16>& cpu_lanes<BFloat16>();
template const CpuLanes<Float16>& cpu_lanes<Float16>();

}  // namespace segmamba::kernels
