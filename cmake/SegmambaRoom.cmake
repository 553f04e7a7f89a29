# segmamba_add_room(NAME SOURCES a.cpp ... USES room ... LINKS private-lib ...)
#   A library segmamba_NAME with the alias segmamba::NAME. USES names the rooms it builds on, which
#   is the picture in docs/architecture.md; LINKS are third-party libraries hidden inside it.
function(segmamba_add_room name)
  cmake_parse_arguments(room "SHARED" "" "SOURCES;USES;LINKS;PUBLIC_LINKS" ${ARGN})
  set(kind STATIC)
  if(room_SHARED)
    set(kind SHARED)
  endif()
  add_library(segmamba_${name} ${kind} ${room_SOURCES})
  add_library(segmamba::${name} ALIAS segmamba_${name})
  set_target_properties(segmamba_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(segmamba_${name} PUBLIC
    "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  target_compile_features(segmamba_${name} PUBLIC cxx_std_20)
  foreach(used IN LISTS room_USES)
    target_link_libraries(segmamba_${name} PUBLIC segmamba::${used})
  endforeach()
  target_link_libraries(segmamba_${name} PUBLIC ${room_PUBLIC_LINKS}
                        PRIVATE $<BUILD_INTERFACE:segmamba_flags> ${room_LINKS})
  set_property(GLOBAL APPEND PROPERTY SEGMAMBA_ROOMS segmamba_${name})
endfunction()

# segmamba_embed_text(ROOM HEADER kName file ... [kName file ...] ...)
#   The parts of a page, as the files they are, in a header for the room's own sources: one constant
#   segmamba::embedded::kName of the joined texts of its files.
function(segmamba_embed_text room header)
  set(items "")
  set(files "")
  foreach(item IN LISTS ARGN)
    if(NOT item MATCHES "^k[A-Z][A-Za-z]*$")
      set(item "${CMAKE_CURRENT_SOURCE_DIR}/${item}")
      list(APPEND files "${item}")
    endif()
    list(APPEND items "${item}")
  endforeach()
  list(JOIN items "|" items)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/embedded")
  set(script "${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake")
  file(MAKE_DIRECTORY "${folder}")
  add_custom_command(OUTPUT "${folder}/${header}"
    COMMAND "${CMAKE_COMMAND}" "-DOUTPUT=${folder}/${header}" "-DITEMS=${items}" -P "${script}"
    DEPENDS ${files} "${script}" VERBATIM)
  target_sources(segmamba_${room} PRIVATE "${folder}/${header}")
  target_include_directories(segmamba_${room} PRIVATE "${folder}")
endfunction()

# segmamba_add_test(NAME SOURCES a_test.cpp ... USES room ... [LABEL fast|slow])
#   One GoogleTest program a room; ctest runs it as one test.
function(segmamba_add_test name)
  cmake_parse_arguments(test "" "LABEL;TIMEOUT" "SOURCES;USES;LINKS" ${ARGN})
  if(NOT test_LABEL)
    set(test_LABEL fast)
  endif()
  if(NOT test_TIMEOUT)
    set(test_TIMEOUT 900)
  endif()
  if(SEGMAMBA_SANITIZE)
    math(EXPR test_TIMEOUT "${test_TIMEOUT} * 6")
  endif()
  add_executable(${name} ${test_SOURCES})
  # Tests wait for what they test: to optimise them costs more than it gives.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  foreach(used IN LISTS test_USES)
    target_link_libraries(${name} PRIVATE segmamba::${used})
  endforeach()
  target_link_libraries(${name} PRIVATE segmamba_flags GTest::gmock GTest::gtest_main ${test_LINKS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests"
                             "${PROJECT_SOURCE_DIR}/kernels")
  target_compile_definitions(${name} PRIVATE
    SEGMAMBA_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
    SEGMAMBA_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
    SEGMAMBA_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS ${test_LABEL} TIMEOUT ${test_TIMEOUT})
endfunction()

# segmamba_add_test_helper(NAME SOURCES a.cpp ... USES room ... [LINKS target ...])
#   A program that tests run.
function(segmamba_add_test_helper name)
  cmake_parse_arguments(helper "" "" "SOURCES;USES;LINKS" ${ARGN})
  add_executable(${name} ${helper_SOURCES})
  list(TRANSFORM helper_USES PREPEND segmamba::)
  target_link_libraries(${name} PRIVATE ${helper_USES} segmamba_flags ${helper_LINKS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
endfunction()

# segmamba_add_python_test(NAME PYTHON FILE ARGUMENT ...)
#   A script as one test. PYTHON: an interpreter; where there is none, there is no test.
function(segmamba_add_python_test name python script)
  if(NOT EXISTS "${python}")
    return()
  endif()
  add_test(NAME ${name} COMMAND "${python}" "${CMAKE_CURRENT_SOURCE_DIR}/${script}" ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS fast TIMEOUT 300
                       ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endfunction()

# segmamba_find_python(VARIABLE PACKAGE)
#   The interpreter of scripts/setup.sh if it has the package, else "".
function(segmamba_find_python variable package)
  set(${variable} "" PARENT_SCOPE)
  set(python "${PROJECT_SOURCE_DIR}/.deps/venv/bin/python")
  if(EXISTS "${python}")
    execute_process(COMMAND "${python}" -c "import ${package}" RESULT_VARIABLE missing
                    OUTPUT_QUIET ERROR_QUIET)
    if(NOT missing)
      set(${variable} "${python}" PARENT_SCOPE)
    endif()
  endif()
endfunction()
