# Finds LibTorch and, where wanted, the CUDA toolkit. Defines
#   segmamba_torch      imported target with LibTorch's headers and libraries
#   SEGMAMBA_WITH_CUDA  TRUE when the CUDA kernels are compiled
#
# find_package(Torch) is not used: for a CUDA build of LibTorch it demands the toolkit even where
# only the CPU is wanted, and it overrides CMAKE_CUDA_ARCHITECTURES.
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
get_filename_component(torch_root "${Torch_DIR}/../../.." ABSOLUTE)
if(NOT Torch_DIR OR NOT EXISTS "${torch_root}/lib/libtorch.so")
  message(FATAL_ERROR
    "LibTorch was not found. Run scripts/setup.sh, which installs it into .deps/, or pass "
    "-DTorch_DIR=/path/to/libtorch/share/cmake/Torch")
endif()
message(STATUS "LibTorch: ${torch_root}")

set(torch_libraries "${torch_root}/lib/libtorch.so" "${torch_root}/lib/libtorch_cpu.so"
                    "${torch_root}/lib/libc10.so")
set(torch_definitions "")

set(SEGMAMBA_WITH_CUDA FALSE)
if(NOT SEGMAMBA_CUDA STREQUAL "OFF")
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # One architecture keeps a working build short; the `cuda` preset lists those of a release.
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER AND EXISTS "${torch_root}/lib/libtorch_cuda.so")
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(SEGMAMBA_WITH_CUDA TRUE)
    list(APPEND torch_libraries "${torch_root}/lib/libtorch_cuda.so"
                                "${torch_root}/lib/libc10_cuda.so" CUDA::cudart)
    list(APPEND torch_definitions SEGMAMBA_WITH_CUDA USE_C10D_NCCL)
  elseif(SEGMAMBA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "SEGMAMBA_CUDA=ON, but there is no nvcc on the PATH or LibTorch has no CUDA")
  endif()
endif()
message(STATUS "CUDA kernels: ${SEGMAMBA_WITH_CUDA} ${CMAKE_CUDA_ARCHITECTURES}")

add_library(segmamba_torch INTERFACE IMPORTED GLOBAL)
target_include_directories(segmamba_torch SYSTEM INTERFACE
  "${torch_root}/include" "${torch_root}/include/torch/csrc/api/include")
target_link_libraries(segmamba_torch INTERFACE ${torch_libraries})
target_compile_definitions(segmamba_torch INTERFACE ${torch_definitions})
# Kept although no symbol of theirs is asked for. libstdc++ first: LibTorch's libraries export an
# older std::filesystem of their own, which crashes (remove_all) when the look-up finds it before.
# libtorch_cuda registers the CUDA back end when it is loaded; without it there is no GPU.
set(torch_kept "-lstdc++")
if(SEGMAMBA_WITH_CUDA)
  string(APPEND torch_kept ",-ltorch_cuda")
endif()
target_link_directories(segmamba_torch INTERFACE "${torch_root}/lib")
target_link_options(segmamba_torch INTERFACE
  "LINKER:--push-state,--no-as-needed,${torch_kept},--pop-state")
list(APPEND CMAKE_BUILD_RPATH "${torch_root}/lib")
list(APPEND CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}" "$ORIGIN" "${torch_root}/lib")
