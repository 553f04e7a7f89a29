// What TensorBoard itself reads is in tests/engine/tensorboard_test.py.
#include "segmamba/core/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <limits>
#include <vector>

#include "crc32c.h"
#include "protobuf.h"
#include "segmamba/core/files.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using ::testing::StartsWith;

TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  // RFC 3720, B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string rising;
  for (int i = 0; i < 32; ++i) rising += static_cast<char>(i);
  EXPECT_EQ(crc32c(rising), 0x46dd794eU);
  EXPECT_EQ(crc32c(std::string(rising.rbegin(), rising.rend())), 0x113fdb5cU);
}

std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

TEST(ProtobufMessage, WritesFieldsAsTheGuideSays) {
  // The examples of https://protobuf.dev/programming-guides/encoding.
  EXPECT_EQ(ProtobufMessage().add_integer(1, 150).bytes(), bytes({0x08, 0x96, 0x01}));
  EXPECT_EQ(ProtobufMessage().add_bytes(2, "testing").bytes(), bytes({0x12, 0x07}) + "testing");
  EXPECT_EQ(ProtobufMessage().add_message(3, ProtobufMessage().add_integer(1, 150)).bytes(),
            bytes({0x1a, 0x03, 0x08, 0x96, 0x01}));
  EXPECT_EQ(ProtobufMessage().add_integer(1, -2).bytes(),
            bytes({0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}));
  EXPECT_EQ(ProtobufMessage().add_integer(16, 0).bytes(), bytes({0x80, 0x01, 0x00}));
  EXPECT_EQ(ProtobufMessage().add_float(2, 1.5F).bytes(), bytes({0x15, 0, 0, 0xc0, 0x3f}));
  EXPECT_EQ(ProtobufMessage().add_double(1, -2.0).bytes(),
            bytes({0x09, 0, 0, 0, 0, 0, 0, 0, 0xc0}));
  const std::string long_text(300, 'x');
  EXPECT_EQ(ProtobufMessage().add_bytes(1, long_text).bytes(),
            bytes({0x0a, 0xac, 0x02}) + long_text);
}

std::uint64_t number_at(const std::string& text, std::size_t at, int count) {
  std::uint64_t value = 0;
  for (int i = count - 1; i >= 0; --i) {
    value = value << 8 | static_cast<std::uint8_t>(text.at(at + static_cast<std::size_t>(i)));
  }
  return value;
}

std::uint32_t masked(std::uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8U; }

// The data of each record, the checksums compared.
std::vector<std::string> records(const fs::path& path) {
  const auto file = read_file(path);
  std::vector<std::string> data;
  for (std::size_t at = 0; at < file.size();) {
    const auto length = static_cast<std::size_t>(number_at(file, at, 8));
    EXPECT_EQ(number_at(file, at + 8, 4), masked(crc32c(file.substr(at, 8))));
    data.push_back(file.substr(at + 12, length));
    EXPECT_EQ(data.back().size(), length);
    EXPECT_EQ(number_at(file, at + 12 + length, 4), masked(crc32c(data.back())));
    at += 16 + length;
  }
  return data;
}

// An event without its wall time, which is a double in its first field.
std::string after_time(const std::string& event) {
  EXPECT_EQ(event.at(0), 0x09);
  double seconds = 0;
  std::memcpy(&seconds, event.data() + 1, sizeof seconds);
  EXPECT_GT(seconds, 1.7e9);
  return event.substr(9);
}

TEST(TensorBoardWriter, FramesEventsAsRecords) {
  test::TemporaryFolder folder;
  TensorBoardWriter writer(folder.path() / "new");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  writer.add_scalars(7, {{"a", 1.5}, {"b", nan}, {"c", -1 / 0.0}, {"d", 2}});
  writer.add_scalars(8, {{"b", nan}});
  const auto written = records(writer.path());
  ASSERT_EQ(written.size(), 2U);  // there already, and none without values
  EXPECT_EQ(after_time(written[0]), bytes({0x1a, 13}) + "brain.Event:2");
  EXPECT_EQ(after_time(written[1]), bytes({0x10, 7, 0x2a, 20}) +
                                        bytes({0x0a, 8, 0x0a, 1, 'a', 0x15, 0, 0, 0xc0, 0x3f}) +
                                        bytes({0x0a, 8, 0x0a, 1, 'd', 0x15, 0, 0, 0, 0x40}));
}

TEST(TensorBoardWriter, ResumedRunNamesItsFirstStep) {
  test::TemporaryFolder folder;
  const TensorBoardWriter writer(folder.path(), 300);
  const auto written = records(writer.path());
  ASSERT_EQ(written.size(), 2U);
  EXPECT_EQ(after_time(written[1]), bytes({0x10, 0xac, 0x02, 0x3a, 2, 0x08, 1}));
}

TEST(TensorBoardWriter, NamesSortInTheOrderOfTheirMaking) {
  test::TemporaryFolder folder;
  // Of a machine whose clock is ahead.
  write_file_atomically(folder.path() / "events.out.tfevents.9000000000.host.1.0", "");
  const TensorBoardWriter first(folder.path()), second(folder.path());
  EXPECT_THAT(first.path().filename().string(), StartsWith("events.out.tfevents.9000000001."));
  EXPECT_THAT(second.path().filename().string(), StartsWith("events.out.tfevents.9000000002."));
}

TEST(TensorBoardWriter, RefusesAnImageThatIsNoPng) {
  test::TemporaryFolder folder;
  TensorBoardWriter writer(folder.path());
  EXPECT_EQ(test::error_of([&] { writer.add_image(1, "best", "GIF89a"); }),
            "the image best for " + writer.path().string() + " is no PNG file");
  EXPECT_EQ(records(writer.path()).size(), 1U);
}

// A limit on the size of files stands for a full disk.
TEST(TensorBoardWriter, NamesTheFileThatCannotGrow) {
  test::TemporaryFolder folder;
  TensorBoardWriter writer(folder.path());
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto message = test::error_of([&] {
    for (int step = 0; step < 10; ++step) writer.add_scalars(step, {{"loss", 1}});
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, "cannot write " + writer.path().string() + ": File too large");
}

}  // namespace
}  // namespace segmamba
