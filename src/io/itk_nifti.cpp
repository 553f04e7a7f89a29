#include "itk_nifti.h"

#include <itkNiftiImageIO.h>
#include <itkNiftiImageIOFactory.h>

#include <algorithm>
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

void write_nifti(const fs::path& path, const Geometry& geometry, std::span<const float> voxels) {
  write_with_itk(path, geometry, voxels, itk::IOComponentEnum::FLOAT);
}

void write_nifti(const fs::path& path, const Geometry& geometry,
                 std::span<const std::uint8_t> voxels) {
  write_with_itk(path, geometry, voxels, itk::IOComponentEnum::UCHAR);
}

}  // namespace segmamba::io
