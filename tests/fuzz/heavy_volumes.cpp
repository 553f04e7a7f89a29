// NIfTI and DICOM.

#include <array>
#include <cstdint>

#include "heavy_inputs.h"
#include "nn/hostile_files.h"
#include "readers.h"

namespace segmamba::fuzz {
namespace {

using namespace std::string_literals;
using test::u16;
using test::u32;
using test::u64;

using Inputs = std::vector<Heavy>;

// x, y, z and volumes.
using Size = std::array<std::uint64_t, 4>;
enum class Voxels { kBehind, kInTheirOwnFile };

// A header of NIfTI-2, for unsigned bytes at 1 mm.
std::string nifti_header(const Size& size, Voxels voxels) {
  constexpr std::uint64_t kOne = 0x3ff0000000000000;  // as a double
  constexpr std::size_t kBytes = 540, kExtensionMark = 4;
  const bool is_behind = voxels == Voxels::kBehind;
  std::string header(kBytes + kExtensionMark, '\0');
  const auto put = [&](std::size_t place, const std::string& bytes) {
    header.replace(place, bytes.size(), bytes);
  };
  put(0, u32(kBytes));
  put(4, is_behind ? "n+2\0\r\n\032\n"s : "ni2\0\r\n\032\n"s);
  put(12, u16(2));  // unsigned bytes
  put(14, u16(8));  // their bits
  put(16, u64(size.size()));
  for (std::size_t axis = 0; axis < size.size(); ++axis) {
    put(24 + 8 * axis, u64(size[axis]));
    put(112 + 8 * axis, u64(kOne));
  }
  put(168, u64(is_behind ? header.size() : 0));
  return header;
}

void add_nifti(Inputs& all) {
  constexpr Size kManyVolumes = {1, 1, 1, 1 << 16}, kPlane = {1000, 1000, 1, 1};
  constexpr Size kLargest = {1 << 13, 1 << 13, 1 << 14, 1};  // that a header may say
  for (const auto& size : {kManyVolumes, kPlane, kLargest}) {
    for (const auto* reader : {"nifti", "nifti_packed"}) {
      all.push_back({reader, nifti_header(size, Voxels::kBehind), "\0"s, ""});
    }
    all.push_back(
        {"nifti_pair", nifti_header(size, Voxels::kInTheirOwnFile) + std::string(kCut), "\0"s, ""});
  }
  auto extended = nifti_header({1, 1, 1, 1}, Voxels::kBehind);
  extended.replace(540, 1, "\1");
  const auto extension = u32(16) + u32(6) + u64(0);  // its bytes, its kind (a comment), its text
  for (const auto* reader : {"nifti", "nifti_packed"}) {
    all.push_back({reader, extended, extension, ""});
  }

  // Packed, and not nearly as much as the header says. What a file can hold is judged by its packed
  // bytes: these do not pack well.
  const auto header = nifti_header({400, 400, 400, 1}, Voxels::kBehind);
  all.push_back({"nifti_packed", header, "#", ""});
  // The same as gzip that holds the bytes as they are, after the first ones in blocks of one.
  const auto gzip = "\x1f\x8b\x08\0\0\0\0\0\0\xff"s;
  const auto block = "\0"s + u16(header.size()) + u16(~header.size()) + header;
  all.push_back({"nifti_gzip", gzip + block, "\0\1\0\xfe\xff\0"s, ""});
  // Members that hold nothing.
  all.push_back({"nifti_gzip", "", gzip + "\3\0\0\0\0\0\0\0\0\0"s, ""});
}

constexpr std::uint32_t kPixels = 0x7fe00010, kFrameGroups = 0x52009230, kPlaneGroup = 0x00209113,
                        kPosition = 0x00200032, kAnySequence = 0x00081140, kItem = 0xfffee000,
                        kSequenceEnd = 0xfffee0dd;
constexpr auto kLittleEndian = "1.2.840.10008.1.2.1", kBigEndian = "1.2.840.10008.1.2.2",
               kJpegLs = "1.2.840.10008.1.2.4.80", kRle = "1.2.840.10008.1.2.5";

std::string tag_bytes(std::uint32_t tag) { return u16(tag >> 16) + u16(tag); }

// In explicit VR.
std::string element(std::uint32_t tag, const std::string& type, const std::string& value) {
  const bool is_long = type == "OB" || type == "SQ";
  const auto length = is_long ? u16(0) + u32(value.size()) : u16(value.size());
  return tag_bytes(tag) + type + length + value;
}

// The beginning of an element that goes on to sequence_end().
std::string begun(std::uint32_t tag, const std::string& type) {
  return tag_bytes(tag) + type + u16(0) + u32(UINT32_MAX);
}
std::string sequence_end() { return tag_bytes(kSequenceEnd) + u32(0); }

std::string item(const std::string& value) { return tag_bytes(kItem) + u32(value.size()) + value; }

// The beginning of a file.
std::string dicom(const std::string& syntax) {
  return std::string(128, '\0') + "DICM" + element(0x00020010, "UI", syntax);
}

// All that the file of a slice says before its frames. `name` is that of the instance.
std::string image(unsigned side, std::size_t frames, const std::string& name) {
  return element(0x00080018, "UI", name) + element(0x00180050, "DS", "1") +
         element(0x0020000e, "UI", "1.2") + element(kPosition, "DS", "0\\0\\0") +
         element(0x00200037, "DS", "1\\0\\0\\0\\1\\0") + element(0x00280004, "CS", "MONOCHROME2") +
         element(0x00280008, "IS", std::to_string(frames)) + element(0x00280010, "US", u16(side)) +
         element(0x00280011, "US", u16(side)) + element(0x00280030, "DS", "1\\1") +
         element(0x00280100, "US", u16(8));
}

// So many elements, of no bytes each.
std::string elements(std::uint32_t count) {
  std::string all;
  for (std::uint32_t i = 0; i < count; ++i) all += element(0x00100000 + i, "CS", "");
  return all;
}

// Sequences in sequences.
std::string nested(int depth) {
  return depth == 0 ? "" : element(kAnySequence, "SQ", item(nested(depth - 1)));
}

// Frames at places of their own, in a file whose instance has a long name: each slice of a series
// has that name.
Heavy frames_of_a_name() {
  constexpr std::size_t kFrames = 20'000, kNameBytes = 10'000, kHeaderOfPixels = 12;
  const std::string place = "000000";
  auto frame = item(element(kPlaneGroup, "SQ", item(element(kPosition, "DS", "0\\0\\" + place))));
  const auto frames_bytes = kFrames * frame.size();
  frame.replace(frame.find(place), place.size(), "#");
  const auto begin = dicom(kLittleEndian) + image(1, kFrames, std::string(kNameBytes, '1')) +
                     begun(kFrameGroups, "SQ");
  const auto rest = Heavy::kBytes - begin.size() - frames_bytes - sequence_end().size();
  const auto pixels = element(kPixels, "OB", std::string(rest - kHeaderOfPixels, '\0'));
  return {"dicom", begin, frame, sequence_end() + pixels, in_six_digits};
}

// A frame that is as large as its stream may promise (dicom_pixels.cpp), and a stream that is none.
Heavy frame_of_jpeg_ls() {
  constexpr unsigned kSide = 6868;
  constexpr auto kHigh = static_cast<char>(kSide >> 8), kLow = static_cast<char>(kSide & 0xff);
  const std::string side = {kHigh, kLow};
  const auto head = "\xff\xd8\xff\xf7\0\x0b\x08"s + side + side + "\1\1\x11\0"s +  // frame
                    "\xff\xda\0\x08\1\1\0\0\0\0"s;                                 // scan
  const auto end = "\xff\xd9"s + sequence_end();
  auto begin =
      dicom(kJpegLs) + image(kSide, 1, "1") + begun(kPixels, "OB") + item("") + tag_bytes(kItem);
  const auto stream_bytes =
      Heavy::kBytes - begin.size() - sizeof(std::uint32_t) - sequence_end().size();
  begin += u32(stream_bytes) + head;
  return {"dicom", begin, "a", end};
}

void add_dicom(Inputs& all) {
  const auto sequence = dicom(kLittleEndian) + begun(kAnySequence, "SQ");
  for (const auto* reader : {"dicom", "dicom_folder"}) {
    all.push_back({reader, dicom(kBigEndian), "#CS\0\0"s, "", in_four_bytes});
    all.push_back({reader, sequence, item(""), sequence_end()});
    // One more than a power of two: there is room for nearly twice as many.
    all.push_back({reader, sequence, item(elements(33)), sequence_end()});
    all.push_back({reader, sequence, item(nested(30)), sequence_end()});
    all.push_back({reader, dicom(kLittleEndian),
                   begun(kAnySequence, "SQ") + tag_bytes(kItem) + u32(UINT32_MAX), ""});
    // Fragments of pixels, which the table of their places comes before.
    all.push_back(
        {reader, dicom(kRle) + image(1, 1, "1") + begun(kPixels, "OB"), item(""), sequence_end()});
  }
  all.push_back(frames_of_a_name());
  all.push_back(frame_of_jpeg_ls());
  const auto slice =
      dicom(kLittleEndian) + image(1, 1, "1") + element(kPixels, "OB", "\0"s) + std::string(kCut);
  all.push_back(
      {"dicom_folder", test::repeated(slice, 7) + sequence, item(elements(33)), sequence_end()});
}

}  // namespace

std::vector<Heavy> heavy_volumes() {
  Inputs all;
  add_nifti(all);
  add_dicom(all);
  return all;
}

}  // namespace segmamba::fuzz
