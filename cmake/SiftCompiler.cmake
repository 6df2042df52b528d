# Settings that every target of this project shares.

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(SIFT_CCACHE ccache)
if(SIFT_CCACHE AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${SIFT_CCACHE}")
endif()

add_library(sift_compiler_options INTERFACE)
target_compile_features(sift_compiler_options INTERFACE cxx_std_20)
# Floating-point contraction is left to explicit fused operations, so that every
# backend rounds where its source says it does.
target_compile_options(sift_compiler_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -ffp-contract=off)
# At -O3 GCC 12 warns of overlaps and overflows inside its own std::string (GCC bug 105329).
target_compile_options(sift_compiler_options INTERFACE
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<CONFIG:Release>>:-Wno-restrict>
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<CONFIG:Release>>:-Wno-stringop-overflow>)
if(SIFT_WARNINGS_AS_ERRORS)
  target_compile_options(sift_compiler_options INTERFACE -Werror)
endif()
if(SIFT_SANITIZE)
  target_compile_options(sift_compiler_options INTERFACE
    -fsanitize=${SIFT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(sift_compiler_options INTERFACE -fsanitize=${SIFT_SANITIZE})
endif()
if(SIFT_BUILD_FUZZ)  # the library counts coverage; the main function comes with each target
  target_compile_options(sift_compiler_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
