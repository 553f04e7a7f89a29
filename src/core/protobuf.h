#pragma once
// Writes messages of Protocol Buffers: https://protobuf.dev/programming-guides/encoding.

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace segmamba {

// Numbers are those of the fields in the message's .proto file. Fields that are not added have
// their default values, so that zeros need not be written.
class ProtobufMessage {
 public:
  // Of the types int32, int64, uint64, bool and enum.
  ProtobufMessage& add_integer(int field, std::int64_t value) {
    put_tag(field, kVarint);
    put_varint(static_cast<std::uint64_t>(value));
    return *this;
  }
  ProtobufMessage& add_double(int field, double value) {
    put_tag(field, kFixed64);
    put_little_endian(std::bit_cast<std::uint64_t>(value), 8);
    return *this;
  }
  ProtobufMessage& add_float(int field, float value) {
    put_tag(field, kFixed32);
    put_little_endian(std::bit_cast<std::uint32_t>(value), 4);
    return *this;
  }
  ProtobufMessage& add_bytes(int field, std::string_view value) {
    put_tag(field, kLengthDelimited);
    put_varint(value.size());
    bytes_ += value;
    return *this;
  }
  ProtobufMessage& add_message(int field, const ProtobufMessage& value) {
    return add_bytes(field, value.bytes());
  }

  const std::string& bytes() const { return bytes_; }

 private:
  enum WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

  void put_tag(int field, WireType type) {
    put_varint(static_cast<std::uint64_t>(field) << 3 | type);
  }
  // Seven bits a byte, the low ones first; the high bit says that more follow.
  void put_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  void put_little_endian(std::uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_ += static_cast<char>(value >> (8 * i));
  }

  std::string bytes_;
};

}  // namespace segmamba
