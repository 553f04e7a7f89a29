#pragma once
// The structure of JPEG, JPEG-LS and JPEG 2000 streams, checked against what a DICOM header says.

#include <cstddef>
#include <string>
#include <string_view>

#include "dicom_codecs.h"

namespace segmamba::io {

// Processes of JPEG by the marker of their frame; all others that pass are sequential ones with the
// cosine transform.
inline constexpr int kLosslessJpeg = 0xc3, kJpegLs = 0xf7;

// What a stream says of itself.
struct Codestream {
  int process = 0;  // of JPEG
  int precision = 0;
  bool is_signed = false;  // JPEG 2000
  std::string bytes;       // without application data, comments and padding
};

// Both return what is wrong: segments that do not follow each other to the end of the stream, or a
// frame that is not one component of the size of `shape`, or does not fit its values.
// JPEG: ITU-T T.81, annex B; JPEG-LS: T.87, annex C.
std::string check_jpeg(std::string_view stream, const FrameShape& shape, Codestream& result);
// JPEG 2000: ITU-T T.800, annex A.
std::string check_jpeg2000(std::string_view stream, const FrameShape& shape, Codestream& result);

}  // namespace segmamba::io
