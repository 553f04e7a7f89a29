#include "segmamba/core/folder.h"

#include <algorithm>
#include <system_error>

#include "fail_reading.h"

namespace segmamba {
namespace fs = std::filesystem;

std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::vector<fs::directory_entry> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    entries.push_back(*entry);
  }
  if (error) fail_reading(folder, error.value());
  std::sort(entries.begin(), entries.end());
  return entries;
}

}  // namespace segmamba
