#include "segmamba/nn/upstream_weights.h"
#include <gmock/gmock.h>
