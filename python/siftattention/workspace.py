"""Memory that decode attention works in."""

from typing import NamedTuple

import torch

from siftattention.library import operators


def decode_workspace_size(batch, heads, kv_heads, head_dim, keys, estimates=False):
    """Bytes of workspace for at most `batch` requests with at most `keys` visible keys together, with
    or without what estimated scores need.

    Raises ValueError for sizes that are not served: batch 1 to 512, 1 to 16 query heads for each KV
    head, head_dim 64, 96, 128 or 256.
    """
    return operators.decode_workspace_size(batch, heads, kv_heads, head_dim, keys, estimates)


class DecodeWorkspace(NamedTuple):
    """A workspace and the sizes that it was made for.

    It serves one shape of heads and one call at a time: calls that share it must be on one stream.
    The first call readies it, so call once before capturing a CUDA graph.
    """

    buffer: torch.Tensor  # [bytes] uint8, all zero before its first use
    batch: int
    keys: int
    estimates: bool = False  # whether arguments may have shadows of keys

    @classmethod
    def allocate(cls, batch, heads, kv_heads, head_dim, keys, device="cuda", estimates=False):
        """A workspace for at most `batch` requests with at most `keys` visible keys together;
        with `estimates`, calls may estimate scores from shadows of keys.

        Raises ValueError for sizes that are not served (decode_workspace_size).
        """
        size = decode_workspace_size(batch, heads, kv_heads, head_dim, keys, estimates)
        buffer = torch.zeros(size, dtype=torch.uint8, device=device)
        return cls(buffer, batch, keys, estimates)
