#include "dicom_file.h"

#include <gdcmTagKeywords.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include "dicom_pixels.h"
#include "dicom_structure.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
namespace kw = gdcm::Keywords;

[[noreturn]] void fail_damaged(const fs::path& path, const std::string& what) {
  throw DamagedFileError(concat(path.string(), ": ", what));
}

template <class Keyword>
const DicomElement* element_of(const DicomSet& set) {
  return set.find(Keyword::GetTag().GetElementTag());
}

template <class Keyword>
std::string text_of(const DicomSet& set) {
  return text_of(set, Keyword::GetTag().GetElementTag());
}

// For messages, of one line.
template <class Keyword>
std::string shown_text_of(const DicomSet& set) {
  return printable_text_of(set, Keyword::GetTag().GetElementTag());
}

// Each slice of the file repeats some of them.
template <class Keyword>
std::string uid_of(const DicomSet& set, const fs::path& path, const char* name) {
  constexpr std::size_t kLongest = 64;  // PS3.5, 6.2
  std::string uid = shown_text_of<Keyword>(set);
  if (uid.size() > kLongest) {
    fail_damaged(path, concat("is damaged: its ", name, " has ", uid.size(),
                              " characters, UIDs have at most ", kLongest));
  }
  return uid;
}

template <class Keyword>
int integer_of(const DicomContent& content, int otherwise) {
  const DicomElement* element = element_of<Keyword>(content.set());
  if (element == nullptr || element->value.size() < 2) return otherwise;
  std::array<unsigned char, 2> bytes{};
  std::memcpy(bytes.data(), element->value.data(), bytes.size());
  if (content.syntax().is_big_endian) std::swap(bytes[0], bytes[1]);
  return bytes[0] | bytes[1] << 8;
}

// By the standard six numbers have 101 characters. Some files give more digits.
constexpr std::size_t kLongestNumbers = 1024;

// The text of numbers, without padding. Where it is too long for that, as it is: nothing looks
// through it, as each of thousands of frames may ask for it.
template <class Keyword>
std::string_view numbers_text_of(const DicomSet& set) {
  const DicomElement* element = element_of<Keyword>(set);
  if (element == nullptr) return {};
  const std::string_view text = element->value;
  if (text.size() > kLongestNumbers) return text;
  return text.substr(0, text.find_last_not_of(std::string_view(" \0", 2)) + 1);
}

// The numbers of "1.5\-2\3e-1"; nothing where they are not `count` finite numbers.
template <std::size_t count>
std::optional<std::array<double, count>> numbers_of(std::string_view text) {
  if (text.size() > kLongestNumbers) return std::nullopt;
  const auto parts = split(text, '\\');
  if (parts.size() != count) return std::nullopt;
  std::array<double, count> numbers{};
  for (std::size_t i = 0; i < count; ++i) {
    std::string part = trim(parts[i]);
    if (starts_with(part, "+")) part.erase(0, 1);
    const char* end = part.data() + part.size();
    const auto [last, error] = std::from_chars(part.data(), end, numbers[i]);
    if (error != std::errc() || last != end || !std::isfinite(numbers[i])) return std::nullopt;
  }
  return numbers;
}

// NaN where the text is there but no number.
double number_of(std::string_view text, double otherwise) {
  if (text.empty()) return otherwise;
  const auto number = numbers_of<1>(text);
  return number ? (*number)[0] : std::numeric_limits<double>::quiet_NaN();
}

// The items of a sequence; none where it is missing.
template <class Keyword>
const std::vector<DicomSet>& items_of(const DicomSet& set) {
  static const std::vector<DicomSet> none;
  const DicomElement* element = element_of<Keyword>(set);
  return element == nullptr ? none : element->items;
}

// Where the attributes of a frame may stand: in the file itself, or, in enhanced objects, in the
// functional groups of the frame or of all frames.
class FrameAttributes {
 public:
  FrameAttributes(const DicomSet& file, const DicomSet* shared, const DicomSet* per_frame)
      : file_(file), groups_{per_frame, shared} {}

  template <class Group, class Keyword>
  std::string_view text() const {
    for (const DicomSet* set : groups_) {
      if (set == nullptr) continue;
      const auto& group = items_of<Group>(*set);
      if (group.empty()) continue;
      const auto text = numbers_text_of<Keyword>(group.front());
      if (!text.empty()) return text;
    }
    return numbers_text_of<Keyword>(file_);
  }

 private:
  const DicomSet& file_;
  std::array<const DicomSet*, 2> groups_;
};

DicomFrame frame_of(const FrameAttributes& attributes) {
  DicomFrame frame;
  frame.position =
      numbers_of<3>(attributes.text<kw::PlanePositionSequence, kw::ImagePositionPatient>());
  frame.orientation =
      numbers_of<6>(attributes.text<kw::PlaneOrientationSequence, kw::ImageOrientationPatient>());
  frame.spacing = numbers_of<2>(attributes.text<kw::PixelMeasuresSequence, kw::PixelSpacing>());
  for (const auto text : {attributes.text<kw::PixelMeasuresSequence, kw::SpacingBetweenSlices>(),
                          attributes.text<kw::PixelMeasuresSequence, kw::SliceThickness>()}) {
    const double value = std::abs(number_of(text, 0));
    if (frame.thickness == 0 && std::isfinite(value)) frame.thickness = value;
  }
  using Transformation = kw::PixelValueTransformationSequence;
  frame.slope = number_of(attributes.text<Transformation, kw::RescaleSlope>(), 1);
  frame.intercept = number_of(attributes.text<Transformation, kw::RescaleIntercept>(), 0);
  return frame;
}

std::size_t frame_count(const DicomSet& set, const fs::path& path) {
  constexpr double kMostFrames = 1 << 16;
  const double frames = number_of(numbers_text_of<kw::NumberOfFrames>(set), 1);
  const std::size_t described = items_of<kw::PerFrameFunctionalGroupsSequence>(set).size();
  if (!(frames >= 1 && frames <= kMostFrames && frames == std::floor(frames)) ||
      (described > 0 && static_cast<double>(described) != frames)) {
    fail_damaged(path, concat("is damaged: it says that it has ", frames, " frames and describes ",
                              described));
  }
  return static_cast<std::size_t>(frames);
}

void read_frame_attributes(const DicomSet& set, DicomFile& file) {
  const auto& shared = items_of<kw::SharedFunctionalGroupsSequence>(set);
  const auto& per_frame = items_of<kw::PerFrameFunctionalGroupsSequence>(set);
  const bool has_many = file.frames.size() > 1;
  file.is_multi_frame = has_many || !per_frame.empty();
  const DicomSet* of_all = shared.empty() ? nullptr : &shared.front();
  for (std::size_t i = 0; i < file.frames.size(); ++i) {
    const DicomSet* own = per_frame.empty() ? nullptr : &per_frame[i];
    file.frames[i] = frame_of({set, of_all, own});
    // One position for the file says nothing of its frames.
    if (has_many && own == nullptr) file.frames[i].position.reset();
  }
}

// Type 2 of the standard: there, but possibly empty.
enum class Presence { kAlways, kWhereKnown };

template <Presence presence, class... Keywords>
void append_context(const DicomSet& set, std::vector<DicomAttribute>& context) {
  const auto append = [&](const gdcm::Tag& tag, std::string value) {
    if (presence == Presence::kWhereKnown && value.empty()) return;
    context.push_back({tag.GetGroup(), tag.GetElement(), std::move(value)});
  };
  (append(Keywords::GetTag(), text_of<Keywords>(set)), ...);
}

// The modules Patient, General Study, Patient Study and Frame of Reference, and what an image
// derived from this one says of it.
std::vector<DicomAttribute> context_of(const DicomSet& set) {
  std::vector<DicomAttribute> context;
  append_context<Presence::kAlways, kw::PatientName, kw::PatientID, kw::PatientBirthDate,
                 kw::PatientSex, kw::StudyDate, kw::StudyTime, kw::StudyID, kw::AccessionNumber,
                 kw::ReferringPhysicianName, kw::PositionReferenceIndicator>(set, context);
  append_context<Presence::kWhereKnown, kw::SpecificCharacterSet, kw::IssuerOfPatientID,
                 kw::PatientAge, kw::PatientSize, kw::PatientWeight, kw::StudyDescription,
                 kw::BodyPartExamined, kw::LossyImageCompressionRatio,
                 kw::LossyImageCompressionMethod>(set, context);
  // The standard wants the method told where the identity is removed.
  if (!text_of<kw::DeidentificationMethod>(set).empty()) {
    append_context<Presence::kWhereKnown, kw::PatientIdentityRemoved, kw::DeidentificationMethod>(
        set, context);
  }
  const auto lossy = text_of<kw::LossyImageCompression>(set);
  const gdcm::Tag tag = kw::LossyImageCompression::GetTag();
  context.push_back({tag.GetGroup(), tag.GetElement(), lossy == "01" ? "01" : "00"});
  return context;
}

bool is_segmentation(const std::string& sop_class) {
  return sop_class == "1.2.840.10008.5.1.4.1.1.66.4" || sop_class == "1.2.840.10008.5.1.4.1.1.66.7";
}

// Classes of slices and volumes, PS3.6: CT, MR, PET, nuclear medicine, secondary capture.
bool is_of_images(const std::string& sop_class) {
  constexpr std::string_view kRoot = "1.2.840.10008.5.1.4.1.1.";
  const std::set<std::string> classes = {"2",   "2.1",   "2.2", "4", "4.1", "4.3", "4.4", "128",
                                         "130", "128.1", "20",  "7", "7.2", "7.3", "7.4"};
  return starts_with(sop_class, kRoot) && classes.contains(sop_class.substr(kRoot.size()));
}

// An image that was cut off before its size and its pixels is one still.
bool is_image(const DicomContent& content) {
  const DicomSet& set = content.set();
  const std::string sop_class = text_of<kw::MediaStorageSOPClassUID>(content.meta());
  if (is_segmentation(sop_class) || is_segmentation(text_of<kw::SOPClassUID>(set))) return false;
  return element_of<kw::Rows>(set) != nullptr || set.find(kPixelTag) != nullptr ||
         is_of_images(sop_class);
}

DicomFile parse(const fs::path& path, const DicomContent& content) {
  const DicomSet& set = content.set();
  DicomFile file;
  file.path = path;
  file.sop_class_uid = uid_of<kw::SOPClassUID>(set, path, "SOP Class UID");
  file.sop_instance_uid = uid_of<kw::SOPInstanceUID>(set, path, "SOP Instance UID");
  file.study_uid = uid_of<kw::StudyInstanceUID>(set, path, "Study Instance UID");
  file.series_uid = uid_of<kw::SeriesInstanceUID>(set, path, "Series Instance UID");
  file.frame_of_reference_uid =
      uid_of<kw::FrameOfReferenceUID>(set, path, "Frame of Reference UID");
  file.modality = shown_text_of<kw::Modality>(set);
  file.series_description = shown_text_of<kw::SeriesDescription>(set);
  file.columns = integer_of<kw::Columns>(content, 0);
  file.rows = integer_of<kw::Rows>(content, 0);
  if (file.columns == 0 || file.rows == 0 || file.series_uid.empty()) {
    fail_damaged(path, "is damaged or truncated: its header has no image size or no series");
  }
  file.samples_per_pixel = integer_of<kw::SamplesPerPixel>(content, 1);
  file.bits_allocated = integer_of<kw::BitsAllocated>(content, 16);
  if (file.bits_allocated > 64) {
    fail_damaged(path,
                 concat("is damaged: it says that its values have ", file.bits_allocated, " bits"));
  }
  file.bits_stored = integer_of<kw::BitsStored>(content, file.bits_allocated);
  file.high_bit = integer_of<kw::HighBit>(content, file.bits_stored - 1);
  file.is_signed = integer_of<kw::PixelRepresentation>(content, 0) != 0;
  file.photometric_interpretation = shown_text_of<kw::PhotometricInterpretation>(set);
  file.has_modality_table = !items_of<kw::ModalityLUTSequence>(set).empty();
  file.context = context_of(set);
  file.frames.resize(frame_count(set, path));
  check_pixels(file, content);
  read_frame_attributes(set, file);
  return file;
}

}  // namespace

std::optional<DicomFile> open_dicom(const fs::path& path) {
  const DicomContent content(path);
  if (!is_image(content)) return std::nullopt;
  return parse(path, content);
}

}  // namespace segmamba::io
