// Compiled for AVX2, FMA and F16C; see kernels/CMakeLists.txt.
#define SEGMAMBA_SET avx2
#define SEGMAMBA_SET_NAME "avx2"
#include "augment_cpu_impl.h"
