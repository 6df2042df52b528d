"""Shadows of keys: copies in few bits, from which decode attention estimates scores."""

from typing import NamedTuple

import torch

from siftattention.arguments import check_tables, sides_of, tiles_of_page
from siftattention.library import operators


class KeyShadows(NamedTuple):
    """The shadows of a cache's keys, in the order in which the kernels read them."""

    tiles: torch.Tensor  # [pages, kv_heads, tiles of a page, tile_bytes] uint8
    code: str = "bits4"  # or "fp8"
    block: int = 32  # values that share a scale and a zero, 32 or 64; not for fp8
    order: str = "as_stored"  # or "pairs_parted"

    @classmethod
    def allocate(cls, cache, *, layout="HND", code="bits4", block=32, order="as_stored"):
        """Shadows for all slots of a cache, all zero until write_key_shadows makes them.

        `cache` and `layout` are as for decode_attention, or `cache` is the keys alone in a list or
        tuple. Order "pairs_parted" is for keys whose rotary embedding turns neighbouring values,
        and "as_stored" for those in which it turns value i with value i + head_dim / 2.

        Raises ValueError for shadows that are not served: head_dim 64, 96, 128 or 256, a multiple of
        the block.
        """
        keys = sides_of(cache)[0]
        pages, kv_heads, slots, head_dim = (keys if layout == "HND" else keys.transpose(1, 2)).shape
        bytes = operators.key_shadow_tile_bytes(head_dim, code, block)
        shape = (pages, kv_heads, tiles_of_page(slots), bytes)
        return cls(torch.zeros(shape, dtype=torch.uint8, device=keys.device), code, block, order)


def write_key_shadows(
    shadows,
    cache,
    begin,
    end,
    *,
    block_table=None,
    indptr=None,
    indices=None,
    layout="HND",
    most=1,
):
    """Makes the shadows of the keys begin[b] … end[b] − 1 of every request b from the cache.

    - shadows: the KeyShadows of this cache; other keys' shadows stay as they are.
    - cache, block_table, indptr, indices, layout: as for decode_attention.
    - begin, end [batch], int32: the first key and one behind the last, end at least 0. A request
      with end ≤ begin is left alone.
    - most: about the greatest end − begin, which decides how many threads share the work: 1 where a
      step has appended one key, the length of a prompt where that was appended.

    Raises ValueError or TypeError, before anything is launched, when arguments do not fit each other.
    """
    check_tables(block_table, indptr, indices)
    operators.write_key_shadows(
        shadows.tiles,
        sides_of(cache)[0],
        begin,
        end,
        most,
        table=indices if block_table is None else block_table,
        table_begin=indptr,
        layout=layout,
        code=shadows.code,
        block=shadows.block,
        order=shadows.order,
    )
