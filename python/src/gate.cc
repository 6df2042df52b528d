// Where sifting pays, for PyTorch.

#include "sift/kernels/cuda/decode_gate.h"

#include <torch/library.h>

namespace siftattention {
namespace {

bool sifting_pays(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                  std::int64_t keys, double union_density, bool estimates) {
  TORCH_CHECK_VALUE(kv_heads >= 1 && heads >= kv_heads && heads % kv_heads == 0, "there are ",
                    heads, " query heads and ", kv_heads,
                    " KV heads, expected a multiple of the KV heads");
  return sift::cuda::sifting_pays({static_cast<int>(heads), static_cast<int>(kv_heads),
                                   static_cast<int>(head_dim), keys, estimates},
                                  union_density);
}

}  // namespace
}  // namespace siftattention

TORCH_LIBRARY_FRAGMENT(siftattention, library) {
  library.def(
      "sifting_pays(int heads, int kv_heads, int head_dim, int keys, float union_density, "
      "bool estimates=False) -> bool",
      &siftattention::sifting_pays);
}
