// Field numbers are those of event.proto, summary.proto, tensor.proto (tensorboard/compat/proto)
// and of the HParams plugin's plugin_data.proto and api.proto (tensorboard/plugins/hparams), in
// https://github.com/tensorflow/tensorboard.
#include "segmamba/core/tensorboard.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cmath>

#include "crc32c.h"
#include "protobuf.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFilePrefix = "events.out.tfevents.";

double seconds_since_1970() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::string little_endian(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

// Checksums stand masked, so that the checksum of a record that holds checksums is no trivial one.
std::string masked_checksum(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return little_endian((crc >> 15 | crc << 17) + 0xa282ead8U, 4);
}

std::string as_record(std::string_view data) {
  const std::string length = little_endian(data.size(), 8);
  return concat(length, masked_checksum(length), data, masked_checksum(data));
}

ProtobufMessage new_event(std::int64_t step) {
  return ProtobufMessage().add_double(1, seconds_since_1970()).add_integer(2, step);
}

std::string event_with(std::int64_t step, const ProtobufMessage& summary) {
  return as_record(new_event(step).add_message(5, summary).bytes());
}

ProtobufMessage metadata_of_plugin(const std::string& name, std::string_view content) {
  return ProtobufMessage().add_message(1,
                                       ProtobufMessage().add_bytes(1, name).add_bytes(2, content));
}

// `content`: the field of HParamsPluginData and the message in it.
std::string hyper_parameter_event(const std::string& tag, int field,
                                  const ProtobufMessage& content) {
  const auto metadata =
      metadata_of_plugin("hparams", ProtobufMessage().add_message(field, content).bytes());
  const auto value = ProtobufMessage().add_bytes(1, tag).add_message(9, metadata);
  return event_with(0, ProtobufMessage().add_message(1, value));
}

// A google.protobuf.Value and the DataType that the HParams plugin has for it.
struct HyperParameter {
  int type;
  ProtobufMessage value;
};

HyperParameter hyper_parameter(const std::string& text) {
  constexpr int kString = 1, kBool = 2, kFloat64 = 3;
  if (text == "true" || text == "false") {
    return {kBool, ProtobufMessage().add_integer(4, text == "true" ? 1 : 0)};
  }
  double number = 0;
  const auto end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number);
  if (read.ec == std::errc() && read.ptr == end) {
    return {kFloat64, ProtobufMessage().add_double(2, number)};
  }
  return {kString, ProtobufMessage().add_bytes(3, text)};
}

// The seconds in the name of the last event file of `folder`; 0 where there is none.
std::int64_t newest_file_seconds(const fs::path& folder) {
  std::int64_t newest = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!starts_with(name, kFilePrefix)) continue;
    std::int64_t seconds = 0;
    std::from_chars(name.data() + kFilePrefix.size(), name.data() + name.size(), seconds);
    newest = std::max(newest, seconds);
  }
  return newest;
}

fs::path new_file_path(const fs::path& folder) {
  static std::atomic<int> counter = 0;
  make_folders(folder);
  const auto seconds =
      std::max(static_cast<std::int64_t>(seconds_since_1970()), newest_file_seconds(folder) + 1);
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return folder / concat(kFilePrefix, seconds, ".", host.data(), ".", ::getpid(), ".", counter++);
}

// Width and height of a PNG file stand big-endian in its first chunk.
std::int64_t big_endian_at(std::string_view bytes, std::size_t at) {
  std::int64_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

}  // namespace

TensorBoardWriter::TensorBoardWriter(const fs::path& folder, std::int64_t first_step)
    : file_(new_file_path(folder)) {
  file_.write(as_record(
      ProtobufMessage().add_double(1, seconds_since_1970()).add_bytes(3, "brain.Event:2").bytes()));
  if (first_step > 0) {
    constexpr int kStart = 1;
    file_.write(as_record(
        new_event(first_step).add_message(7, ProtobufMessage().add_integer(1, kStart)).bytes()));
  }
}

void TensorBoardWriter::add_scalars(std::int64_t step,
                                    const std::vector<std::pair<std::string, double>>& values) {
  ProtobufMessage summary;
  for (const auto& [tag, value] : values) {
    if (!std::isfinite(value)) continue;
    summary.add_message(
        1, ProtobufMessage().add_bytes(1, tag).add_float(2, static_cast<float>(value)));
  }
  if (!summary.bytes().empty()) file_.write(event_with(step, summary));
}

void TensorBoardWriter::add_image(std::int64_t step, const std::string& tag, std::string_view png) {
  constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";
  constexpr std::size_t kWidthAt = 16, kHeightAt = 20;
  if (!png.starts_with(kSignature) || png.size() < kHeightAt + 4) {
    throw Error(concat("the image ", tag, " for ", path().string(), " is no PNG file"));
  }
  constexpr int kRgb = 3;
  const auto image = ProtobufMessage()
                         .add_integer(1, big_endian_at(png, kHeightAt))
                         .add_integer(2, big_endian_at(png, kWidthAt))
                         .add_integer(3, kRgb)
                         .add_bytes(4, png);
  const auto value = ProtobufMessage().add_bytes(1, tag).add_message(4, image);
  file_.write(event_with(step, ProtobufMessage().add_message(1, value)));
}

void TensorBoardWriter::add_text(std::int64_t step, const std::string& tag,
                                 const std::string& markdown) {
  constexpr int kDataTypeString = 7, kDataClassTensor = 2;
  const auto shape = ProtobufMessage().add_message(2, ProtobufMessage().add_integer(1, 1));
  const auto tensor = ProtobufMessage()
                          .add_integer(1, kDataTypeString)
                          .add_message(2, shape)
                          .add_bytes(8, markdown);
  auto metadata = metadata_of_plugin("text", "");
  metadata.add_integer(4, kDataClassTensor);
  const auto value =
      ProtobufMessage().add_bytes(1, tag).add_message(9, metadata).add_message(8, tensor);
  file_.write(event_with(step, ProtobufMessage().add_message(1, value)));
}

void TensorBoardWriter::add_hyper_parameters(
    const std::vector<std::pair<std::string, std::string>>& values, const std::string& metric) {
  ProtobufMessage experiment, session;
  for (const auto& [name, text] : values) {
    const auto [type, value] = hyper_parameter(text);
    experiment.add_message(4, ProtobufMessage().add_bytes(1, name).add_integer(4, type));
    session.add_message(1, ProtobufMessage().add_bytes(1, name).add_message(2, value));
  }
  const auto metric_name = ProtobufMessage().add_bytes(2, metric);
  experiment.add_message(5, ProtobufMessage().add_message(1, metric_name));
  session.add_double(5, seconds_since_1970());
  file_.write(hyper_parameter_event("_hparams_/experiment", 2, experiment));
  file_.write(hyper_parameter_event("_hparams_/session_start_info", 3, session));
}

void TensorBoardWriter::add_completion() {
  constexpr int kSuccess = 1;
  const auto info = ProtobufMessage().add_integer(1, kSuccess).add_double(2, seconds_since_1970());
  file_.write(hyper_parameter_event("_hparams_/session_end_info", 4, info));
}

}  // namespace segmamba
