// The operators that make shadows of keys. siftattention/key_shadows.py describes them.

#include "key_shadows.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <array>

#include "cache_arguments.h"
#include "sift/kernels/cuda/key_shadow.h"
#include "tensor_arguments.h"

namespace siftattention {
namespace {

constexpr int kTileKeys = sift::cuda::kShadowTileKeys;

std::int64_t key_shadow_tile_bytes(std::int64_t head_dim, std::string_view code,
                                   std::int64_t block) {
  const sift::KeyShadowFormat format = parse_shadow_format(code, block, "as_stored", head_dim);
  return sift::cuda::shadow_tile_bytes(format, static_cast<int>(head_dim));
}

void write_key_shadows(Tensor& tiles, const Tensor& keys, const Tensor& begin, const Tensor& end,
                       std::int64_t most, const std::optional<Tensor>& table,
                       const std::optional<Tensor>& table_begin, std::string_view layout,
                       std::string_view code, std::int64_t block, std::string_view order) {
  constexpr const char* kWhere = "the keys are";
  const at::Device device = keys.device();
  TORCH_CHECK_VALUE(keys.dim() == 4, "key_cache has ", keys.dim(), " dimensions, expected 4");
  const std::int64_t batch = end.dim() > 0 ? end.size(0) : 0;
  check_side(keys, "key_cache", device, keys.size(3), kWhere);
  check_array(end, "end", device, at::kInt, {batch}, kWhere);
  check_array(begin, "begin", device, at::kInt, {batch}, kWhere);

  sift::cuda::KeyShadowArguments a;
  a.type = half_type(keys, "key_cache");
  a.batch = whole(batch, "the batch");
  a.kv_heads = whole(keys.size(parse_layout(layout).head), "the number of KV heads");
  a.head_dim = whole(keys.size(3), "the head dimension");
  a.cache = address_of_keys(keys, batch, layout, {table, table_begin}, kWhere);
  const sift::KeyShadowFormat format = parse_shadow_format(code, block, order, keys.size(3));
  a.shadows = address_of_shadows(tiles, format, keys, layout);
  a.begin = begin.data_ptr<std::int32_t>();
  a.end = end.data_ptr<std::int32_t>();
  a.most = whole(most, "most");

  TORCH_CHECK_VALUE(device.is_cuda(), "key_cache is on ", device, ", expected a CUDA device");
  const c10::cuda::CUDAGuard guard(device);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device.index()).stream();
  with_value_errors([&] { sift::cuda::write_key_shadows(a, stream); });
}

sift::ShadowCode parse_code(std::string_view code) {
  if (code == "bits4") return sift::ShadowCode::bits4;
  TORCH_CHECK_VALUE(code == "fp8", "the code of shadows is '", code,
                    "', expected 'bits4' or 'fp8'");
  return sift::ShadowCode::fp8;
}

sift::ShadowOrder parse_order(std::string_view order) {
  if (order == "as_stored") return sift::ShadowOrder::as_stored;
  TORCH_CHECK_VALUE(order == "pairs_parted", "the order of shadows is '", order,
                    "', expected 'as_stored' or 'pairs_parted'");
  return sift::ShadowOrder::pairs_parted;
}

}  // namespace

sift::KeyShadowFormat parse_shadow_format(std::string_view code, std::int64_t block,
                                          std::string_view order, std::int64_t head_dim) {
  const sift::KeyShadowFormat format = {parse_code(code), block, parse_order(order)};
  TORCH_CHECK_VALUE(head_dim == 64 || head_dim == 96 || head_dim == 128 || head_dim == 256,
                    "the head dimension is ", head_dim, ", expected 64, 96, 128 or 256");
  if (format.code == sift::ShadowCode::fp8) return format;
  TORCH_CHECK_VALUE(block == 32 || block == 64, "the block of shadows is ", block,
                    ", expected 32 or 64");
  TORCH_CHECK_VALUE(head_dim % block == 0, "the head dimension is ", head_dim,
                    ", expected a multiple of the block of shadows, ", block);
  return format;
}

sift::cuda::KeyShadowAddress address_of_shadows(const Tensor& tiles,
                                                const sift::KeyShadowFormat& format,
                                                const Tensor& keys, std::string_view layout) {
  const CacheDimensions dimensions = parse_layout(layout);
  check_device(tiles, "tiles", keys.device(), "the keys are");
  check_type(tiles, "tiles", at::kByte);
  const std::int64_t bytes = sift::cuda::shadow_tile_bytes(format, static_cast<int>(keys.size(3)));
  const std::int64_t tiles_of_page = (keys.size(dimensions.slot) + kTileKeys - 1) / kTileKeys;
  const std::array<std::int64_t, 4> shape = {keys.size(0), keys.size(dimensions.head),
                                             tiles_of_page, bytes};
  TORCH_CHECK_VALUE(tiles.sizes() == at::IntArrayRef(shape), "tiles has shape ", tiles.sizes(),
                    ", expected ", at::IntArrayRef(shape));
  TORCH_CHECK_VALUE(tiles.stride(3) == 1 && (tiles_of_page == 1 || tiles.stride(2) == bytes),
                    "tiles has strides ", tiles.strides(),
                    ", expected those of a page's tiles to be ", bytes, " and 1");
  check_alignment(tiles, "tiles", 16);
  return {tiles.data_ptr(), tiles.stride(0), tiles.stride(1), format};
}

}  // namespace siftattention

TORCH_LIBRARY_FRAGMENT(siftattention, library) {
  library.def("key_shadow_tile_bytes(int head_dim, str code, int block) -> int",
              &siftattention::key_shadow_tile_bytes);
  library.def(
      "write_key_shadows(Tensor(a!) tiles, Tensor keys, Tensor begin, Tensor end, int most, *, "
      "Tensor? table=None, Tensor? table_begin=None, str layout='HND', str code='bits4', "
      "int block=32, str order='as_stored') -> ()");
}

TORCH_LIBRARY_IMPL(siftattention, CUDA, library) {
  library.impl("write_key_shadows", &siftattention::write_key_shadows);
}
