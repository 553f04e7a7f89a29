#include "itk_nifti.h"

#include <itkNiftiImageIO.h>
#include <itkNiftiImageIOFactory.h>
#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <mutex>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

// Once a process: ITK's registry of formats is filled on first use and is not safe to fill from
// several threads, and its warnings would go to the terminal past the log.
itk::NiftiImageIO::Pointer make_itk_io() {
  static std::once_flag once;
  std::call_once(once, [] {
    itk::Object::GlobalWarningDisplayOff();
    itk::NiftiImageIOFactory::RegisterOneFactory();
  });
  return itk::NiftiImageIO::New();
}

// ITK's messages have several lines and name its own source files; the description is the last.
[[noreturn]] void fail(const fs::path& path, const std::string& what,
                       const itk::ExceptionObject& error) {
  std::string text = trim(error.GetDescription());
  std::replace(text.begin(), text.end(), '\n', ' ');
  throw Error(concat(path.string(), ": ITK cannot ", what, " it: ", text));
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code error;
    const fs::path parent = fs::temp_directory_path(error);
    if (error) throw Error(concat("TMPDIR does not name a usable folder: ", error.message()));
    std::string name = (parent / "segmamba-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      throw Error(concat("cannot make the folder ", name, ": ", std::strerror(errno),
                         " (TMPDIR names the folder for temporary copies)"));
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// ITK 5.2 reads neither NIfTI-2 nor direction cosines that rounding has moved, and its numerics
// library writes to the terminal about some. So it gets every file's voxels, once they are known to
// be complete, behind a plain header; the orientation comes from our own parser.
void write_plain_copy(const fs::path& path, const NiftiFile& file) {
  std::ofstream output(path, std::ios::binary);
  output << plain_header(file.header);
  std::int64_t not_finite = 0;
  read_content(file, [&](std::span<const char> piece) {
    output.write(piece.data(), static_cast<std::streamsize>(piece.size()));
    not_finite += count_not_finite(piece, file.header);
  });
  if (not_finite > 0) {
    const auto& dim = file.header.dim;
    throw Error(concat(file.header_path.string(), ": ", not_finite, " of ",
                       dim[1] * dim[2] * dim[3], " voxels are NaN or infinite"));
  }
  output.close();
  if (!output) {
    throw Error(concat("cannot write ", path.string(),
                       " (is the disk full? TMPDIR names the folder for such copies)"));
  }
}

template <class T>
Voxels read_as(itk::NiftiImageIO& io, std::int64_t count) {
  std::vector<T> voxels(static_cast<std::size_t>(count));
  io.Read(voxels.data());
  return voxels;
}

Voxels read_component(itk::NiftiImageIO& io, std::int64_t count) {
  using Type = itk::IOComponentEnum;
  switch (io.GetComponentType()) {
    case Type::UCHAR:
      return read_as<std::uint8_t>(io, count);
    case Type::CHAR:
      return read_as<std::int8_t>(io, count);
    case Type::USHORT:
      return read_as<std::uint16_t>(io, count);
    case Type::SHORT:
      return read_as<std::int16_t>(io, count);
    case Type::UINT:
      return read_as<std::uint32_t>(io, count);
    case Type::INT:
      return read_as<std::int32_t>(io, count);
    case Type::ULONG:
    case Type::ULONGLONG:
      static_assert(sizeof(unsigned long) == 8, "ITK's ULONG is read as 64 bits");
      return read_as<std::uint64_t>(io, count);
    case Type::LONG:
    case Type::LONGLONG:
      return read_as<std::int64_t>(io, count);
    case Type::FLOAT:
      return read_as<float>(io, count);
    case Type::DOUBLE:
      return read_as<double>(io, count);
    default:
      throw Error(concat(io.GetFileName(), ": ITK reports an unknown voxel type"));
  }
}

template <class T>
void write_with_itk(const fs::path& path, const Geometry& geometry, std::span<const T> voxels,
                    itk::IOComponentEnum component) {
  const auto io = make_itk_io();
  io->SetFileName(path.string());
  io->SetNumberOfDimensions(3);
  io->SetPixelType(itk::IOPixelEnum::SCALAR);
  io->SetNumberOfComponents(1);
  io->SetComponentType(component);
  io->SetUseCompression(false);
  itk::ImageIORegion region(3);
  for (unsigned axis = 0; axis < 3; ++axis) {
    const auto size = static_cast<itk::SizeValueType>(geometry.size[axis]);
    io->SetDimensions(axis, size);
    io->SetSpacing(axis, geometry.spacing[axis]);
    io->SetOrigin(axis, geometry.origin[axis]);
    io->SetDirection(axis, {geometry.direction[axis], geometry.direction[3 + axis],
                            geometry.direction[6 + axis]});
    region.SetIndex(axis, 0);
    region.SetSize(axis, size);
  }
  io->SetIORegion(region);
  try {
    io->Write(voxels.data());
  } catch (const itk::ExceptionObject& error) {
    fail(path, "write", error);
  }
}

}  // namespace

Voxels read_voxels(const NiftiFile& file) {
  const TemporaryFolder folder;
  const fs::path copy = folder.path() / "copy.nii";
  write_plain_copy(copy, file);
  const auto io = make_itk_io();
  io->SetFileName(copy.string());
  try {
    io->ReadImageInformation();
    itk::ImageIORegion region(3);
    std::int64_t count = 1;
    for (unsigned axis = 0; axis < 3; ++axis) {
      region.SetIndex(axis, 0);
      region.SetSize(axis, io->GetDimensions(axis));
      count *= static_cast<std::int64_t>(io->GetDimensions(axis));
    }
    io->SetIORegion(region);
    return read_component(*io, count);
  } catch (const itk::ExceptionObject& error) {
    fail(file.header_path, "read", error);
  }
}

void write_nifti(const fs::path& path, const Geometry& geometry, std::span<const float> voxels) {
  write_with_itk(path, geometry, voxels, itk::IOComponentEnum::FLOAT);
}

void write_nifti(const fs::path& path, const Geometry& geometry,
                 std::span<const std::uint8_t> voxels) {
  write_with_itk(path, geometry, voxels, itk::IOComponentEnum::UCHAR);
}

}  // namespace segmamba::io
