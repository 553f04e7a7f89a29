# Run at each build: cmake -DROOT=source -DINPUT=commit.cpp.in -DOUTPUT=commit.cpp -P this. The
# output is touched only where the commit is another one.
set(commit unknown)
if(EXISTS "${ROOT}/.git")
  # --exclude: no tags, which would stand in place of the commit.
  execute_process(
    COMMAND git -C "${ROOT}" describe --always --dirty --abbrev=12 --exclude=*
    OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
  if(status EQUAL 0)
    set(commit "${described}")
  endif()
endif()
configure_file("${INPUT}" "${OUTPUT}" @ONLY)
