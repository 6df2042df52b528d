"""The time that merely reading K and V takes: the best of several kernels."""

import torch
import triton
import triton.language as tl

from timing import fastest
from variant import Variant

THREADS = 512
SOURCE = """
extern "C" __global__ void read_all(const uint4* keys, const uint4* values, int side,
                                    unsigned* sink) {
  unsigned sum = 0;
  const long long step = (long long)gridDim.x * blockDim.x * 4;
  for (long long i = (long long)blockIdx.x * blockDim.x * 4 + threadIdx.x; i < 2LL * side;
       i += step) {
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const long long place = i + j * (long long)blockDim.x;
      v[j] = uint4{0, 0, 0, 0};
      if (place < 2LL * side) v[j] = __ldcs(place < side ? keys + place : values + place - side);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345678U) *sink = sum;  // so that the loads are not left out
}
"""


@triton.jit
def read_blocks(keys, values, side, sink, BLOCK: tl.constexpr):
    """XORs `side` words (int32) of each of keys and values; one word a program goes to sink."""
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.int32)
    first = tl.program_id(0).to(tl.int64)
    for block in range(first, tl.cdiv(side, BLOCK), tl.num_programs(0)):
        places = block * BLOCK + lanes
        total ^= tl.load(keys + places, mask=places < side, other=0, eviction_policy="evict_first")
        total ^= tl.load(values + places, mask=places < side, other=0, eviction_policy="evict_first")
    tl.store(sink + tl.program_id(0), tl.xor_sum(total, 0))


def _cuda_readers(words, sink):
    kernel = torch.cuda._compile_kernel(SOURCE, "read_all")
    side = words[0][0].numel() // 4
    for blocks in (264, 528, 1056, 2112):
        yield lambda copy, blocks=blocks: kernel(
            (blocks, 1, 1), (THREADS, 1, 1), [*words[copy], side, sink]
        )


def _triton_readers(words, sink):
    side = words[0][0].numel()
    for blocks, block in ((264, 8192), (528, 8192), (1056, 4096), (2112, 4096)):
        yield lambda copy, blocks=blocks, block=block: read_blocks[(blocks,)](
            *words[copy], side, sink, BLOCK=block, num_warps=8
        )


def _reader(problem):
    words = [(k.view(torch.int32), v.view(torch.int32)) for k, v in problem.contiguous]
    sink = torch.zeros(4096, dtype=torch.int32, device=problem.device)
    readers = [*_triton_readers(words, sink), *_cuda_readers(words, sink)]
    best = fastest(readers, problem.copies)

    def launch(copy):
        best(copy)

    return Variant(launch)


BUILDERS = {"read/contiguous": _reader}
