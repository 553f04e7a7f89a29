# Install, uninstall, and the package that find_package(segmamba) loads. Components:
#   programs   programs, libsegmamba_ops.so, configs, documents
#   devel      headers, the rooms' libraries, CMake package
#   links      links to LibTorch where it is on this machine, in place of copies
#   libraries  copies of all that the programs load, for a tarball; not of a plain installation
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY SEGMAMBA_ROOMS)
# The CUDA kernels are inside libsegmamba_ops.so; nobody links them on their own.
list(REMOVE_ITEM rooms segmamba_kernels)

add_library(segmamba_umbrella INTERFACE)
add_library(segmamba::segmamba ALIAS segmamba_umbrella)
set_target_properties(segmamba_umbrella PROPERTIES EXPORT_NAME segmamba)
target_link_libraries(segmamba_umbrella INTERFACE ${rooms})

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/segmamba")
install(TARGETS ${rooms} segmamba_umbrella EXPORT segmambaTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT programs
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT devel)
install(DIRECTORY include/segmamba DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT devel)
install(DIRECTORY configs/ DESTINATION "${CMAKE_INSTALL_DATADIR}/segmamba/configs"
        COMPONENT programs)
install(FILES README.md LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT programs)
install(DIRECTORY docs DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT programs)
install(DIRECTORY tests/package/consumer/ DESTINATION "${CMAKE_INSTALL_DATADIR}/segmamba/example"
        COMPONENT devel)
install(EXPORT segmambaTargets NAMESPACE segmamba:: DESTINATION "${package_dir}" COMPONENT devel)

list(TRANSFORM rooms REPLACE "^segmamba_" "" OUTPUT_VARIABLE components)
list(JOIN components ", " components)
configure_package_config_file(cmake/segmambaConfig.cmake.in
  "${CMAKE_BINARY_DIR}/segmambaConfig.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${CMAKE_BINARY_DIR}/segmambaConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/segmambaConfig.cmake"
              "${CMAKE_BINARY_DIR}/segmambaConfigVersion.cmake"
              cmake/SegmambaTorchTarget.cmake cmake/FindDeflate.cmake
        DESTINATION "${package_dir}" COMPONENT devel)

configure_file(cmake/LinkTorch.cmake.in "${CMAKE_BINARY_DIR}/LinkTorch.cmake" @ONLY)
install(SCRIPT "${CMAKE_BINARY_DIR}/LinkTorch.cmake" COMPONENT links)

add_custom_target(uninstall
  COMMAND "${CMAKE_COMMAND}" -DMANIFEST=${CMAKE_BINARY_DIR}/install_manifest.txt
          -P "${PROJECT_SOURCE_DIR}/cmake/Uninstall.cmake"
  COMMENT "Removing what the last install wrote" VERBATIM)
