# Finds cuDNN: Cudnn_FOUND and the target Cudnn::cudnn. CUDNN_ROOT or Cudnn_ROOT names its folder where
# it is not beside CUDA.
find_package(CUDAToolkit QUIET)
set(cudnn_hints "${CUDNN_ROOT}" "$ENV{CUDNN_ROOT}" "${CUDAToolkit_LIBRARY_ROOT}"
    "${CUDAToolkit_TARGET_DIR}")
find_path(Cudnn_INCLUDE_DIR cudnn.h HINTS ${cudnn_hints} PATH_SUFFIXES include)
# PyPI's package has no libcudnn.so.
find_library(Cudnn_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${cudnn_hints} PATH_SUFFIXES lib lib64)
mark_as_advanced(Cudnn_INCLUDE_DIR Cudnn_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Cudnn REQUIRED_VARS Cudnn_LIBRARY Cudnn_INCLUDE_DIR)
if(Cudnn_FOUND AND NOT TARGET Cudnn::cudnn)
  add_library(Cudnn::cudnn UNKNOWN IMPORTED)
  set_target_properties(Cudnn::cudnn PROPERTIES
    IMPORTED_LOCATION "${Cudnn_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${Cudnn_INCLUDE_DIR}")
endif()
