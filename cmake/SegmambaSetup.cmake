# Compiler flags, launchers and output folders, the same for every room.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# CUDA would inherit C++20, which CMake 3.25 refuses for nvcc 13.
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")

find_program(SEGMAMBA_CCACHE ccache)
if(SEGMAMBA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Without this ccache passes every file that uses a precompiled header straight through.
  set(launcher "${CMAKE_COMMAND}" -E env
      "CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime"
      "${SEGMAMBA_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${launcher}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${launcher}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${launcher}")
endif()
find_program(SEGMAMBA_MOLD mold)
if(SEGMAMBA_MOLD)
  add_link_options($<$<LINK_LANGUAGE:CXX>:-fuse-ld=mold>)
endif()

# DT_RPATH, which holds for the libraries that a library needs too and which LD_LIBRARY_PATH does
# not override: another LibTorch or CUDA of the user's shell is never picked up. LibTorch does the
# same.
add_link_options("LINKER:--disable-new-dtags")

# Warnings for our code; third-party headers come in as SYSTEM.
add_library(segmamba_flags INTERFACE)
target_compile_options(segmamba_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${SEGMAMBA_WERROR}>>:-Werror>
  # -Wrestrict of GCC 12 fires on "a" + std::string (GCC bug 105651); -fpch-preprocess lets ccache
  # see through precompiled headers.
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-restrict;-fpch-preprocess>)
if(SEGMAMBA_SANITIZE STREQUAL "address")
  set(sanitizers address,undefined)
  # What is undefined ends the program, or a test would pass by it.
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize-recover=all>")
elseif(SEGMAMBA_SANITIZE STREQUAL "thread")
  set(sanitizers thread)
elseif(SEGMAMBA_SANITIZE)
  message(FATAL_ERROR "SEGMAMBA_SANITIZE must be OFF, address or thread, got ${SEGMAMBA_SANITIZE}")
endif()
if(SEGMAMBA_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${sanitizers}>"
                      $<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer>)
  add_link_options(-fsanitize=${sanitizers})
endif()
if(SEGMAMBA_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "SEGMAMBA_FUZZ needs clang, whose libFuzzer it uses: cmake --preset fuzz")
  endif()
  # Casts of numbers that do not fit are undefined, too, but not in clang's group of that name.
  set(sanitizers address,undefined,float-cast-overflow)
  add_compile_options(-fsanitize=fuzzer-no-link,${sanitizers} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${sanitizers})
endif()
