#pragma once

#include <string>

namespace segmamba {

// "0.1.0", from the project line of the top CMakeLists.txt.
std::string version();

}  // namespace segmamba
