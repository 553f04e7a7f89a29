#include "zip_reader.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

// Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 and 4.5.

namespace segmamba::nn {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50,
                        kDirectoryEnd = 0x06054b50, kDirectoryEnd64 = 0x06064b50,
                        kLocator64 = 0x07064b50;
constexpr std::uint64_t kLocalHeaderBytes = 30, kDirectoryEntryBytes = 46, kDirectoryEndBytes = 22,
                        kDirectoryEnd64Bytes = 56, kLocator64Bytes = 20, kMaxCommentBytes = 65535;
// A thousand tensors and their optimizer's state are some thousand entries of a hundred bytes.
constexpr std::uint64_t kMaxDirectoryBytes = 64 << 20;
constexpr std::uint32_t kIn64 = 0xffffffff;  // the number stands in the 64-bit field

template <class Unsigned>
Unsigned number(const std::string& bytes, std::size_t place) {
  Unsigned value = 0;
  for (std::size_t i = sizeof(Unsigned); i-- > 0;) {
    value = static_cast<Unsigned>(value << 8 | static_cast<unsigned char>(bytes.at(place + i)));
  }
  return value;
}
std::uint32_t number16(const std::string& bytes, std::size_t place) {
  return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes.at(place)) |
                                    static_cast<unsigned char>(bytes.at(place + 1)) << 8);
}
std::uint32_t number32(const std::string& bytes, std::size_t place) {
  return number<std::uint32_t>(bytes, place);
}
std::uint64_t number64(const std::string& bytes, std::size_t place) {
  return number<std::uint64_t>(bytes, place);
}

// CRC-32 of zip (polynomial 0xedb88320), eight bytes at a time.
class Crc32 {
 public:
  Crc32() {
    for (std::uint32_t i = 0; i < 256; ++i) {
      auto value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0xedb88320U : 0U);
      tables_[0][i] = value;
    }
    for (std::size_t table = 1; table < 8; ++table) {
      for (std::size_t i = 0; i < 256; ++i) {
        const auto before = tables_[table - 1][i];
        tables_[table][i] = before >> 8 ^ tables_[0][before & 0xff];
      }
    }
  }

  std::uint32_t operator()(const char* bytes, std::uint64_t count) const {
    std::uint32_t crc = 0xffffffff;
    for (; count >= 8; count -= 8, bytes += 8) {
      std::uint32_t low = 0, high = 0;
      std::memcpy(&low, bytes, 4);
      std::memcpy(&high, bytes + 4, 4);
      low ^= crc;
      crc = tables_[7][low & 0xff] ^ tables_[6][low >> 8 & 0xff] ^ tables_[5][low >> 16 & 0xff] ^
            tables_[4][low >> 24] ^ tables_[3][high & 0xff] ^ tables_[2][high >> 8 & 0xff] ^
            tables_[1][high >> 16 & 0xff] ^ tables_[0][high >> 24];
    }
    for (; count > 0; --count, ++bytes) {
      crc = crc >> 8 ^ tables_[0][(crc ^ static_cast<unsigned char>(*bytes)) & 0xff];
    }
    return ~crc;
  }

 private:
  std::array<std::array<std::uint32_t, 256>, 8> tables_{};
};

[[noreturn]] void damaged(const std::string& what) { throw Error("damaged zip archive: " + what); }

}  // namespace

ZipReader::ZipReader(const RandomAccessFile& file) : file_(file) {
  auto entries = read_directory();
  locate_data(entries, directory_);
  // The folder is that of the first name; a file of torch.save has no others.
  std::string folder;
  if (!entries.empty()) folder = entries.front().name.substr(0, entries.front().name.find('/') + 1);
  for (auto& entry : entries) {
    if (!starts_with(entry.name, folder)) continue;
    auto name = entry.name.substr(folder.size());
    if (!entries_.emplace(name, std::move(entry)).second) damaged("holds " + name + " twice");
  }
}

void ZipReader::read_at(std::uint64_t place, void* destination, std::uint64_t bytes) const {
  if (!file_.read_at(place, destination, bytes)) damaged("it ends too early");
}

std::string ZipReader::read_at(std::uint64_t place, std::uint64_t bytes) const {
  if (bytes > file_.size()) damaged("it ends too early");
  std::string text(bytes, '\0');
  read_at(place, text.data(), bytes);
  return text;
}

std::vector<ZipReader::Entry> ZipReader::read_directory() {
  // The end record is the last one that reaches to the end of the file with its comment.
  const auto tail_bytes = std::min(file_.size(), kDirectoryEndBytes + kMaxCommentBytes);
  const auto tail_place = file_.size() - tail_bytes;
  const auto tail = read_at(tail_place, tail_bytes);
  std::uint64_t end = 0;
  bool found = false;
  for (std::uint64_t i = tail_bytes; i-- > 0 && !found;) {
    if (i + kDirectoryEndBytes > tail_bytes || number32(tail, i) != kDirectoryEnd) continue;
    found = i + kDirectoryEndBytes + number16(tail, i + 20) == tail_bytes;
    end = i;
  }
  if (!found) throw Error("not a zip archive, or truncated");
  std::uint64_t count = number16(tail, end + 10), bytes = number32(tail, end + 12);
  directory_ = number32(tail, end + 16);
  std::uint64_t limit = tail_place + end;  // what follows the directory
  const bool needs_64 = count == 0xffff || bytes == kIn64 || directory_ == kIn64;
  const bool has_64 = limit >= kLocator64Bytes + kDirectoryEnd64Bytes &&
                      number32(read_at(limit - kLocator64Bytes, 4), 0) == kLocator64;
  if (has_64) {
    const auto record_place = number64(read_at(limit - kLocator64Bytes, kLocator64Bytes), 8);
    if (record_place > limit - kLocator64Bytes - kDirectoryEnd64Bytes) {
      damaged("its 64-bit end record lies outside");
    }
    const auto record = read_at(record_place, kDirectoryEnd64Bytes);
    if (number32(record, 0) != kDirectoryEnd64) damaged("its 64-bit end record is missing");
    const auto agree = [&](std::uint64_t narrow, std::uint64_t unknown, std::uint64_t wide) {
      if (narrow != unknown && narrow != wide) damaged("its end records contradict each other");
      return wide;
    };
    count = agree(count, 0xffff, number64(record, 32));
    bytes = agree(bytes, kIn64, number64(record, 40));
    directory_ = agree(directory_, kIn64, number64(record, 48));
    limit = record_place;
  } else if (needs_64) {
    damaged("its 64-bit end record is missing");
  }
  if (bytes > kMaxDirectoryBytes) damaged("its directory is too large");
  if (directory_ > limit || bytes > limit - directory_) damaged("its directory lies outside");
  if (count > bytes / kDirectoryEntryBytes) {
    damaged(concat("its directory is too small for ", count, " entries"));
  }

  const auto directory = read_at(directory_, bytes);
  std::vector<Entry> entries;
  std::uint64_t place = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (place + kDirectoryEntryBytes > bytes || number32(directory, place) != kDirectoryEntry) {
      damaged("its directory ends too early");
    }
    const auto flags = number16(directory, place + 8), method = number16(directory, place + 10);
    const std::uint64_t name_bytes = number16(directory, place + 28),
                        extra_bytes = number16(directory, place + 30),
                        comment_bytes = number16(directory, place + 32);
    const auto name_place = place + kDirectoryEntryBytes;
    if (name_place + name_bytes + extra_bytes + comment_bytes > bytes) {
      damaged("its directory ends too early");
    }
    Entry entry;
    entry.name = directory.substr(name_place, name_bytes);
    entry.checksum = number32(directory, place + 16);
    std::uint64_t stored = number32(directory, place + 20);
    entry.bytes = number32(directory, place + 24);
    entry.header = number32(directory, place + 42);
    if ((flags & 1) != 0) damaged(entry.name + " is encrypted");
    if (method != 0) {
      damaged(entry.name + " is compressed, which torch.save does not do");
    }
    // The fields that are too narrow stand in an extra field, in this order.
    auto extra = name_place + name_bytes;
    const auto extra_end = extra + extra_bytes;
    while (extra + 4 <= extra_end) {
      const auto id = number16(directory, extra);
      const std::uint64_t field_end = extra + 4 + number16(directory, extra + 2);
      if (field_end > extra_end) damaged("an extra field of " + entry.name + " is too long");
      auto field = extra + 4;
      extra = field_end;
      if (id != 1) continue;
      for (auto* value : {&entry.bytes, &stored, &entry.header}) {
        if (*value != kIn64) continue;
        if (field + 8 > field_end) damaged("a 64-bit size of " + entry.name + " is missing");
        *value = number64(directory, field);
        field += 8;
      }
    }
    if (stored != entry.bytes) damaged(entry.name + " has two sizes");
    entries.push_back(std::move(entry));
    place = name_place + name_bytes + extra_bytes + comment_bytes;
  }
  return entries;
}

void ZipReader::locate_data(std::vector<Entry>& entries, std::uint64_t directory) const {
  std::vector<Entry*> in_order;
  for (auto& entry : entries) in_order.push_back(&entry);
  std::sort(in_order.begin(), in_order.end(),
            [](const auto* a, const auto* b) { return a->header < b->header; });
  std::uint64_t end = 0;
  for (auto* entry : in_order) {
    if (entry->header < end) damaged(entry->name + " overlaps another entry");
    if (entry->header > directory || directory - entry->header < kLocalHeaderBytes) {
      damaged(entry->name + " lies outside the archive");
    }
    const auto header = read_at(entry->header, kLocalHeaderBytes);
    if (number32(header, 0) != kLocalHeader) damaged(entry->name + " has no header");
    if (number16(header, 8) != 0) damaged(entry->name + " is compressed");
    const std::uint64_t name_bytes = number16(header, 26);
    entry->data = entry->header + kLocalHeaderBytes + name_bytes + number16(header, 28);
    if (entry->data > directory || entry->bytes > directory - entry->data) {
      damaged(entry->name + " lies outside the archive");
    }
    if (read_at(entry->header + kLocalHeaderBytes, name_bytes) != entry->name) {
      damaged(entry->name + " has another name in its header");
    }
    end = entry->data + entry->bytes;
  }
}

const ZipReader::Entry& ZipReader::find(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw Error("holds no " + name);
  return found->second;
}

std::uint64_t ZipReader::size(const std::string& name) const { return find(name).bytes; }

void ZipReader::read(const std::string& name, void* destination) const {
  static const Crc32 checksum;
  const auto& entry = find(name);
  read_at(entry.data, destination, entry.bytes);
  // torch.save leaves it 0 where it was told not to compute any.
  if (entry.checksum != 0 &&
      checksum(static_cast<const char*>(destination), entry.bytes) != entry.checksum) {
    damaged("the checksum of " + name + " is wrong");
  }
}

std::string ZipReader::read(const std::string& name) const {
  std::string content(size(name), '\0');
  read(name, content.data());
  return content;
}

}  // namespace segmamba::nn
