"""Memory that decode attention works in."""

from typing import NamedTuple

import torch

from siftattention.library import operators


def decode_workspace_size(batch, heads, kv_heads, head_dim, keys):
    """Bytes of workspace for at most `batch` requests with at most `keys` visible keys together.

    Raises ValueError for sizes that are not served: batch 1 to 512, 1 to 16 query heads for each KV
    head, head_dim 64, 96, 128 or 256.
    """
    return operators.decode_workspace_size(batch, heads, kv_heads, head_dim, keys)


class DecodeWorkspace(NamedTuple):
    """A workspace and the sizes that it was made for.

    It serves one shape of heads and one call at a time: calls that share it must be on one stream.
    The first call readies it, so call once before capturing a CUDA graph.
    """

    buffer: torch.Tensor  # [bytes] uint8, all zero before its first use
    batch: int
    keys: int

    @classmethod
    def allocate(cls, batch, heads, kv_heads, head_dim, keys, device="cuda"):
        """A workspace for at most `batch` requests with at most `keys` visible keys together.

        Raises ValueError for sizes that are not served (decode_workspace_size).
        """
        size = decode_workspace_size(batch, heads, kv_heads, head_dim, keys)
        return cls(torch.zeros(size, dtype=torch.uint8, device=device), batch, keys)
