# Prefill attention by cuDNN needs cuDNN and its frontend, which is headers alone: PyPI's
# nvidia-cudnn-frontend has them, and CUDNN_FRONTEND_ROOT names the folder that holds their include.
# SIFT_CUDNN_FOUND tells.
set(SIFT_CUDNN AUTO CACHE STRING "Build prefill attention by cuDNN: AUTO (where it is found), ON or OFF")
set(SIFT_CUDNN_FOUND FALSE)
if(SIFT_CUDNN AND SIFT_CUDA_FOUND)
  find_package(Cudnn QUIET)
  find_path(SIFT_CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
    HINTS "${CUDNN_FRONTEND_ROOT}" "$ENV{CUDNN_FRONTEND_ROOT}" PATH_SUFFIXES include)
  if(Cudnn_FOUND AND SIFT_CUDNN_FRONTEND_INCLUDE_DIR AND TARGET CUDA::nvrtc)
    set(SIFT_CUDNN_FOUND TRUE)
  else()
    message(STATUS "There is no cuDNN with its frontend: prefill attention is left out")
  endif()
endif()
if(SIFT_CUDNN STREQUAL "ON" AND NOT SIFT_CUDNN_FOUND)
  message(FATAL_ERROR "SIFT_CUDNN is ON, which needs nvcc, cuDNN and the headers of its frontend")
endif()
