#pragma once
// The one way to a NIfTI file: single-file, plain or compressed, block by block.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "gzip_file.h"
#include "nifti_header.h"
#include "segmamba/io/nifti_style.h"

namespace segmamba::io {

// What a file says of its voxels.
struct NiftiContent {
  NiftiType type = NiftiType::kFloat32;
  double slope = 1, intercept = 0;
  std::string subject{};    // stands in the description behind the program and its version
  std::string extension{};  // text of a header extension (NIFTI_ECODE_COMMENT); "" for none
};

// A file of `header`'s sizes and place, atomically. `fill` makes the stored bytes of all voxels, as
// write_blocks calls it. Throws Error naming the file.
void write_nifti(const std::filesystem::path& path, NiftiHeader header, const NiftiContent& content,
                 const FillBytes& fill);

// The same with voxels of `Stored`, which is the type that content.type names:
// fill(index of the first voxel, std::span<Stored> voxels).
template <class Stored, class Fill>
void write_nifti_voxels(const std::filesystem::path& path, const NiftiHeader& header,
                        const NiftiContent& content, const Fill& fill) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(Stored));
  write_nifti(path, header, content, [&](std::int64_t offset, std::span<char> bytes) {
    fill(offset / kSize, std::span(reinterpret_cast<Stored*>(bytes.data()), bytes.size() / kSize));
  });
}

}  // namespace segmamba::io
