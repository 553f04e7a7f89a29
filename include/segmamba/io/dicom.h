#pragma once
// DICOM series: a scan as its slices, a file each, or all in one enhanced multi-frame file.

#include <filesystem>

#include "segmamba/io/volume.h"

namespace segmamba::io {

// A series is named by the folder that holds its files (in any order, under any names), or, where
// series share a folder, by "folder#SERIES_INSTANCE_UID". Files of other kinds (DICOMDIR, README,
// reports, segmentations) are skipped, sub-folders are not looked into. read_geometry, read_image,
// read_images and count_volumes of volume.h take such a name, too.

// Whether there is a DICOM file in the folder. Opens files only until it has found one.
bool is_dicom_series(const std::filesystem::path& series);

// The slices in the order of their place along the normal, with the rescaling of each applied, read
// by thread_count() threads. Grey values that are raw, deflated, or compressed by RLE, JPEG
// (lossless, baseline, extended), JPEG-LS or JPEG 2000. Whatever is in the files, it is a volume or
// an Error: DamagedFileError for files that are cut off, contradict themselves or do not decode,
// NotFiniteError for values that float does not hold, and Error where the slices are no regular
// grid (missing, double, sheared by a tilted gantry, of differing size or direction), without a
// place in the patient, in colour, inverted (MONOCHROME1) or in another transfer syntax, or where
// there is no series or more than one.
Image read_dicom(const std::filesystem::path& series);

// The same without the voxels; the pixel data are not read.
Geometry read_dicom_geometry(const std::filesystem::path& series);

}  // namespace segmamba::io
