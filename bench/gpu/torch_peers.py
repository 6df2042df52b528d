"""Dense attention of PyTorch, over contiguous caches."""

import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from variant import Variant

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def _grouped(problem, backend):
    """Each query head a head, and PyTorch told that they share KV heads."""
    query = problem.query.unsqueeze(2)  # [batch, heads, 1, head_dim]

    def launch(copy):
        keys, values = problem.contiguous[copy]
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(
                query, keys, values, scale=problem.scale, enable_gqa=problem.cell.group > 1
            ).squeeze(2)

    return Variant(launch, tau=0.0)


def _rows(problem, backend):
    """The query heads of a KV head as rows of one query: the same sums, and K is read once."""
    cell = problem.cell
    query = problem.query.view(cell.batch, cell.kv_heads, cell.group, cell.head_dim)

    def launch(copy):
        keys, values = problem.contiguous[copy]
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(
                query, keys, values, scale=problem.scale
            ).reshape(problem.query.shape)

    return Variant(launch, tau=0.0)


BUILDERS = {
    f"{name}{suffix}/contiguous": lambda problem, build=build, backend=backend: build(
        problem, backend
    )
    for name, backend in BACKENDS.items()
    for suffix, build in (("", _grouped), ("_rows", _rows))
}
