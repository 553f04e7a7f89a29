# Finds LibTorch and, where wanted, the CUDA toolkit. Defines
#   segmamba_torch      imported target with LibTorch's headers and libraries
#   SEGMAMBA_WITH_CUDA  TRUE when the CUDA kernels are compiled
#
# LibTorch is looked for in Torch_DIR (the folder of TorchConfig.cmake, as find_package would take
# it), then in .deps/ where scripts/setup.sh puts it.
if(NOT Torch_DIR AND DEFINED ENV{Torch_DIR})
  set(Torch_DIR "$ENV{Torch_DIR}")
endif()
if(NOT Torch_DIR)
  file(GLOB candidates
    "${CMAKE_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch/share/cmake/Torch"
    "${CMAKE_SOURCE_DIR}/.deps/libtorch/share/cmake/Torch")
  if(candidates)
    list(GET candidates 0 Torch_DIR)
  endif()
endif()
set(Torch_DIR "${Torch_DIR}" CACHE PATH "Folder of LibTorch's TorchConfig.cmake")
if(NOT Torch_DIR OR NOT EXISTS "${Torch_DIR}/../../../lib/libtorch_cpu.so")
  message(FATAL_ERROR
    "LibTorch was not found. Run scripts/setup.sh, which installs it into .deps/, or pass "
    "-DTorch_DIR=/path/to/libtorch/share/cmake/Torch")
endif()

set(SEGMAMBA_WITH_CUDA FALSE)
if(NOT SEGMAMBA_CUDA STREQUAL "OFF")
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # One architecture keeps a working build short; the `cuda` preset lists those of a release.
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER AND EXISTS "${Torch_DIR}/../../../lib/libtorch_cuda.so")
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(SEGMAMBA_WITH_CUDA TRUE)
  elseif(SEGMAMBA_CUDA STREQUAL "ON")
    message(FATAL_ERROR
      "SEGMAMBA_CUDA=ON, but there is no nvcc on the PATH or LibTorch has no CUDA")
  endif()
endif()
message(STATUS "CUDA kernels: ${SEGMAMBA_WITH_CUDA} ${CMAKE_CUDA_ARCHITECTURES}")

include(SegmambaTorchTarget)
message(STATUS "LibTorch: ${segmamba_torch_root}")
# Its at::RecordFunction has one member more without NDEBUG, and the library is built with it: we
# must not differ in builds of another kind.
target_compile_definitions(segmamba_torch INTERFACE $<$<NOT:$<CONFIG:Release>>:NDEBUG>)

# Programs find LibTorch where it is in the build, and at the same place below any prefix after an
# installation: lib/torch and, of the wheel's CUDA libraries, lib/nvidia (see SegmambaInstall).
list(APPEND CMAKE_BUILD_RPATH "${segmamba_torch_root}/lib")
set(installed_libraries "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
list(APPEND CMAKE_INSTALL_RPATH "${installed_libraries}" "${installed_libraries}/torch/lib")
if(segmamba_cudart)
  get_filename_component(cudart_folder "${segmamba_cudart}" DIRECTORY)
  list(APPEND CMAKE_BUILD_RPATH "${cudart_folder}")
  file(RELATIVE_PATH cudart_folder "${segmamba_torch_root}/.." "${cudart_folder}")
  if(cudart_folder MATCHES "^nvidia/")
    list(APPEND CMAKE_INSTALL_RPATH "${installed_libraries}/${cudart_folder}")
  endif()
endif()
