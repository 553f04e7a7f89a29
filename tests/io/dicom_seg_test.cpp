#include "segmamba/io/dicom_seg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "../../src/io/cielab.h"
#include "dicom_series_test.h"
#include "segmamba/core/version.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
namespace tag = test::tag;
using test::dicom_slice;
using test::DicomBytes;
using test::error_of;
using test::kPixels;
using test::kSlices;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint32_t kCharset = 0x00080005, kSegments = 0x00620002, kSegmentNumber = 0x00620004,
                        kSegmentLabel = 0x00620005, kSegmentIdentification = 0x0062000a,
                        kReferencedSegment = 0x0062000b, kColour = 0x0062000d,
                        kCategory = 0x00620003, kType = 0x0062000f, kFrameContent = 0x00209111,
                        kIndexValues = 0x00209157, kDerivation = 0x00089124, kSource = 0x00082112,
                        kReferencedInstance = 0x00081155, kReferencedFrame = 0x00081160,
                        kReferencedSeries = 0x00081115, kReferencedInstances = 0x0008114a;

constexpr auto kUmlaut = "\xc3\xbc";

class DicomSegTest : public test::DicomSeriesTest {
 protected:
  DicomSegTest() { write_series(); }

  // A map on the grid of the series, with label_at(x + 5 * (y + 3 * z)).
  LabelMap map(const std::function<std::uint8_t(std::size_t)>& label_at) const {
    LabelMap labels{read_geometry(series_), {}};
    for (std::size_t i = 0; i < kSlices * kPixels; ++i) labels.voxels.push_back(label_at(i));
    return labels;
  }
  DicomBytes written(const LabelMap& labels, const std::vector<DicomSegment>& segments) const {
    write_dicom_seg(file_, labels, segments);
    return DicomBytes(file_);
  }
  std::string error(const LabelMap& labels, const std::vector<DicomSegment>& segments) const {
    return error_of([&] { write_dicom_seg(file_, labels, segments); });
  }

  const fs::path file_ = folder_.path() / "seg.dcm";
};

const std::vector<DicomSegment> kTumour = {dicom_segment(1, "NCR", "necrosis"),
                                           dicom_segment(2, "oedema", "oedema"),
                                           dicom_segment(4, "enhancing", "enhancing")};

DicomSegment named(std::uint8_t label, const std::string& name) {
  DicomSegment segment = dicom_segment(label, "", "");
  segment.name = name;
  return segment;
}

// Label by segment and slice; the masks of a file put together again.
std::vector<std::uint8_t> labels_of(const DicomBytes& seg,
                                    const std::vector<DicomSegment>& segments) {
  std::vector<std::uint8_t> voxels(kSlices * kPixels, 0);
  const auto bytes = seg.numbers<std::uint8_t>(tag::kPixels);
  const auto& groups = seg.items(tag::kFrameGroups);
  for (std::size_t frame = 0; frame < groups.size(); ++frame) {
    const auto index = groups[frame].item(kFrameContent).numbers<std::uint32_t>(kIndexValues);
    for (std::size_t i = 0; i < kPixels; ++i) {
      const std::size_t bit = frame * kPixels + i;
      if ((bytes.at(bit / 8) >> bit % 8 & 1) == 0) continue;
      voxels[(index.at(1) - 1) * kPixels + i] = segments.at(index.at(0) - 1).label;
    }
  }
  return voxels;
}

TEST_F(DicomSegTest, MasksComeBack) {
  // Of squares 0, 1, 2 and 4 remain.
  const LabelMap labels = map([](std::size_t i) { return static_cast<std::uint8_t>(i * i % 7); });
  const DicomBytes seg = written(labels, kTumour);
  EXPECT_EQ(labels_of(seg, kTumour), labels.voxels);
  EXPECT_EQ(seg.text(tag::kFrames), "15");
  EXPECT_EQ(seg.at(tag::kPixels).value.size(), (15 * kPixels + 7) / 8 + 1);  // even
}

TEST_F(DicomSegTest, EmptySlicesAreLeftOut) {
  const LabelMap labels = map([](std::size_t i) -> std::uint8_t {
    if (i == 2 * kPixels + 7) return 4;
    return i < kPixels ? 1 : 0;
  });
  const DicomBytes seg = written(labels, kTumour);
  EXPECT_EQ(labels_of(seg, kTumour), labels.voxels);
  EXPECT_EQ(seg.text(tag::kFrames), "2");
  EXPECT_EQ(seg.items(kSegments).size(), 3);
  const DicomBytes& groups = seg.items(tag::kFrameGroups).at(1);
  EXPECT_THAT(groups.item(kFrameContent).numbers<std::uint32_t>(kIndexValues), ElementsAre(3, 3));
  EXPECT_THAT(groups.item(kSegmentIdentification).numbers<std::uint16_t>(kReferencedSegment),
              ElementsAre(3));
  EXPECT_EQ(groups.item(tag::kPlanePosition).text(tag::kPosition), "6.8\\-20\\32.4");
  const DicomBytes& source = groups.item(kDerivation).item(kSource);
  EXPECT_EQ(source.text(kReferencedInstance), "1.2.3.100.2");
  EXPECT_FALSE(source.has(kReferencedFrame));
}

TEST_F(DicomSegTest, MapWithoutVoxels) {
  const LabelMap labels = map([](std::size_t) { return 0; });
  const DicomBytes seg = written(labels, kTumour);
  EXPECT_EQ(seg.text(tag::kFrames), "1");
  EXPECT_EQ(seg.items(tag::kFrameGroups).size(), 1);
  EXPECT_EQ(labels_of(seg, kTumour), labels.voxels);
}

TEST_F(DicomSegTest, RepeatsTheSourceAndSaysWhoMadeIt) {
  const LabelMap labels = map([](std::size_t) { return 1; });
  const DicomBytes seg = written(labels, kTumour);
  EXPECT_EQ(seg.text(tag::kSopClass), "1.2.840.10008.5.1.4.1.1.66.4");
  EXPECT_EQ(seg.text(tag::kModality), "SEG");
  EXPECT_EQ(seg.text(tag::kPatientName), "Doe^Jane");
  EXPECT_EQ(seg.text(tag::kPatientId), "P1");
  EXPECT_EQ(seg.text(0x00100030), "");  // birth date: unknown, but there
  EXPECT_EQ(seg.text(0x00080020), "20240131");
  EXPECT_EQ(seg.text(tag::kStudy), "1.2.3.1");
  EXPECT_EQ(seg.text(tag::kFrameOfReference), "1.2.3.3");
  EXPECT_EQ(seg.text(0x00282110), "00");  // lossy compression
  EXPECT_EQ(seg.text(0x00181020), version());
  EXPECT_EQ(seg.text(tag::kSeriesDescription), "Segmentation");
  const DicomBytes& referenced = seg.item(kReferencedSeries);
  EXPECT_EQ(referenced.text(tag::kSeries), "1.2.3.2");
  EXPECT_EQ(referenced.items(kReferencedInstances).size(), kSlices);
  const DicomBytes& shared = seg.item(tag::kSharedGroups);
  EXPECT_EQ(shared.item(tag::kPlaneOrientation).text(tag::kOrientation), "0.6\\0\\0.8\\0\\1\\0");
  EXPECT_EQ(shared.item(tag::kPixelMeasures).text(tag::kPixelSpacing), "0.75\\0.5");
  EXPECT_EQ(shared.item(tag::kPixelMeasures).text(tag::kThickness), "2");
}

TEST_F(DicomSegTest, NewIdentityEachTime) {
  const LabelMap labels = map([](std::size_t) { return 1; });
  std::set<std::string> uids;
  for (int i = 0; i < 3; ++i) {
    const DicomBytes seg = written(labels, kTumour);
    for (const auto tag : {tag::kSopInstance, tag::kSeries}) {
      const std::string uid = seg.text(tag);
      EXPECT_THAT(uid, ::testing::MatchesRegex("[0-9]+(\\.[0-9]+)+"));
      EXPECT_LE(uid.size(), 64u);
      uids.insert(uid);
    }
  }
  EXPECT_EQ(uids.size(), 6u);
}

TEST_F(DicomSegTest, SegmentsHaveCodesAndColours) {
  std::vector<DicomSegment> segments = {dicom_segment(4, "ET", "enhancing"),
                                        dicom_segment(9, "cavity", "cavity")};
  const LabelMap labels = map([](std::size_t) { return 9; });
  const DicomBytes seg = written(labels, segments);
  const DicomBytes &first = seg.items(kSegments).at(0), &second = seg.items(kSegments).at(1);
  EXPECT_THAT(first.numbers<std::uint16_t>(kSegmentNumber), ElementsAre(1));
  EXPECT_EQ(first.text(kSegmentLabel), "ET");
  EXPECT_EQ(first.item(kCategory).text(0x00080100), "49755003");
  EXPECT_EQ(first.item(kType).text(0x00080100), "C113842");
  EXPECT_EQ(first.item(kType).text(0x00080102), "NCIt");
  EXPECT_TRUE(first.has(kColour));
  EXPECT_THAT(second.numbers<std::uint16_t>(kSegmentNumber), ElementsAre(2));
  EXPECT_EQ(second.item(kType).text(0x00080104), "Tissue");
  EXPECT_FALSE(second.has(kColour));
}

TEST_F(DicomSegTest, FramesOfAMultiFrameSource) {
  remove_series();
  DicomBytes file = dicom_slice(0);
  std::vector<DicomBytes> groups;
  for (int frame = 0; frame < kSlices; ++frame) {
    DicomBytes position, group;
    position.text(tag::kPosition, "DS", dicom_slice(kSlices - 1 - frame).text(tag::kPosition));
    groups.push_back(group.items(tag::kPlanePosition, {position}));
  }
  file.text(tag::kFrames, "IS", std::to_string(kSlices)).items(tag::kFrameGroups, groups);
  file.numbers(tag::kPixels, "OW", std::vector<std::int16_t>(kSlices * kPixels));
  file.write(series_ / "all.dcm");

  const LabelMap labels = map([](std::size_t) { return 1; });
  const DicomBytes seg = written(labels, kTumour);
  const DicomBytes& last = seg.items(tag::kFrameGroups).at(kSlices - 1);
  EXPECT_EQ(last.item(kDerivation).item(kSource).text(kReferencedFrame), "1");
  EXPECT_EQ(seg.item(kReferencedSeries).items(kReferencedInstances).size(), 1);
}

TEST_F(DicomSegTest, MapsOnAnotherGrid) {
  LabelMap labels = map([](std::size_t) { return 1; });
  labels.geometry.origin[0] += 1;
  EXPECT_THAT(error(labels, kTumour), HasSubstr("is not on the grid of its DICOM series: origin"));
  labels = map([](std::size_t) { return 1; });
  labels.voxels.pop_back();
  EXPECT_THAT(error(labels, kTumour), HasSubstr("is not on the grid of its DICOM series"));
  labels = map([](std::size_t) { return 1; });
  labels.geometry.dicom = nullptr;
  EXPECT_THAT(error(labels, kTumour), HasSubstr("seg.dcm: the label map is not on the grid of a"));
  EXPECT_FALSE(fs::exists(file_));
}

TEST_F(DicomSegTest, SourceWithoutFrameOfReference) {
  for (int z = 0; z < kSlices; ++z) {
    dicom_slice(z).remove(tag::kFrameOfReference).write(file(z));
  }
  EXPECT_THAT(error(map([](std::size_t) { return 1; }), kTumour),
              HasSubstr("has no Frame of Reference UID"));
}

TEST_F(DicomSegTest, BadSegments) {
  const LabelMap labels = map([](std::size_t) { return 3; });
  EXPECT_THAT(error(labels, kTumour), HasSubstr("label 3 has no segment"));
  EXPECT_THAT(error(labels, {}), HasSubstr("at least one segment"));
  EXPECT_THAT(error(labels, {named(3, "a"), named(3, "b")}),
              HasSubstr("label 3 is the background or has two segments"));
  EXPECT_THAT(error(labels, {named(0, "a")}), HasSubstr("label 0 is the background"));
  for (const std::string name : {"", "a\\b", "a\n", "caf\xe9", " a", "\xc2\x85"}) {
    EXPECT_THAT(error(labels, {named(3, name)}), HasSubstr("is not 1 to 64 printable"));
  }
  EXPECT_THAT(error(labels, {named(3, std::string(65, 'a'))}), HasSubstr("1 to 64"));
  EXPECT_EQ(error(labels, {named(3, std::string(64, 'a'))}), "");
  DicomSegment uncoded = named(3, "a");
  uncoded.type.value = "";
  EXPECT_THAT(error(labels, {uncoded}), HasSubstr("'' is not 1 to 64"));
}

TEST_F(DicomSegTest, NamesAreMadeToFit) {
  EXPECT_EQ(dicom_segment(3, "NCR/NET", "").name, "NCR/NET");
  EXPECT_EQ(dicom_segment(3, " a\\b\n", "").name, "a_b_");
  EXPECT_EQ(dicom_segment(3, "", "").name, "label 3");
  EXPECT_EQ(dicom_segment(3, "caf\xe9", "").name, "caf_");
  EXPECT_EQ(dicom_segment(3, "\xe8\x85\xab\xe7\x98\xa4", "").name, "\xe8\x85\xab\xe7\x98\xa4");
  std::string umlauts;
  for (int i = 0; i < 70; ++i) umlauts += kUmlaut;
  EXPECT_EQ(dicom_segment(3, umlauts, "").name, umlauts.substr(0, 128));  // 64 characters
}

// What becomes of a source's name and ours, in which character set.
struct Texts {
  std::string charset, patient, label;
};

TEST_F(DicomSegTest, CharacterSets) {
  const auto written_with = [&](const Texts& source) {
    write_series([&](int, DicomBytes& slice) {
      if (!source.charset.empty()) slice.text(kCharset, "CS", source.charset);
      slice.text(tag::kPatientName, "PN", source.patient);
    });
    const DicomBytes seg = written(map([](std::size_t) { return 1; }), {named(1, source.label)});
    return Texts{seg.has(kCharset) ? seg.text(kCharset) : "", seg.text(tag::kPatientName),
                 seg.item(kSegments).text(kSegmentLabel)};
  };
  const auto expect = [&](const Texts& source, const Texts& expected) {
    const Texts got = written_with(source);
    EXPECT_EQ(got.charset, expected.charset);
    EXPECT_EQ(got.patient, expected.patient);
    EXPECT_EQ(got.label, expected.label);
  };
  const std::string latin = "M\xfcller", utf8 = std::string("M") + kUmlaut + "ller";
  const std::string japanese = "Yamada=\033$B;3ED\033(B", two_sets = "\\ISO 2022 IR 87";
  // Ours in ASCII: the source's as it was, even where it forgot its character set.
  for (const auto& source :
       {Texts{"ISO_IR 100", latin, "a"}, Texts{"ISO_IR 192", utf8, "a"},
        Texts{two_sets, japanese, "a"}, Texts{"", "Doe", "a"}, Texts{"", latin, "a"}}) {
    expect(source, source);
  }
  // Ours beyond it: in UTF-8, where the source can be, too.
  expect({"ISO_IR 100", latin, kUmlaut}, {"ISO_IR 192", utf8, kUmlaut});
  expect({"ISO_IR 192", utf8, kUmlaut}, {"ISO_IR 192", utf8, kUmlaut});
  expect({"", "Doe", kUmlaut}, {"ISO_IR 192", "Doe", kUmlaut});
  expect({two_sets, japanese, kUmlaut}, {two_sets, japanese, "?"});
  expect({"", latin, kUmlaut}, {"", latin, "?"});
}

TEST_F(DicomSegTest, FolderThatDoesNotExist) {
  const LabelMap labels = map([](std::size_t) { return 1; });
  EXPECT_THAT(
      error_of([&] { write_dicom_seg(folder_.path() / "none" / "seg.dcm", labels, kTumour); }),
      HasSubstr("seg.dcm"));
}

// Reference values: L*a*b* (D50) of sRGB by the formulas of the CSS Color 4 specification.
TEST(Cielab, KnownColours) {
  struct Case {
    Colour colour;
    double l, a, b;
  };
  for (const Case& known :
       {Case{{0, 0, 0}, 0, 0, 0}, Case{{255, 255, 255}, 100, 0, 0},
        Case{{255, 0, 0}, 54.29, 80.81, 69.89}, Case{{0, 128, 0}, 46.28, -47.55, 48.59},
        Case{{0, 0, 255}, 29.57, 68.30, -112.03}}) {
    const auto stored = to_dicom_cielab(known.colour);
    EXPECT_NEAR(stored[0] / 65535.0 * 100, known.l, 0.05);
    EXPECT_NEAR(stored[1] / 65535.0 * 255 - 128, known.a, 0.05);
    EXPECT_NEAR(stored[2] / 65535.0 * 255 - 128, known.b, 0.05);
  }
}

}  // namespace
}  // namespace segmamba::io
