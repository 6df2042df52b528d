// A stranger's program that uses prefill attention by cuDNN. Without a GPU it gets one sentence.
#include <cstdio>
#include <cstring>

#include "sift/core/error.h"
#include "sift/kernels/cuda/prefill_attention.h"

int main() {
  sift::cuda::PrefillAttentionShape shape;
  shape.heads = 32;
  shape.kv_heads = 8;
  shape.head_dim = 128;
  shape.tokens = 512;
  shape.keys = 4096;
  shape.scale = 0.088F;
  shape.cache.slot_stride = 2 * 128;
  shape.cache.head_stride = shape.keys * shape.cache.slot_stride;
  shape.cache.page_stride = shape.kv_heads * shape.cache.head_stride;
  int devices = 0;
  const bool has_gpu = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  try {
    const sift::cuda::PrefillAttention attention(shape, sift::DType::f16);
    std::printf("prefill attention with %zu bytes of workspace\n", attention.workspace_bytes());
    return has_gpu ? 0 : 1;
  } catch (const sift::Error& error) {
    std::printf("%s\n", error.what());
    return has_gpu || std::strncmp(error.what(), "prefill attention: ", 19) != 0 ? 1 : 0;
  }
}
