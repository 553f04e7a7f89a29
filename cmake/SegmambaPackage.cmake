# cpack: a tarball with the programs and all that they load but glibc, and one with what a C++
# project needs on top of it. Both unpack into the same folder, which may lie anywhere.
get_property(programs DIRECTORY "${PROJECT_SOURCE_DIR}/apps" PROPERTY BUILDSYSTEM_TARGETS)
list(FILTER programs INCLUDE REGEX "^segmamba-")
list(TRANSFORM programs PREPEND "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/")
set(bundle_roots ${programs} "${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/libsegmamba_ops.so")
set(bundle_compiled_in "${CLI11_DIR}/CLI11Config.cmake"
                       "${nlohmann_json_DIR}/nlohmann_jsonConfig.cmake"
                       "${SEGMAMBA_XXHASH_INCLUDE}/xxhash.h")
configure_file(cmake/BundleLibraries.cmake.in "${CMAKE_BINARY_DIR}/BundleLibraries.cmake" @ONLY)
install(SCRIPT "${CMAKE_BINARY_DIR}/BundleLibraries.cmake" COMPONENT libraries EXCLUDE_FROM_ALL)

# LibTorch's headers, for the installed package to compile against the bundled libraries.
foreach(folder IN ITEMS include share/cmake)
  install(DIRECTORY "${segmamba_torch_root}/${folder}/"
          DESTINATION "${CMAKE_INSTALL_LIBDIR}/torch/${folder}" COMPONENT torch-devel
          EXCLUDE_FROM_ALL)
endforeach()

set(variant cpu)
if(SEGMAMBA_WITH_CUDA)
  set(variant "cuda${CUDAToolkit_VERSION_MAJOR}")
endif()
set(CPACK_PACKAGE_FILE_NAME
    "segmamba-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}-${variant}")
set(CPACK_GENERATOR TGZ)
set(CPACK_THREADS 0)  # all, for `cpack -G TZST`
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_COMPONENT_INCLUDE_TOPLEVEL_DIRECTORY ON)
set(CPACK_COMPONENTS_ALL programs libraries devel torch-devel)
set(CPACK_COMPONENT_PROGRAMS_GROUP run)
set(CPACK_COMPONENT_LIBRARIES_GROUP run)
set(CPACK_COMPONENT_DEVEL_GROUP develop)
set(CPACK_COMPONENT_TORCH-DEVEL_GROUP develop)
set(CPACK_ARCHIVE_RUN_FILE_NAME "${CPACK_PACKAGE_FILE_NAME}")
set(CPACK_ARCHIVE_DEVELOP_FILE_NAME "${CPACK_PACKAGE_FILE_NAME}-devel")
include(CPack)
