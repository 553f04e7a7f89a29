// Compiled for the compiler's default; see kernels/CMakeLists.txt.
#define SEGMAMBA_SET baseline
#define SEGMAMBA_SET_NAME "baseline"
#include "volume_lanes_impl.h"
