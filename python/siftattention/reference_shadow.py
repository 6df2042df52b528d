"""Shadows of keys from plain tensor operations: the bytes that the kernels make, and what they mean.

A row is the shadow of one key as docs/method.md has it: codes, then scales. A tile holds 16 rows in
another order (sift/kernels/cuda/key_shadow.h).
"""

import torch

from siftattention.arguments import TILE_KEYS, sides_of, tiles_of_page

LARGEST_HALF = 65504.0
LARGEST_E4M3 = 448.0
UNIT_CODES = 8  # neighbouring codes, which stay together in a tile
UNIT_BYTES = {"bits4": 4, "fp8": 8}


def code_order(head_dim, order):
    """Which value of a key each code stands for, [head_dim]."""
    places = torch.arange(head_dim)
    return torch.cat([places[::2], places[1::2]]) if order == "pairs_parted" else places


def encode(keys, code, block, order="as_stored"):
    """Rows [..., row_bytes], uint8, of keys [..., head_dim]."""
    values = keys.float()[..., code_order(keys.shape[-1], order).to(keys.device)]
    return _encode_fp8(values) if code == "fp8" else _encode_bits4(values.unflatten(-1, (-1, block)))


def decode(rows, head_dim, code, block, order="as_stored"):
    """The keys [..., head_dim], float64, that rows [..., row_bytes] stand for."""
    split = head_dim // UNIT_CODES * UNIT_BYTES[code]
    codes, scales = rows[..., :split].contiguous(), rows[..., split:].contiguous()
    if code == "fp8":
        values = codes.view(torch.float8_e4m3fn).double() * scales.view(torch.float32).double()
    else:
        scale, zero = scales.view(torch.float16).double().unflatten(-1, (-1, 2)).unbind(-1)
        halves = torch.stack([codes & 15, codes >> 4], -1).flatten(-2).double()
        blocks = zero[..., None] + scale[..., None] * halves.unflatten(-1, (-1, block))
        values = blocks.flatten(-2)
    keys = torch.empty_like(values)
    keys[..., code_order(head_dim, order).to(rows.device)] = values
    return keys


def _quotient(values, by):
    """values / by, rounded once: a divisor that is one number may become a factor on a GPU."""
    return values / torch.full_like(values, by)


def _encode_bits4(blocks):
    """Of values [..., blocks, block], float32."""
    finite = blocks.isfinite().all(-1)
    known = torch.where(finite[..., None], blocks, 0.0)
    zero = (known.amin(-1) + 0.0).clamp(-LARGEST_HALF, LARGEST_HALF).half()
    spread = _quotient(known.amax(-1) + 0.0 - zero.float(), 15.0)
    scale = spread.clamp(-LARGEST_HALF, LARGEST_HALF).half()
    step = torch.where(scale == 0, torch.ones_like(spread), scale.float())
    codes = ((known - zero.float()[..., None]) / step[..., None]).clamp(0, 15).round()
    codes = torch.where((scale == 0)[..., None], 0.0, codes).flatten(-2).to(torch.uint8)
    scales = torch.stack([scale, torch.where(finite, zero, torch.nan)], -1).flatten(-2)
    return torch.cat([codes[..., ::2] | codes[..., 1::2] << 4, scales.view(torch.uint8)], -1)


def _encode_fp8(values):
    """Of values [..., head_dim], float32."""
    finite = values.isfinite().all(-1, keepdim=True)
    known = torch.where(finite, values, 0.0)
    scale = _quotient(known.abs().amax(-1, keepdim=True), LARGEST_E4M3)
    steps = (known / torch.where(scale == 0, 1.0, scale)).clamp(-LARGEST_E4M3, LARGEST_E4M3)
    codes = torch.where(scale == 0, 0.0, steps).to(torch.float8_e4m3fn).view(torch.uint8)
    scale = torch.where(finite, scale, torch.nan)
    return torch.cat([torch.where(finite, codes, 0), scale.view(torch.uint8)], -1)


def into_tiles(rows, head_dim, code):
    """Tiles [..., tiles, tile_bytes] of rows [..., slots, row_bytes]; rows behind the last are zero."""
    missing = tiles_of_page(rows.shape[-2]) * TILE_KEYS - rows.shape[-2]
    rows = torch.nn.functional.pad(rows, (0, 0, 0, missing)).unflatten(-2, (-1, TILE_KEYS))
    split = head_dim // UNIT_CODES * UNIT_BYTES[code]
    units = rows[..., :split].unflatten(-1, (-1, 4, UNIT_BYTES[code])).transpose(-3, -2)
    return torch.cat([units.flatten(-4), rows[..., split:].flatten(-2)], -1)


def from_tiles(tiles, head_dim, code):
    """Rows [..., slots, row_bytes] of tiles [..., tiles, tile_bytes], slots being whole tiles."""
    unit = UNIT_BYTES[code]
    split = TILE_KEYS * head_dim // UNIT_CODES * unit
    units = tiles[..., :split].unflatten(-1, (TILE_KEYS, 4, -1, unit)).transpose(-3, -2)
    scales = tiles[..., split:].unflatten(-1, (TILE_KEYS, -1))
    return torch.cat([units.flatten(-3), scales], -1).flatten(-3, -2)


def shadowed_keys(shadows, head_dim):
    """The keys [pages, kv_heads, slots, head_dim], float64, that KeyShadows stand for, in layout HND."""
    rows = from_tiles(shadows.tiles, head_dim, shadows.code)
    return decode(rows, head_dim, shadows.code, shadows.block, shadows.order)


def write_key_shadows(
    shadows, cache, begin, end, *, block_table=None, indptr=None, indices=None, layout="HND", most=1
):
    """What siftattention.write_key_shadows does, from the same arguments."""
    keys = sides_of(cache)[0]
    keys = keys if layout == "HND" else keys.transpose(1, 2)  # [pages, kv_heads, page, head_dim]
    head_dim = keys.shape[3]
    page = keys.shape[2]
    for request, (first, last) in enumerate(zip(begin.tolist(), end.tolist())):
        if block_table is not None:
            table = block_table[request]
        elif indices is not None:
            table = indices[indptr[request] : indptr[request + 1]]
        else:
            table = torch.tensor([request])
        for number in range(first // page, -(-last // page)):
            own = int(table[number])
            slots = slice(max(first - number * page, 0), min(last - number * page, page))
            rows = from_tiles(shadows.tiles[own], head_dim, shadows.code)
            rows[:, slots] = encode(
                keys[own, :, slots], shadows.code, shadows.block, shadows.order
            )
            shadows.tiles[own] = into_tiles(rows, head_dim, shadows.code)
