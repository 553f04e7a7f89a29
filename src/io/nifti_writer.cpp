#include "nifti_writer.h"

#include <algorithm>
#include <array>
#include <bit>

#include "nifti_types.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat("cannot write ", path.string(), ": ", what));
}

// Everything between the header and the first voxel: the mark of an extension, and the extension.
std::string extension_bytes(const fs::path& path, const std::string& text) {
  constexpr std::size_t kMark = 4, kPrefix = 8, kAlignment = 16, kLargest = std::size_t{1} << 20;
  std::string bytes(kMark, '\0');
  if (text.empty()) return bytes;
  if (text.size() >= kLargest) {
    fail(path, concat("a header extension of ", format_bytes(text.size()), " is too long"));
  }
  bytes[0] = 1;
  constexpr std::int32_t kComment = 6;
  const std::size_t size = (kPrefix + text.size() + kAlignment - 1) / kAlignment * kAlignment;
  for (const std::int32_t field : {static_cast<std::int32_t>(size), kComment}) {
    const auto raw = std::bit_cast<std::array<char, sizeof(field)>>(field);
    bytes.append(raw.begin(), raw.end());
  }
  bytes += text;
  bytes.resize(kMark + size, '\0');
  return bytes;
}

}  // namespace

void write_nifti(const fs::path& path, NiftiHeader header, const NiftiContent& content,
                 const FillBytes& fill) {
  const std::string name = path.filename().string();
  const bool is_compressed = ends_with(name, ".nii.gz");
  if (!is_compressed && !ends_with(name, ".nii")) {
    fail(path, "the name must end in .nii or .nii.gz");
  }
  header.datatype = static_cast<int>(content.type);
  header.bits_per_voxel =
      visit_type(content.type, []<class Stored>() { return static_cast<int>(8 * sizeof(Stored)); });
  header.slope = content.slope;
  header.intercept = content.intercept;

  const std::string program = concat("segmamba ", version());
  const std::string description =
      content.subject.empty() ? program : concat(program, ": ", content.subject);
  const std::string extension = extension_bytes(path, content.extension);
  header.voxel_offset =
      static_cast<std::int64_t>(header_bytes(header, description).size() + extension.size());
  const std::string head = header_bytes(header, description) + extension;
  write_file_atomically(path, [&](OutputFile& file) {
    write_blocks(file, is_compressed, head, header.data_bytes(), fill);
  });
}

}  // namespace segmamba::io
