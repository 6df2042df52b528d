#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

namespace sift::cuda {

/// What CTest takes for a test that could not run.
inline constexpr int kSkipped = 77;

/// Reads GoogleTest's arguments; whether there is a GPU to test on, and if not says so.
inline bool ready_gpu_tests(int& argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return true;
  std::puts("There is no GPU: nothing was tested");
  return false;
}

}  // namespace sift::cuda
