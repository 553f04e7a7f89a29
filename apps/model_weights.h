#pragma once
// segmamba-model import and export: weights of the originals in and out.

#include "app_main.h"

namespace segmamba::apps {

// Adds both commands; their options live as long as the program.
void add_weight_commands(CommandLine& line);

}  // namespace segmamba::apps
