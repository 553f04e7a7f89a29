#pragma once
// What a reader sees of a folder into which a program writes.

#include <filesystem>
#include <map>
#include <string>

namespace segmamba::test {

// Reads every file that has its final name to its end, as its kind wants it: throws what the reader
// throws for one that is not whole. Of files that grow row by row, the last row may be missing its
// end. Files whose name begins with a dot are nobody's business.
void read_whole(const std::filesystem::path& folder);

// Temporary files of killed processes are hidden, and may be half.
enum class Hidden { kCounts, kIsLeftOut };

// What each file holds, apart from times and what depends on them, by its name; the files of
// TensorBoard, whose names are times, as one.
std::map<std::string, std::string> contents(const std::filesystem::path& folder,
                                            Hidden hidden = Hidden::kCounts);

// The names in which two of them differ.
std::string difference(const std::map<std::string, std::string>& found,
                       const std::map<std::string, std::string>& expected);

}  // namespace segmamba::test
