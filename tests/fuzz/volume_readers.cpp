#include <libdeflate.h>

#include <memory>
#include <new>

#include "readers.h"
#include "scratch.h"
#include "segmamba/io/dicom.h"
#include "segmamba/io/volume.h"

namespace segmamba::fuzz {
namespace {

namespace fs = std::filesystem;

// The parts of a volume, each by the function that reads it alone.
void read_volume(const fs::path& path) {
  Calls call;
  call([&] { io::read_geometry(path); });
  call([&] { io::count_volumes(path); });
  call([&] { io::read_image(path); });
  call([&] { io::read_image(path, 1); });
  call([&] { io::read_images(path); });
  call([&] { io::read_labels(path); });
  call.finish();
}

void read_nifti(std::string_view input) { read_volume(scratch_file("volume.nii", input)); }

void read_gzip(std::string_view input) { read_volume(scratch_file("volume.nii.gz", input)); }

std::string gzipped(std::string_view content) {
  constexpr int kFastest = 1;
  const std::unique_ptr<libdeflate_compressor, decltype(&libdeflate_free_compressor)> compressor(
      libdeflate_alloc_compressor(kFastest), &libdeflate_free_compressor);
  if (!compressor) throw std::bad_alloc();
  std::string packed(libdeflate_gzip_compress_bound(compressor.get(), content.size()), '\0');
  packed.resize(libdeflate_gzip_compress(compressor.get(), content.data(), content.size(),
                                         packed.data(), packed.size()));
  return packed;
}

// What a sound gzip stream holds: mutations of a packed file hardly ever get past its check sum.
void read_packed_nifti(std::string_view input) {
  read_volume(scratch_file("volume.nii.gz", gzipped(input)));
}

// A header, and the voxels behind the cut.
void read_nifti_pair(std::string_view input) {
  const auto files = parts(input, 2);
  const auto header = scratch_file("volume.hdr", files[0]);
  scratch_file("volume.img", files.size() > 1 ? files[1] : "");
  read_volume(header);
}

void read_series(const fs::path& folder) {
  Calls call;
  call([&] { io::is_dicom_series(folder); });
  call([&] { io::read_dicom_geometry(folder); });
  call([&] { io::read_dicom(folder); });
  call.finish();
}

void read_dicom_file(std::string_view input) {
  static const auto kFolder = empty_folder("slice");
  scratch_file("slice/slice.dcm", input);
  read_series(kFolder);
}

// Files of one folder.
void read_dicom_folder(std::string_view input) {
  const auto folder = empty_folder("series");
  const auto files = parts(input, 8);
  for (std::size_t i = 0; i < files.size(); ++i) {
    scratch_file("series/" + std::to_string(i), files[i]);
  }
  read_series(folder);
}

}  // namespace

std::vector<Reader> volume_readers() {
  return {
      {"nifti", "nifti", read_nifti},
      {"nifti_gzip", "nifti", read_gzip},
      {"nifti_packed", "nifti", read_packed_nifti},
      {"nifti_pair", "nifti", read_nifti_pair},
      {"dicom", "dicom", read_dicom_file},
      {"dicom_folder", "dicom", read_dicom_folder},
  };
}

}  // namespace segmamba::fuzz
