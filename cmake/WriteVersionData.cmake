# Run with cmake -P at each build. The commit is that of the checkout whose root this source tree
# is: sources unpacked inside another project's repository have none.
set(SIFT_COMMIT "unknown")
find_program(GIT git)
if(GIT AND EXISTS "${SIFT_SOURCE_DIR}/.git")
  execute_process(COMMAND "${GIT}" -C "${SIFT_SOURCE_DIR}" describe --always --dirty --abbrev=12
                                   --exclude=*
                  OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE
                  RESULT_VARIABLE failure ERROR_QUIET)
  if(NOT failure)
    set(SIFT_COMMIT "${described}")
  endif()
endif()
configure_file("${INPUT}" "${OUTPUT}" @ONLY)
