#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "dicom_series_test.h"
#include "nifti_bytes.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
namespace tag = test::tag;
using test::compress;
using test::dicom_slice;
using test::DicomBytes;
using test::enhanced_file;
using test::error_of;
using test::read_bytes;
using test::write_bytes;
using ::testing::HasSubstr;
using ::testing::Not;

class DicomDamage : public test::DicomSeriesTest {
 protected:
  // The bytes of a slice under each of the transfer syntaxes, of a size that they all take.
  std::vector<std::pair<std::string, std::string>> slices() const {
    using gdcm::TransferSyntax;
    constexpr int kSize = 32;
    std::vector<std::pair<std::string, std::string>> slices;
    for (const auto syntax :
         {TransferSyntax::ExplicitVRLittleEndian, TransferSyntax::ImplicitVRLittleEndian,
          TransferSyntax::DeflatedExplicitVRLittleEndian, TransferSyntax::RLELossless,
          TransferSyntax::JPEGLosslessProcess14_1, TransferSyntax::JPEGBaselineProcess1,
          TransferSyntax::JPEGLSLossless, TransferSyntax::JPEG2000Lossless}) {
      const bool is_of_bytes = syntax == TransferSyntax::JPEGBaselineProcess1;
      const int bits = is_of_bytes ? 8 : 12;
      DicomBytes slice = dicom_slice(0);
      slice.text(tag::kThickness, "DS", "2").number(tag::kSigned, 0);
      slice.number(tag::kRows, kSize).number(tag::kColumns, kSize);
      slice.number(tag::kBitsAllocated, is_of_bytes ? 8 : 16);
      slice.number(tag::kBitsStored, static_cast<std::uint16_t>(bits));
      slice.number(tag::kHighBit, static_cast<std::uint16_t>(bits - 1));
      std::vector<std::uint16_t> words;
      for (int i = 0; i < kSize * kSize; ++i) {
        words.push_back(static_cast<std::uint16_t>((i * i / 7) % 200));
      }
      if (is_of_bytes) {
        slice.numbers(tag::kPixels, "OB", std::vector<std::uint8_t>(words.begin(), words.end()));
      } else {
        slice.numbers(tag::kPixels, "OW", words);
      }
      const fs::path path = folder_.path() / "slice";
      slice.write(path);
      if (syntax != TransferSyntax::ExplicitVRLittleEndian) compress(path, syntax);
      std::string bytes = read_bytes(path);
      if (syntax == TransferSyntax::DeflatedExplicitVRLittleEndian) {
        constexpr std::size_t kGzipEnd = 8;  // GDCM's own idea
        bytes.resize(bytes.size() - kGzipEnd);
      }
      slices.emplace_back(TransferSyntax::GetTSString(syntax), bytes);
    }
    return slices;
  }

  // What reading a series of these bytes says; "" where it is sound.
  std::string error_of_bytes(const std::string& bytes) const {
    const fs::path path = series_ / "slice.dcm";
    fs::remove(path);  // some file systems flush what is overwritten
    write_bytes(path, bytes);
    return error();
  }
};

constexpr std::size_t kMark = 132;  // where the mark of a file ends

TEST_F(DicomDamage, LostSlices) {
  write_series();
  write_bytes(file(4), "");
  EXPECT_THAT(error(), HasSubstr(file(4).string() + ": is damaged or no DICOM file"));
  fs::remove(file(4));
  write_bytes(series_ / "4.dcm", "something else");
  EXPECT_THAT(error(), HasSubstr("4.dcm: is damaged or no DICOM file"));
}

TEST_F(DicomDamage, CutOffPixels) {
  write_series();
  const std::string bytes = read_bytes(file(3));
  write_bytes(file(3), bytes.substr(0, bytes.size() - 2));
  EXPECT_THROW(read_dicom(series_), DamagedFileError);
  EXPECT_THAT(error(), HasSubstr(file(3).string() + ": is "));
}

TEST_F(DicomDamage, HeaderThatPromisesTooMuch) {
  enhanced_file().number(tag::kRows, 65535).number(tag::kColumns, 65535).write(series_ / "all.dcm");
  EXPECT_THAT(error_of([&] { read_geometry(series_); }),
              HasSubstr("its header promises 42948362250 bytes of pixel data, it holds "));
}

// A file cut off anywhere behind its mark is told; no slice is lost silently, nothing is printed.
TEST_F(DicomDamage, CutOffAnywhere) {
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  for (const auto& [syntax, bytes] : slices()) {
    EXPECT_EQ(error_of_bytes(bytes), "") << syntax;
    for (std::size_t size = kMark; size < bytes.size(); ++size) {
      const auto message = error_of_bytes(bytes.substr(0, size));
      EXPECT_THAT(message, HasSubstr("slice.dcm: is ")) << syntax << ", " << size;
      EXPECT_THAT(message, Not(HasSubstr("\n"))) << syntax << ", " << size;
    }
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

// Any byte changed: a volume or an Error of one line, nothing else.
TEST_F(DicomDamage, AnyByteChanged) {
  std::mt19937 random(1);
  auto files = slices();
  files.emplace_back("enhanced", enhanced_file().file());
  for (const auto& [syntax, bytes] : files) {
    for (std::size_t i = kMark; i < bytes.size(); ++i) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(random());
      EXPECT_THAT(error_of_bytes(damaged), Not(HasSubstr("\n"))) << syntax << ", byte " << i;
    }
  }
}

// One of the ways in which files get damaged.
void damage(std::string& bytes, std::mt19937& random) {
  const auto place = [&] { return kMark + random() % (bytes.size() - kMark); };
  const std::size_t at = place();
  const std::size_t count = 1 + random() % 16;
  switch (random() % 7) {
    case 0:
      bytes[at] = static_cast<char>(random());
      break;
    case 1:
      bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8);
      break;
    case 2:
      bytes.erase(at, count);
      break;
    case 3:
      bytes.insert(at, count, static_cast<char>(random()));
      break;
    case 4:
      bytes.insert(at, bytes.substr(place(), count));
      break;
    case 5:
      bytes.replace(at, std::min(count, bytes.size() - at), count, '\0');
      break;
    default:
      bytes[at] = static_cast<char>(random() % 2 == 0 ? 0xff : 0x7f);
  }
}

// Several damages at once. SEGMAMBA_DAMAGED_FILES of them, where that is set.
TEST_F(DicomDamage, RandomDamages) {
  const char* wanted = std::getenv("SEGMAMBA_DAMAGED_FILES");
  const int count = wanted == nullptr ? 2000 : std::atoi(wanted);
  auto files = slices();
  files.emplace_back("enhanced", enhanced_file().file());
  std::vector<std::pair<int, int>> sound_and_refused(files.size());
  for (int i = 0; i < count; ++i) {
    std::mt19937 random(static_cast<unsigned>(i));
    const std::size_t kind = static_cast<std::size_t>(i) % files.size();
    std::string bytes = files[kind].second;
    const auto times = 1 + random() % 4;
    for (unsigned time = 0; time < times && bytes.size() > kMark; ++time) damage(bytes, random);
    const auto message = error_of_bytes(bytes);
    ASSERT_THAT(message, Not(HasSubstr("\n"))) << files[kind].first << ", seed " << i;
    ++(message.empty() ? sound_and_refused[kind].first : sound_and_refused[kind].second);
  }
  for (std::size_t kind = 0; kind < files.size() && wanted != nullptr; ++kind) {
    std::printf("%s: %d read, %d refused\n", files[kind].first.c_str(),
                sound_and_refused[kind].first, sound_and_refused[kind].second);
  }
}

}  // namespace
}  // namespace segmamba::io
