// Compiled for AVX2 and FMA; see kernels/CMakeLists.txt.
#define SEGMAMBA_SET avx2
#define SEGMAMBA_SET_NAME "avx2"
#include "volume_lanes_impl.h"
