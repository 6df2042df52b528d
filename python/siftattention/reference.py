"""Decode attention in float64 from plain tensor operations: slow, and what the kernels are held to."""

import math
from typing import NamedTuple

import torch

from siftattention.arguments import Mode, check_tables, sides_of


class Reference(NamedTuple):
    output: torch.Tensor  # [batch, heads, head_dim] float64
    log_sum_exp: torch.Tensor  # [batch, heads] float64, base 2
    kept: list  # for each request a bool [heads, length]
    passed: list  # as kept: the keys whose score is above the threshold, and that are not forced
    kept_mass: torch.Tensor  # [batch, heads] float64
    empty: torch.Tensor  # [batch, heads] bool: no key passed, and none was forced


def rows_of(cache, request, length, *, block_table=None, indptr=None, indices=None, layout="HND"):
    """Keys or values of one request in order, [kv_heads, length, head_dim], from one side of a cache.

    The arguments are those of siftattention.decode_attention.
    """
    if layout == "NHD":
        cache = cache.transpose(1, 2)  # [pages, kv_heads, page, head_dim]
    if block_table is not None:
        pages = block_table[request]
    elif indices is not None:
        pages = indices[indptr[request] : indptr[request + 1]]
    else:
        pages = torch.tensor([request], device=cache.device)
    count = -(-length // cache.shape[2])
    return cache[pages[:count].long()].transpose(0, 1).flatten(1, 2)[:, :length]


def decode_attention(
    query,
    cache,
    lengths,
    *,
    block_table=None,
    indptr=None,
    indices=None,
    layout="HND",
    scale=None,
    modes=None,
    thresholds=None,
    value_means=None,
    compensation="none",
    empty="highest",
    sink=0,
    recent=0,
):
    """What siftattention.decode_attention computes from the same arguments, as a Reference."""
    check_tables(block_table, indptr, indices)
    table = {"block_table": block_table, "indptr": indptr, "indices": indices, "layout": layout}
    scale = 1 / math.sqrt(query.shape[2]) if scale is None else scale
    sides = sides_of(cache)
    requests = []
    for request, length in enumerate(lengths.tolist()):
        keys, values = (rows_of(side, request, length, **table).double() for side in sides)
        sifted = modes is not None and modes[request].item() == Mode.SIFT
        requests.append(
            _attend(
                query[request].double(),
                keys,
                values,
                scale,
                thresholds[request].double() if sifted else None,
                value_means[request].double() if sifted and value_means is not None else None,
                compensation if sifted else "none",
                empty,
                sink,
                recent,
            )
        )
    columns = list(zip(*requests))
    stacked = [torch.stack(columns[place]) for place in (0, 1, 4, 5)]
    return Reference(stacked[0], stacked[1], columns[2], columns[3], stacked[2], stacked[3])


def _attend(query, keys, values, scale, thresholds, means, compensation, empty, sink, recent):
    """One request: query [heads, head_dim], keys and values [kv_heads, length, head_dim]."""
    group = query.shape[0] // keys.shape[0]
    keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
    scores = (keys @ query.unsqueeze(2)).squeeze(2) * (scale * math.log2(math.e))
    log_sum_exp = torch.logsumexp(scores * math.log(2), 1) / math.log(2)
    kept, passed, nothing = _select(scores - log_sum_exp[:, None], thresholds, empty, sink, recent)
    weights = torch.where(kept, torch.exp2(scores - log_sum_exp[:, None]), 0.0)
    mass = weights.sum(1)
    output = (weights.unsqueeze(1) @ values).squeeze(1)
    if compensation == "renormalise":
        output = output / torch.where(mass > 0, mass, 1.0)[:, None]
    if compensation == "mean":
        output = output + (1 - mass).clamp_min(0)[:, None] * means.repeat_interleave(group, 0)
    return output, log_sum_exp, kept, passed, mass, nothing


def _select(probabilities, thresholds, empty, sink, recent):
    """Masks [heads, length] of the keys kept and passed, and [heads] where nothing passed, for log2
    softmax scores [heads, length]."""
    if thresholds is None:
        everything = torch.ones_like(probabilities, dtype=torch.bool)
        return everything, everything, torch.zeros_like(everything[:, 0])
    length = probabilities.shape[1]
    place = torch.arange(length, device=probabilities.device)
    forced = (place < sink) | (place >= length - recent)
    above = probabilities > thresholds[:, None]
    nothing = ~(above | forced).any(1)
    kept = above | forced
    if empty == "highest":
        highest = torch.nn.functional.one_hot(probabilities.argmax(1), length).bool()
        kept = kept | (highest & nothing[:, None])
    return kept, above & ~forced, nothing


def facts(result, kv_heads):
    """head_facts [batch, heads, 4] and group_facts [batch, kv_heads, 3], int32, of a Reference."""
    counts = [_counts(mask) for mask in (result.kept, result.passed)]
    mass = result.kept_mass.float().contiguous().view(torch.int32)
    heads = torch.stack([*counts, mass, result.empty.int()], 2)
    unions = [
        torch.stack([_counts([mask.unflatten(0, (kv_heads, -1)).any(1)])[0] for mask in masks])
        for masks in (result.kept, result.passed)
    ]
    unions.append(torch.zeros_like(unions[0]))  # rows of keys read after estimates
    return heads.int(), torch.stack(unions, 2).int()


def _counts(masks):
    """[batch, …] of how many each row of the masks [batch][…, length] has."""
    return torch.stack([mask.sum(-1, dtype=torch.int32) for mask in masks])
