// A stranger's program for GPUs: every installed header of the CUDA kernels compiles, and the
// library links. Without a GPU it gets one sentence that says so.
#include <cstdio>
#include <cstring>

#include "all_cuda_headers.h"
#include "sift/core/error.h"

int main() {
  sift::cuda::DecodeCapacity capacity;
  capacity.batch = 8;
  capacity.heads = 32;
  capacity.kv_heads = 8;
  capacity.head_dim = 128;
  capacity.keys = 65536;
  const std::size_t bytes = sift::cuda::decode_workspace_bytes(capacity);
  void* workspace = nullptr;
  const bool has_gpu = cudaMalloc(&workspace, bytes) == cudaSuccess;
  try {
    const sift::cuda::DecodeAttention attention(capacity, sift::DType::f16, workspace, bytes,
                                                nullptr);
    std::printf("decode attention in a workspace of %zu bytes\n", bytes);
    return has_gpu ? 0 : 1;
  } catch (const sift::Error& error) {
    std::printf("%s\n", error.what());
    return has_gpu || std::strncmp(error.what(), "decode attention: ", 18) != 0 ? 1 : 0;
  }
}
