#pragma once

#include <string>

namespace segmamba {

// "0.1.0", from the project line of the top CMakeLists.txt.
std::string version();

// The commit that was built, as "36680fe9da2e", with "-dirty" behind where tracked files had been
// changed; "unknown" where the source was no clone.
std::string commit();

}  // namespace segmamba
