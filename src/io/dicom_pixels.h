#pragma once
// The pixel data of a DICOM file.

#include <cstddef>
#include <functional>
#include <span>

#include "dicom_file.h"
#include "dicom_structure.h"

namespace segmamba::io {

// Throws DamagedFileError where there are none, or (of compressed ones: far) fewer than the header
// says.
void check_pixels(const DicomFile& file, const DicomContent& content);

// Writes each frame's [rows, columns] values, rescaled, to the place that `target` names, which is
// asked when the frame has been decoded. The file
// must hold one grey sample a pixel. Throws DamagedFileError; NotFiniteError for values that float
// does not hold; and Error for a transfer syntax that is not supported.
void read_frames(const DicomFile& file,
                 const std::function<std::span<float>(std::size_t frame)>& target);

}  // namespace segmamba::io
