#pragma once
// NIfTI-1 files as bytes, made and read without the code under test. Offsets: nifti1.h.

#include <zlib.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace segmamba::test {

class NiftiBytes {
 public:
  // An int16 volume of 1 mm voxels whose voxels are 0, 1, 2, ...; sform and qform with code 1.
  explicit NiftiBytes(std::array<std::int16_t, 3> size) : bytes_(352, '\0') {
    put<std::int32_t>(0, 348);
    put<std::int16_t>(40, 3);
    for (std::size_t i = 0; i < 7; ++i) put<std::int16_t>(42 + 2 * i, i < 3 ? size[i] : 1);
    for (std::size_t i = 0; i < 4; ++i) put<float>(76 + 4 * i, 1);
    set_type(4, 16);
    put<float>(108, 352);
    put<float>(112, 1);
    bytes_[123] = 2;
    put<std::int16_t>(252, 1);
    put<std::int16_t>(254, 1);
    for (std::size_t i = 0; i < 3; ++i) put<float>(280 + 20 * i, 1);
    bytes_.replace(344, 3, "n+1");
    const int count = size[0] * size[1] * size[2];
    for (int i = 0; i < count; ++i) append(static_cast<std::int16_t>(i));
  }
  explicit NiftiBytes(const std::filesystem::path& path) {
    gzFile file = gzopen(path.c_str(), "rb");
    std::array<char, 4096> buffer{};
    while (const int count = gzread(file, buffer.data(), buffer.size())) {
      if (count < 0) throw std::runtime_error("gzread failed");
      bytes_.append(buffer.data(), static_cast<std::size_t>(count));
    }
    gzclose(file);
  }

  template <class T>
  void put(std::size_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof(T));
  }
  template <class T>
  T get(std::size_t offset) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  template <class T>
  void append(T value) {
    const auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
    bytes_.append(raw.begin(), raw.end());
  }
  void set_type(std::int16_t code, std::int16_t bits) {
    put(70, code);
    put(72, bits);
  }
  // Replaces the voxels.
  template <class T>
  void set_voxels(const std::vector<T>& voxels) {
    bytes_.resize(352);
    for (const T value : voxels) append(value);
  }
  void set_sform(const std::array<float, 12>& rows) {
    for (std::size_t i = 0; i < 12; ++i) put(280 + 4 * i, rows[i]);
  }

  std::string& bytes() { return bytes_; }
  const std::string& bytes() const { return bytes_; }

  void write(const std::filesystem::path& path) const {
    std::ofstream(path, std::ios::binary) << bytes_;
  }
  void write_gzip(const std::filesystem::path& path) const {
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, bytes_.data(), static_cast<unsigned>(bytes_.size()));
    gzclose(file);
  }

 private:
  std::string bytes_;
};

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace segmamba::test
