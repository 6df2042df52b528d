# Sources that are written while building, under <build>/generated:
#   sift/core/version_data.h   version, commit and compiler, for sift/core/version.cc alone
#   sift/model_table.h         tools/models.json as a string, so that it stands in one place
set(SIFT_GENERATED_DIR "${PROJECT_BINARY_DIR}/generated")

# The commit is asked for at each build; the header changes only when the answer does.
add_custom_target(sift_version_data
  COMMAND "${CMAKE_COMMAND}"
    -D SIFT_SOURCE_DIR=${PROJECT_SOURCE_DIR}
    -D SIFT_VERSION=${PROJECT_VERSION}
    -D "SIFT_COMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
    -D "SIFT_BUILD_TYPE=${CMAKE_BUILD_TYPE}"
    -D INPUT=${PROJECT_SOURCE_DIR}/cmake/version_data.h.in
    -D OUTPUT=${SIFT_GENERATED_DIR}/sift/core/version_data.h
    -P "${PROJECT_SOURCE_DIR}/cmake/WriteVersionData.cmake"
  BYPRODUCTS "${SIFT_GENERATED_DIR}/sift/core/version_data.h"
  COMMENT "Asking git for the commit"
  VERBATIM)

set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
             "${PROJECT_SOURCE_DIR}/tools/models.json")
file(READ "${PROJECT_SOURCE_DIR}/tools/models.json" SIFT_MODELS_JSON)
configure_file("${PROJECT_SOURCE_DIR}/cmake/model_table.h.in"
               "${SIFT_GENERATED_DIR}/sift/model_table.h" @ONLY)
