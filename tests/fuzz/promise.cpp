#include <cxxabi.h>
#include <cctype>
#include <cstdlib>
#include <exception>
#include <memory>
#include <typeinfo>

#include "memory_meter.h"
#include "readers.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::fuzz {
namespace {

constexpr std::size_t kLongestMessage = 4096;

std::string flaw_of(std::string_view message) {
  if (message.empty()) return "an Error without a message";
  if (message.size() > kLongestMessage) {
    return concat("an Error with a message of ", message.size(), " bytes");
  }
  for (std::size_t i = 0; i < message.size(); ++i) {
    const auto byte = static_cast<unsigned char>(message[i]);
    const auto next = i + 1 < message.size() ? static_cast<unsigned char>(message[i + 1]) : 0;
    const bool is_c1 = byte == 0xc2 && next >= 0x80 && next < 0xa0;
    if (byte < 0x20 || byte == 0x7f || is_c1) {
      return concat("an Error with byte ", int{byte}, " in its message: ", message);
    }
  }
  return "";
}

std::string name_of(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
  return name ? name.get() : type.name();
}

std::string flaw_of_reading(const Reader& reader, std::string_view input) {
  try {
    reader.read(input);
  } catch (const Error& error) {
    return flaw_of(error.what());
  } catch (const std::exception& error) {
    return concat("an exception ", name_of(typeid(error)), ": ", error.what());
  } catch (...) {
    return "an exception that is none of the standard's";
  }
  return "";
}

}  // namespace

std::string broken_promise(const Reader& reader, std::string_view input) {
  const MemoryMeter meter;
  std::string flaw = flaw_of_reading(reader, input);
  if (!flaw.empty()) return flaw;
  if (meter.peak_bytes() > kMostBytes) {
    return concat("it held ", format_bytes(meter.peak_bytes()), " at once");
  }
  return "";
}

}  // namespace segmamba::fuzz
