// Compiled for the compiler's default; see kernels/CMakeLists.txt.
#define SEGMAMBA_SET baseline
#define SEGMAMBA_SET_NAME "baseline"
#include "augment_cpu_impl.h"
