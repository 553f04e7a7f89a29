#include "../../src/io/dicom_structure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dicom_bytes.h"
#include "nifti_bytes.h"
#include "segmamba/io/volume.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
namespace tag = test::tag;
using test::DicomBytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kExplicit = "1.2.840.10008.1.2.1", kImplicit = "1.2.840.10008.1.2";
constexpr std::string_view kItem("\xfe\xff\0\xe0", 4), kItemEnd("\xfe\xff\x0d\xe0\0\0\0\0", 8),
    kSequenceEnd("\xfe\xff\xdd\xe0\0\0\0\0", 8), kUndefined("\xff\xff\xff\xff", 4);

std::string number(std::uint32_t value) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> 8 * i);
  return bytes;
}
std::string tag_of(std::uint32_t tag) { return number(tag >> 16 | tag << 16); }

// An element of explicit VR with a short or a long length.
std::string brief(std::uint32_t tag, const std::string& type, const std::string& value) {
  return tag_of(tag) + type + number(static_cast<std::uint32_t>(value.size())).substr(0, 2) + value;
}
std::string lengthy(std::uint32_t tag, const std::string& type, std::string_view length,
                    const std::string& value) {
  return tag_of(tag) + type + std::string(2, '\0') + std::string(length) + value;
}
std::string implicit(std::uint32_t tag, const std::string& value) {
  return tag_of(tag) + number(static_cast<std::uint32_t>(value.size())) + value;
}
std::string item(std::string_view length, const std::string& value) {
  return std::string(kItem) + std::string(length) + value;
}

class DicomStructure : public ::testing::Test {
 protected:
  // A file whose data set is `data`.
  std::string file_of(const std::string& data, const std::string& syntax = kExplicit) const {
    DicomBytes empty;
    empty.text(tag::kSopClass, "UI", "1.2").text(tag::kSopInstance, "UI", "1.2.3");
    const std::string bytes = empty.file(syntax);
    return bytes.substr(0, bytes.size() - empty.encode().size()) + data;
  }
  const DicomContent& open(const std::string& bytes) {
    test::write_bytes(path_, bytes);
    content_.reset();
    content_ = std::make_unique<DicomContent>(path_);
    return *content_;
  }
  std::string error(const std::string& data, const std::string& syntax = kExplicit) {
    return test::error_of([&] { open(file_of(data, syntax)); });
  }

  test::TemporaryFolder folder_;
  const fs::path path_ = folder_.path() / "file.dcm";
  std::unique_ptr<DicomContent> content_;
};

TEST_F(DicomStructure, ElementsAndText) {
  const auto& content =
      open(file_of(brief(0x00080060, "CS", "MR") + brief(0x00100010, "PN", "Doe^J ") +
                   brief(0x00200010, "UI", std::string("1.2\0", 4)) + std::string(10, '\0')));
  EXPECT_EQ(content.syntax().uid, kExplicit);
  EXPECT_EQ(content.syntax().compression, DicomCompression::kNone);
  EXPECT_EQ(text_of(content.set(), 0x00080060), "MR");
  EXPECT_EQ(text_of(content.set(), 0x00100010), "Doe^J");
  EXPECT_EQ(text_of(content.set(), 0x00200010), "1.2");
  EXPECT_EQ(text_of(content.set(), 0x00080061), "");
  EXPECT_EQ(content.set().find(0x00080061), nullptr);
  EXPECT_EQ(text_of(content.meta(), 0x00020003), "1.2.3");
}

TEST_F(DicomStructure, SequencesOfAnyLength) {
  const std::string element = brief(0x00080060, "CS", "MR");
  const std::string open_item = item(kUndefined, element + std::string(kItemEnd));
  const std::string closed_item = item(number(10), element);
  const std::string items = open_item + closed_item;
  const std::string closed =
      lengthy(0x00081140, "SQ", number(static_cast<std::uint32_t>(items.size())), items);
  const std::string ended =
      lengthy(0x00081140, "SQ", kUndefined, items + std::string(kSequenceEnd));
  for (const auto& data : {closed, ended}) {
    const DicomElement* sequence = open(file_of(data)).set().find(0x00081140);
    ASSERT_TRUE(sequence);
    ASSERT_EQ(sequence->items.size(), 2u);
    for (const auto& set : sequence->items) EXPECT_EQ(text_of(set, 0x00080060), "MR");
  }
}

TEST_F(DicomStructure, SequencesOfUnknownTypeAreImplicit) {
  const std::string items = item(kUndefined, implicit(0x00080060, "MR") + std::string(kItemEnd));
  const auto& set =
      open(file_of(lengthy(0x00091010, "UN", kUndefined, items + std::string(kSequenceEnd)) +
                   brief(0x00100020, "LO", "P1")))
          .set();
  EXPECT_EQ(text_of(set.find(0x00091010)->items.at(0), 0x00080060), "MR");
  EXPECT_EQ(text_of(set, 0x00100020), "P1");
}

TEST_F(DicomStructure, ImplicitTypes) {
  const std::string group = item(number(10), implicit(0x00200032, "1 "));
  const auto& set =
      open(file_of(implicit(0x00100020, "P1") +
                       implicit(0x00209113, item(number(10), implicit(0x00200032, "1 "))),
                   kImplicit))
          .set();
  EXPECT_EQ(text_of(set, 0x00100020), "P1");
  EXPECT_EQ(text_of(set.find(0x00209113)->items.at(0), 0x00200032), "1");
}

TEST_F(DicomStructure, EncapsulatedPixels) {
  const std::string fragments =
      item(number(0), "") + item(number(4), "abcd") + item(number(2), "ef");
  const auto& content =
      open(file_of(lengthy(tag::kPixels, "OB", kUndefined, fragments + std::string(kSequenceEnd)),
                   "1.2.840.10008.1.2.5"));
  EXPECT_EQ(content.syntax().compression, DicomCompression::kRle);
  EXPECT_THAT(content.set().find(tag::kPixels)->fragments, ElementsAre("", "abcd", "ef"));
}

TEST_F(DicomStructure, PrivateSequencesAreNobodysBusiness) {
  const std::string data = lengthy(0x00091010, "SQ", number(4), "oops");
  EXPECT_EQ(open(file_of(data)).set().find(0x00091010)->value, "oops");
}

TEST_F(DicomStructure, OtherTransferSyntaxesAreExplicit) {
  const auto& content = open(file_of(brief(0x00100020, "LO", "P1"), "1.2.3.4"));
  EXPECT_EQ(content.syntax().compression, DicomCompression::kOther);
  EXPECT_EQ(text_of(content.set(), 0x00100020), "P1");
}

TEST_F(DicomStructure, Faults) {
  const std::string element = brief(0x00100020, "LO", "P1");
  EXPECT_EQ(error(element), "");
  EXPECT_THAT(error(element + brief(0x00100010, "PN", "")),
              AllOf(HasSubstr("file.dcm: is damaged or truncated: element (0010,0010) is out of "),
                    HasSubstr("(byte ")));
  EXPECT_THAT(error(element + element), HasSubstr("(0010,0020) is out of order"));
  EXPECT_THAT(error(brief(0x00100020, "ZZ", "")), HasSubstr("has no known value representation"));
  EXPECT_THAT(error(brief(0x00100020, "O ", "")), HasSubstr("has no known value representation"));
  EXPECT_THAT(error(element.substr(0, 9)),
              HasSubstr("(0010,0020) of 2 bytes reaches beyond the end of the file"));
  EXPECT_THAT(error(element + "abc"), HasSubstr("ends within an element"));
  EXPECT_THAT(error(lengthy(0x00081140, "SQ", number(8), item(number(10), element)) + element),
              HasSubstr("reaches beyond what encloses it"));
  EXPECT_THAT(error(lengthy(0x00081140, "SQ", kUndefined, item(number(10), element))),
              HasSubstr("a sequence has no end"));
  EXPECT_THAT(error(lengthy(0x00081140, "SQ", kUndefined, item(kUndefined, element))),
              HasSubstr("an item has no end"));
  EXPECT_THAT(error(lengthy(0x00081140, "SQ", number(10), element)),
              HasSubstr("(0010,0020) stands where an item is due"));
  EXPECT_THAT(error(std::string(kItemEnd)), HasSubstr("(fffe,e00d) is out of order"));
  EXPECT_THAT(error(lengthy(0x00100020, "UT", kUndefined, "")), HasSubstr("has no length"));
  EXPECT_THAT(error(lengthy(tag::kPixels, "OB", kUndefined, item(number(0), ""))),
              HasSubstr("ends within an element"));
  EXPECT_THAT(error(lengthy(tag::kPixels, "OB", kUndefined, std::string(kSequenceEnd))),
              HasSubstr("no offset table"));
  EXPECT_THAT(error(lengthy(tag::kPixels, "OB", kUndefined, element)),
              HasSubstr("where a fragment of pixels is due"));
  EXPECT_THAT(error("not deflated", "1.2.840.10008.1.2.1.99"), HasSubstr("cannot be inflated"));
}

TEST_F(DicomStructure, NestedTooDeeply) {
  const auto nested = [&](int depth) {
    std::string data;
    for (int i = 0; i < depth; ++i) {
      data = item(kUndefined, data + std::string(kItemEnd)) + std::string(kSequenceEnd);
      data = lengthy(0x00081140, "SQ", kUndefined, data);
    }
    return error(data);
  };
  EXPECT_EQ(nested(32), "");
  EXPECT_THAT(nested(33), HasSubstr("nested more than 32 deep"));
  EXPECT_THAT(nested(1000), HasSubstr("nested more than 32 deep"));
}

TEST_F(DicomStructure, FilesWithoutBeginning) {
  const auto fault = [&](const std::string& bytes) { return test::error_of([&] { open(bytes); }); };
  EXPECT_THAT(fault("DICM"), HasSubstr("has no DICM mark"));
  EXPECT_THAT(fault(std::string(128, '\0') + "DICM"),
              HasSubstr("does not tell its transfer syntax"));
  EXPECT_THAT(fault(""), HasSubstr("is empty"));
}

}  // namespace
}  // namespace segmamba::io
