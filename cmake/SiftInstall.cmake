# The installable package: find_package(sift) gives the target sift::sift and, where the CUDA kernels
# were built, the component cuda gives sift::cuda; with cuDNN, the component cudnn gives sift::cudnn.
# Headers are installed beside their rooms, but for those of the kernels' other backends, of a room's
# inside, and of tests.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS sift EXPORT siftTargets
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/sift" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILES_MATCHING PATTERN "*.h"
        PATTERN "kernels/cpu" EXCLUDE
        PATTERN "kernels/cuda" EXCLUDE
        PATTERN "kernels/reference" EXCLUDE
        PATTERN "tokenizer/jinja" EXCLUDE
        REGEX "/(attention_json|custom_policy_fixture|gguf_cursor|gguf_writer|json_documents|random_model|result_json|study_cells|study_run|study_tasks|tiny_vocabulary)\\.h$" EXCLUDE)

set(SIFT_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/sift")
install(EXPORT siftTargets NAMESPACE sift:: DESTINATION "${SIFT_PACKAGE_DIR}")
if(SIFT_CUDA_FOUND)
  install(TARGETS sift_cuda EXPORT siftCudaTargets
          ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/sift/kernels/cuda"
          DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/sift/kernels"
          FILES_MATCHING PATTERN "*.h"
          REGEX "/(argument_checks|method_checks|shadow_checks|decode_cuts|decode_launch|decode_workspace|device_array|gpu_tests|workspace_cutter)\\.h$" EXCLUDE
          REGEX "_(fixture|oracle)\\.h$" EXCLUDE
          PATTERN "prefill_attention.h" EXCLUDE)
  install(EXPORT siftCudaTargets NAMESPACE sift:: DESTINATION "${SIFT_PACKAGE_DIR}")
endif()
if(SIFT_CUDNN_FOUND)
  install(TARGETS sift_cudnn EXPORT siftCudnnTargets
          ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  install(FILES "${PROJECT_SOURCE_DIR}/sift/kernels/cuda/prefill_attention.h"
          DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/sift/kernels/cuda")
  install(EXPORT siftCudnnTargets NAMESPACE sift:: DESTINATION "${SIFT_PACKAGE_DIR}")
  install(FILES "${CMAKE_CURRENT_LIST_DIR}/FindCudnn.cmake" DESTINATION "${SIFT_PACKAGE_DIR}")
endif()
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/siftConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/siftConfig.cmake" INSTALL_DESTINATION "${SIFT_PACKAGE_DIR}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/siftConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/siftConfig.cmake"
              "${PROJECT_BINARY_DIR}/siftConfigVersion.cmake"
        DESTINATION "${SIFT_PACKAGE_DIR}")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
