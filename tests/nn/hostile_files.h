#pragma once
// Weight files byte by byte, to say what no writer says.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace segmamba::test {

template <class Unsigned>
std::string little_endian(Unsigned value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) {
    bytes += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xff);
  }
  return bytes;
}
inline std::string u16(std::uint64_t value) {
  return little_endian(static_cast<std::uint16_t>(value));
}
inline std::string u32(std::uint64_t value) {
  return little_endian(static_cast<std::uint32_t>(value));
}
inline std::string u64(std::uint64_t value) { return little_endian(value); }

// An entry of a zip archive as its directory tells it; what is not set is true.
struct Entry {
  std::string name, content = {};
  std::uint16_t method = 0, flags = 0;
  std::uint32_t checksum = 0;  // 0: none, as torch.save can be told to write
  std::optional<std::uint64_t> size = {}, header = {};
  std::string extra = {};
};

struct Zip {
  std::vector<Entry> entries;
  std::optional<std::uint64_t> count = {}, directory = {}, directory_bytes = {};
  std::string before_end = {};  // such as 64-bit end records

  std::string bytes() const {
    std::string file, list;
    for (const auto& entry : entries) {
      const auto place = entry.header.value_or(file.size());
      const auto size = u32(entry.size.value_or(entry.content.size()));
      const auto facts = u16(entry.flags) + u16(entry.method) + u32(0) + u32(entry.checksum) +
                         size + size + u16(entry.name.size());
      if (!entry.header) {
        file += "PK\3\4" + u16(20) + facts + u16(0) + entry.name + entry.content;
      }
      list += "PK\1\2" + u16(20) + u16(20) + facts + u16(entry.extra.size()) + u16(0) + u16(0) +
              u16(0) + u32(0) + u32(place) + entry.name + entry.extra;
    }
    const auto start = file.size();
    return file + list + before_end + "PK\5\6" + u16(0) + u16(0) +
           u16(count.value_or(entries.size())) + u16(count.value_or(entries.size())) +
           u32(directory_bytes.value_or(list.size())) + u32(directory.value_or(start)) + u16(0);
  }
};

inline std::string pickled(const std::string& text) {
  return std::string("X") + u32(text.size()) + text;
}

inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

// A dict with one float tensor of two elements, under "weight".
inline std::string sound_pickle() {
  return "\x80\2}" + pickled("weight") + global("torch._utils", "_rebuild_tensor_v2") + "((" +
         pickled("storage") + global("torch", "FloatStorage") + pickled("0") + pickled("cpu") +
         "K\2tQK" + std::string(1, '\0') + "K\2\x85K\1\x85\x89}tRs.";
}

inline Zip sound_zip(const std::string& pickle = sound_pickle()) {
  return {.entries = {{.name = "x/data.pkl", .content = pickle},
                      {.name = "x/data/0", .content = std::string(8, '\0')},
                      {.name = "x/version", .content = "3\n"}}};
}

inline std::string repeated(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

}  // namespace segmamba::test
