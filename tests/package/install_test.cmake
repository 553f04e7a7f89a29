# Installs the framework, then builds and runs projects of their own that say
# find_package(segmamba), moves the installation and does so again, and uninstalls. Arguments:
# BUILD_DIR, WORK_DIR, GENERATOR.
cmake_policy(VERSION 3.25)

# run(WORD ...): output holds what it printed; a failure is one of the test.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " line)
    message(FATAL_ERROR "${line}\nended with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# expect(VALUE EXPECTED)
function(expect what value expected)
  if(NOT value STREQUAL expected)
    message(FATAL_ERROR "${what}: expected '${expected}', got '${value}'")
  endif()
endfunction()

function(configure source folder prefix)
  run("${CMAKE_COMMAND}" -S "${source}" -B "${WORK_DIR}/${folder}"
      -G "${GENERATOR}" "-DCMAKE_PREFIX_PATH=${prefix}" -DCMAKE_BUILD_TYPE=Release)
endfunction()

set(prefix "${WORK_DIR}/prefix with space")
file(REMOVE_RECURSE "${WORK_DIR}")
run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${prefix}")

# The installed programs, and what the example needs.
foreach(program IN ITEMS eval data model infer train)
  run("${prefix}/bin/segmamba-${program}" --version)
  if(NOT output MATCHES "^segmamba-${program} [0-9]+\\.[0-9]+\\.[0-9]+\n$")
    message(FATAL_ERROR "the installed segmamba-${program} printed: ${output}")
  endif()
endforeach()
run("${prefix}/bin/segmamba-data" phantom --output "${WORK_DIR}/cases" --cases 3 --size 32)
run("${prefix}/bin/segmamba-train" --config "${CMAKE_CURRENT_LIST_DIR}/tiny.yaml" --device cpu
    --set "data.root=${WORK_DIR}/cases" --output "${WORK_DIR}/run")
set(checkpoint "${WORK_DIR}/run/checkpoints/last.pt")
file(GLOB cases "${WORK_DIR}/cases/*")
list(GET cases 0 case)
get_filename_component(name "${case}" NAME)
set(images "")
foreach(channel IN ITEMS t1n t1c t2w t2f)
  list(APPEND images "${case}/${name}-${channel}.nii.gz")
endforeach()
run("${prefix}/bin/segmamba-infer" --checkpoint "${checkpoint}" --input "${case}" --device cpu
    --output "${WORK_DIR}/labels")

# The example: what segmamba-infer writes, and not a word.
configure("${prefix}/share/segmamba/example" consumer "${prefix}")
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/consumer")
run("${WORK_DIR}/consumer/segment" "${checkpoint}" ${images} "${WORK_DIR}/example.nii.gz")
expect("the example printed" "${output}" "")
run("${CMAKE_COMMAND}" -E compare_files "${WORK_DIR}/labels/${name}.nii.gz"
    "${WORK_DIR}/example.nii.gz")
execute_process(COMMAND "${WORK_DIR}/consumer/segment" missing.pt t1n t1c t2w t2f out.nii.gz
                RESULT_VARIABLE result ERROR_VARIABLE error)
if(NOT result EQUAL 1 OR NOT error MATCHES "^[^\n]*missing.pt[^\n]*\n$")
  message(FATAL_ERROR "segment ended with ${result} and printed: ${error}")
endif()

# Moved, the package is found as before, and what was built against it anew runs.
set(moved "${WORK_DIR}/moved to here")
file(RENAME "${prefix}" "${moved}")
configure("${CMAKE_CURRENT_LIST_DIR}/host" host "${moved}")
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/host")
run("${WORK_DIR}/host/metrics_only")
expect("metrics_only printed" "${output}" "Dice 0.5\n")
run("${WORK_DIR}/host/forward")
expect("forward printed" "${output}" "[1, 4, 32, 32, 32]\n")
run("${WORK_DIR}/host/polite_guest" "${checkpoint}" ${images} "${WORK_DIR}/guest.nii.gz")
expect("polite_guest printed" "${output}" "")

# What find_package says of what is not there.
function(expect_not_found call message)
  file(WRITE "${WORK_DIR}/wrong/CMakeLists.txt"
       "cmake_minimum_required(VERSION 3.25)\nproject(wrong LANGUAGES CXX)\n${call}\n")
  file(REMOVE_RECURSE "${WORK_DIR}/wrong/build")
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${WORK_DIR}/wrong" -B "${WORK_DIR}/wrong/build"
                          -G "${GENERATOR}" "-DCMAKE_PREFIX_PATH=${moved}"
                  RESULT_VARIABLE result OUTPUT_QUIET ERROR_VARIABLE error)
  string(REGEX REPLACE "[ \n]+" " " error "${error}")
  if(result EQUAL 0 OR NOT error MATCHES "${message}")
    message(FATAL_ERROR "${call}: expected '${message}', got ${result}: ${error}")
  endif()
endfunction()
expect_not_found("find_package(segmamba REQUIRED COMPONENTS metrics radiomics)"
                 "no component 'radiomics'; it has core, .*metrics")
expect_not_found("find_package(segmamba 99 REQUIRED)" "requested version \"99\"")
expect_not_found("set(Torch_DIR /nowhere)\nfind_package(segmamba REQUIRED)"
                 "no LibTorch at /nowhere. Pass -DTorch_DIR=")

# Uninstalled from where it was installed to, nothing is left.
file(RENAME "${moved}" "${prefix}")
run("${CMAKE_COMMAND}" --build "${BUILD_DIR}" --target uninstall)
file(GLOB_RECURSE left LIST_DIRECTORIES FALSE "${prefix}/*")
if(left)
  message(FATAL_ERROR "uninstall left: ${left}")
endif()
