#include "dicom_file.h"

#include <gdcmImageReader.h>
#include <gdcmMediaStorage.h>
#include <gdcmReader.h>
#include <gdcmSequenceOfFragments.h>
#include <gdcmSequenceOfItems.h>
#include <gdcmTagKeywords.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string_view>
#include <type_traits>

#include "gdcm_door.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
namespace kw = gdcm::Keywords;

constexpr auto kBadHeader = "is damaged or truncated: its DICOM header cannot be read";

[[noreturn]] void fail_damaged(const fs::path& path, const std::string& what) {
  throw DamagedFileError(concat(path.string(), ": ", what));
}

// The bytes of an element; none where it is missing, empty or a sequence.
std::string_view bytes_of(const gdcm::DataSet& set, const gdcm::Tag& tag) {
  if (!set.FindDataElement(tag)) return {};
  const gdcm::ByteValue* bytes = set.GetDataElement(tag).GetByteValue();
  if (bytes == nullptr || bytes->GetPointer() == nullptr) return {};
  return {bytes->GetPointer(), bytes->GetLength()};
}

// Values are padded to an even length, by a space or, for UIDs, by a zero.
template <class Keyword>
std::string text_of(const gdcm::DataSet& set) {
  std::string text(bytes_of(set, Keyword::GetTag()));
  text.erase(text.find_last_not_of(std::string_view(" \0", 2)) + 1);
  return text;
}

template <class Keyword>
int integer_of(const gdcm::DataSet& set, int otherwise) {
  const std::string_view bytes = bytes_of(set, Keyword::GetTag());
  std::uint16_t value = 0;
  if (bytes.size() < sizeof(value)) return otherwise;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// The numbers of "1.5\-2\3e-1"; nothing where they are not `count` finite numbers.
template <std::size_t count>
std::optional<std::array<double, count>> numbers_of(const std::string& text) {
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
double number_of(const std::string& text, double otherwise) {
  if (text.empty()) return otherwise;
  const auto number = numbers_of<1>(text);
  return number ? (*number)[0] : std::numeric_limits<double>::quiet_NaN();
}

using Sequence = gdcm::SmartPointer<gdcm::SequenceOfItems>;

template <class Keyword>
Sequence sequence_of(const gdcm::DataSet& set) {
  if (!set.FindDataElement(Keyword::GetTag())) return nullptr;
  return set.GetDataElement(Keyword::GetTag()).GetValueAsSQ();
}

const gdcm::DataSet& item_of(const Sequence& sequence, std::size_t index) {
  return sequence->GetItem(index + 1).GetNestedDataSet();  // GDCM counts from 1
}

std::size_t item_count(const Sequence& sequence) {
  return sequence ? sequence->GetNumberOfItems() : 0;
}

// Where the attributes of a frame may stand: in the file itself, or, in enhanced objects, in the
// functional groups of the frame or of all frames.
class FrameAttributes {
 public:
  FrameAttributes(const gdcm::DataSet& file, const gdcm::DataSet* shared,
                  const gdcm::DataSet* per_frame)
      : file_(file), groups_{per_frame, shared} {}

  template <class Group, class Keyword>
  std::string text() const {
    for (const gdcm::DataSet* set : groups_) {
      if (set == nullptr) continue;
      const Sequence group = sequence_of<Group>(*set);
      if (item_count(group) == 0) continue;
      const std::string text = text_of<Keyword>(item_of(group, 0));
      if (!text.empty()) return text;
    }
    return text_of<Keyword>(file_);
  }

 private:
  const gdcm::DataSet& file_;
  std::array<const gdcm::DataSet*, 2> groups_;
};

DicomFrame frame_of(const FrameAttributes& attributes) {
  DicomFrame frame;
  frame.position =
      numbers_of<3>(attributes.text<kw::PlanePositionSequence, kw::ImagePositionPatient>());
  frame.orientation =
      numbers_of<6>(attributes.text<kw::PlaneOrientationSequence, kw::ImageOrientationPatient>());
  frame.spacing = numbers_of<2>(attributes.text<kw::PixelMeasuresSequence, kw::PixelSpacing>());
  for (const auto& text : {attributes.text<kw::PixelMeasuresSequence, kw::SpacingBetweenSlices>(),
                           attributes.text<kw::PixelMeasuresSequence, kw::SliceThickness>()}) {
    const double value = std::abs(number_of(text, 0));
    if (frame.thickness == 0 && std::isfinite(value)) frame.thickness = value;
  }
  using Transformation = kw::PixelValueTransformationSequence;
  frame.slope = number_of(attributes.text<Transformation, kw::RescaleSlope>(), 1);
  frame.intercept = number_of(attributes.text<Transformation, kw::RescaleIntercept>(), 0);
  return frame;
}

void read_frame_attributes(const gdcm::DataSet& set, DicomFile& file) {
  const double frames = number_of(text_of<kw::NumberOfFrames>(set), 1);
  const Sequence shared = sequence_of<kw::SharedFunctionalGroupsSequence>(set);
  const Sequence per_frame = sequence_of<kw::PerFrameFunctionalGroupsSequence>(set);
  constexpr double kMostFrames = 1 << 20;
  const auto groups = static_cast<double>(item_count(per_frame));
  if (!(frames >= 1 && frames <= kMostFrames) || (groups > 0 && groups != frames)) {
    fail_damaged(file.path, concat("is damaged: it says that it has ", frames,
                                   " frames and describes ", groups));
  }
  file.is_multi_frame = frames > 1 || groups > 0;
  const gdcm::DataSet* of_all = item_count(shared) > 0 ? &item_of(shared, 0) : nullptr;
  for (std::size_t i = 0; i < static_cast<std::size_t>(frames); ++i) {
    const gdcm::DataSet* own = groups > 0 ? &item_of(per_frame, i) : nullptr;
    file.frames.push_back(frame_of({set, of_all, own}));
    // One position for the file says nothing of its frames.
    if (frames > 1 && own == nullptr) file.frames.back().position.reset();
  }
}

// Type 2 of the standard: there, but possibly empty.
enum class Presence { kAlways, kWhereKnown };

template <Presence presence, class... Keywords>
void append_context(const gdcm::DataSet& set, std::vector<DicomAttribute>& context) {
  const auto append = [&](const gdcm::Tag& tag, std::string value) {
    if (presence == Presence::kWhereKnown && value.empty()) return;
    context.push_back({tag.GetGroup(), tag.GetElement(), std::move(value)});
  };
  (append(Keywords::GetTag(), text_of<Keywords>(set)), ...);
}

// The modules Patient, General Study, Patient Study and Frame of Reference, and what an image
// derived from this one says of it.
std::vector<DicomAttribute> context_of(const gdcm::DataSet& set) {
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

// Unknown storage classes are images where they have rows.
bool is_image(const gdcm::MediaStorage& storage, const gdcm::DataSet& set) {
  const gdcm::MediaStorage::MSType type = storage;
  if (type == gdcm::MediaStorage::SegmentationStorage) return false;
  if (type == gdcm::MediaStorage::MS_END) return set.FindDataElement(kw::Rows::GetTag());
  return gdcm::MediaStorage::IsImage(type);
}

std::size_t pixel_bytes(const DicomFile& file) {
  return static_cast<std::size_t>(file.columns * file.rows) * file.frames.size() *
         static_cast<std::size_t>(file.bits_allocated / 8);
}

// A damaged header may promise anything; memory is taken only for what the file can hold.
void refuse_promises(const DicomFile& file, const gdcm::TransferSyntax& syntax) {
  constexpr std::size_t kLargestRatio = 10'000;  // of blank frames, by JPEG 2000
  const bool is_compressed =
      syntax.IsEncapsulated() || syntax == gdcm::TransferSyntax::DeflatedExplicitVRLittleEndian;
  const std::size_t ratio = is_compressed ? kLargestRatio : 1;
  std::error_code error;
  const auto on_disk = fs::file_size(file.path, error);
  if (error || pixel_bytes(file) / ratio <= on_disk) return;
  fail_damaged(file.path, concat("is damaged or truncated: its header promises ", pixel_bytes(file),
                                 " bytes of pixel data, it holds ", on_disk, " bytes in all"));
}

std::optional<DicomFile> parse(const fs::path& path, const gdcm::File& content) {
  const gdcm::DataSet& set = content.GetDataSet();
  if (!is_image(content.GetHeader().GetMediaStorage(), set)) return std::nullopt;
  DicomFile file;
  file.path = path;
  file.sop_class_uid = text_of<kw::SOPClassUID>(set);
  file.sop_instance_uid = text_of<kw::SOPInstanceUID>(set);
  file.study_uid = text_of<kw::StudyInstanceUID>(set);
  file.series_uid = text_of<kw::SeriesInstanceUID>(set);
  file.frame_of_reference_uid = text_of<kw::FrameOfReferenceUID>(set);
  file.modality = text_of<kw::Modality>(set);
  file.series_description = text_of<kw::SeriesDescription>(set);
  file.columns = integer_of<kw::Columns>(set, 0);
  file.rows = integer_of<kw::Rows>(set, 0);
  if (file.columns == 0 || file.rows == 0 || file.series_uid.empty()) {
    fail_damaged(path, "is damaged or truncated: its header has no image size or no series");
  }
  file.samples_per_pixel = integer_of<kw::SamplesPerPixel>(set, 1);
  file.bits_allocated = integer_of<kw::BitsAllocated>(set, 16);
  file.bits_stored = integer_of<kw::BitsStored>(set, file.bits_allocated);
  file.high_bit = integer_of<kw::HighBit>(set, file.bits_stored - 1);
  file.photometric_interpretation = text_of<kw::PhotometricInterpretation>(set);
  file.has_modality_table = item_count(sequence_of<kw::ModalityLUTSequence>(set)) > 0;
  file.context = context_of(set);
  read_frame_attributes(set, file);
  refuse_promises(file, content.GetHeader().GetDataSetTransferSyntax());
  return file;
}

// Bits above those stored are not part of a value (old files keep overlays there).
template <class Stored>
float value_of(const char* bytes, int bits_stored, double slope, double intercept) {
  Stored stored{};
  std::memcpy(&stored, bytes, sizeof(Stored));
  const int unused = static_cast<int>(8 * sizeof(Stored)) - bits_stored;
  using Unsigned = std::make_unsigned_t<Stored>;
  stored = static_cast<Stored>(static_cast<Unsigned>(static_cast<Unsigned>(stored) << unused));
  stored = static_cast<Stored>(stored >> unused);
  return static_cast<float>(static_cast<double>(stored) * slope + intercept);
}

template <class Stored>
void convert_frames(const DicomFile& file, const std::vector<char>& pixels,
                    const std::function<void(std::size_t, std::span<const float>)>& sink) {
  std::vector<float> values(static_cast<std::size_t>(file.columns * file.rows));
  const char* source = pixels.data();
  for (std::size_t i = 0; i < file.frames.size(); ++i) {
    const DicomFrame& frame = file.frames[i];
    for (float& value : values) {
      value = value_of<Stored>(source, file.bits_stored, frame.slope, frame.intercept);
      source += sizeof(Stored);
    }
    const auto bad = std::count_if(values.begin(), values.end(),
                                   [](float value) { return !std::isfinite(value); });
    if (bad > 0) {
      throw NotFiniteError(concat(file.path.string(), ": ", bad, " of ", values.size(),
                                  " values are not finite (rescale slope ", frame.slope,
                                  ", intercept ", frame.intercept, ")"));
    }
    sink(i, values);
  }
}

std::vector<char> decode(const DicomFile& file, const gdcm::Image& image) {
  const std::size_t expected = pixel_bytes(file);
  if (const gdcm::ByteValue* raw = image.GetDataElement().GetByteValue();
      raw != nullptr && raw->GetLength() < expected) {
    fail_damaged(file.path, concat("is truncated: its header promises ", expected,
                                   " bytes of pixel data, it holds ", raw->GetLength()));
  }
  std::vector<char> pixels;
  const bool decoded = succeeds([&] {
    if (image.GetBufferLength() != expected) return false;
    pixels.resize(expected);
    return image.GetBuffer(pixels.data());
  });
  if (!decoded) {
    fail_damaged(file.path,
                 concat("is damaged, or its compression (", image.GetTransferSyntax().GetString(),
                        ") is not supported: its pixel data cannot be decoded"));
  }
  return pixels;
}

}  // namespace

bool has_dicom_mark(const fs::path& path) {
  constexpr std::string_view kMark = "DICM";
  constexpr std::streamoff kOffset = 128;
  std::ifstream file(path, std::ios::binary);
  std::array<char, kMark.size()> bytes{};
  return file.seekg(kOffset) && file.read(bytes.data(), bytes.size()) &&
         std::string_view(bytes.data(), bytes.size()) == kMark;
}

std::optional<DicomFile> open_dicom(const fs::path& path) {
  gdcm::Reader reader;
  reader.SetFileName(path.c_str());
  if (!succeeds([&] { return reader.ReadUpToTag(kPixelData); })) {
    fail_damaged(path, kBadHeader);
  }
  try {
    return parse(path, reader.GetFile());
  } catch (const gdcm::Exception&) {  // sequences are unpacked as they are looked at
    fail_damaged(path, kBadHeader);
  }
}

void read_frames(const DicomFile& file,
                 const std::function<void(std::size_t, std::span<const float>)>& sink) {
  gdcm::ImageReader reader;
  reader.SetFileName(file.path.c_str());
  if (!succeeds([&] { return reader.Read(); })) {
    fail_damaged(file.path, "is damaged or truncated: it has no pixel data that can be read");
  }
  const gdcm::Image& image = reader.GetImage();
  const std::vector<char> pixels = decode(file, image);
  const bool is_signed = image.GetPixelFormat().GetPixelRepresentation() != 0;
  switch (file.bits_allocated) {
    case 8:
      return is_signed ? convert_frames<std::int8_t>(file, pixels, sink)
                       : convert_frames<std::uint8_t>(file, pixels, sink);
    case 16:
      return is_signed ? convert_frames<std::int16_t>(file, pixels, sink)
                       : convert_frames<std::uint16_t>(file, pixels, sink);
    default:
      return is_signed ? convert_frames<std::int32_t>(file, pixels, sink)
                       : convert_frames<std::uint32_t>(file, pixels, sink);
  }
}

}  // namespace segmamba::io
