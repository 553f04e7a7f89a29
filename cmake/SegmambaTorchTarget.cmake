# Defines segmamba_torch, an imported target with LibTorch's headers and libraries, from
#   Torch_DIR           folder of LibTorch's TorchConfig.cmake
#   SEGMAMBA_WITH_CUDA  whether LibTorch's CUDA part belongs to it
# for this build and, installed, for find_package(segmamba).
#
# find_package(Torch) is not used: for a CUDA build of LibTorch it demands the toolkit even where
# only the CPU is wanted, and it overrides CMAKE_CUDA_ARCHITECTURES.
get_filename_component(segmamba_torch_root "${Torch_DIR}/../../.." ABSOLUTE)
set(segmamba_torch_libraries "${segmamba_torch_root}/lib/libtorch_cpu.so"
                             "${segmamba_torch_root}/lib/libc10.so")
# Kept although no symbol of theirs is asked for. libstdc++ first: LibTorch's libraries export an
# older std::filesystem of their own, which crashes (remove_all) when the look-up finds it before.
# libtorch_cuda registers the CUDA back end when it is loaded; without it there is no GPU.
set(segmamba_torch_kept "-lstdc++")
set(segmamba_cudart "")
if(SEGMAMBA_WITH_CUDA)
  string(APPEND segmamba_torch_kept ",-ltorch_cuda")
  list(APPEND segmamba_torch_libraries "${segmamba_torch_root}/lib/libtorch_cuda.so"
                                       "${segmamba_torch_root}/lib/libc10_cuda.so")
  # The CUDA runtime that LibTorch loads: beside it, or in the wheel that it depends on.
  file(GLOB segmamba_cudart "${segmamba_torch_root}/lib/libcudart*.so*"
                            "${segmamba_torch_root}/../nvidia/*/lib/libcudart.so.*")
  if(segmamba_cudart)
    list(GET segmamba_cudart 0 segmamba_cudart)
  endif()
  if(TARGET CUDA::cudart)  # the toolkit's headers come with it
    list(APPEND segmamba_torch_libraries CUDA::cudart)
  else()
    list(APPEND segmamba_torch_libraries ${segmamba_cudart})
  endif()
endif()

add_library(segmamba_torch INTERFACE IMPORTED GLOBAL)
target_include_directories(segmamba_torch SYSTEM INTERFACE
  "${segmamba_torch_root}/include" "${segmamba_torch_root}/include/torch/csrc/api/include")
target_link_libraries(segmamba_torch INTERFACE ${segmamba_torch_libraries})
if(SEGMAMBA_WITH_CUDA)
  target_compile_definitions(segmamba_torch INTERFACE SEGMAMBA_WITH_CUDA USE_C10D_NCCL)
endif()
target_link_directories(segmamba_torch INTERFACE "${segmamba_torch_root}/lib")
target_link_options(segmamba_torch INTERFACE
  "LINKER:--push-state,--no-as-needed,${segmamba_torch_kept},--pop-state")
