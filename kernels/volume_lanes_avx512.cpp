// Compiled for AVX-512 (F, BW, DQ, VL); see kernels/CMakeLists.txt.
#define SEGMAMBA_SET avx512
#define SEGMAMBA_SET_NAME "avx512"
#include "volume_lanes_impl.h"
