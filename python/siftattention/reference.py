"""Decode attention in float64 from plain tensor operations: slow, and what the kernels are held to."""

import math
from typing import NamedTuple

import torch

from siftattention.arguments import Mode, check_tables, sides_of
from siftattention.reference_shadow import shadowed_keys


class Reference(NamedTuple):
    output: torch.Tensor  # [batch, heads, head_dim] float64
    log_sum_exp: torch.Tensor  # [batch, heads] float64, base 2
    kept: list  # for each request a bool [heads, length]
    passed: list  # as kept: the keys whose score is above the threshold, and that are not forced
    candidates: list  # as kept: the keys whose exact score was taken after an estimate
    kept_mass: torch.Tensor  # [batch, heads] float64
    empty: torch.Tensor  # [batch, heads] bool: no key passed, and none was forced
    # [batch, heads] float64: how far the nearest score is from deciding otherwise about a key. Scores
    # known to within a fraction of this lead to the same choice.
    clearance: torch.Tensor


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
    exact=True,
    gated=False,
    value_means=None,
    compensation="none",
    empty="highest",
    sink=0,
    recent=0,
    shadows=None,
    margin=0.5,
):
    """What siftattention.decode_attention computes from the same arguments, as a Reference; `exact` has
    no effect on it."""
    check_tables(block_table, indptr, indices)
    table = {"block_table": block_table, "indptr": indptr, "indices": indices, "layout": layout}
    scale = 1 / math.sqrt(query.shape[2]) if scale is None else scale
    sides = sides_of(cache)
    shadowed = None if shadows is None else shadowed_keys(shadows, query.shape[2])
    modes = effective_modes(modes, gated)
    requests = []
    for request, length in enumerate(lengths.tolist()):
        keys, values = (rows_of(side, request, length, **table).double() for side in sides)
        rule = estimated = means = None
        if modes is not None and modes[request].item() == Mode.SIFT:
            rule = Rule(thresholds[request].double(), compensation, empty, sink, recent, margin)
            if shadowed is not None:
                estimated = rows_of(shadowed, request, length, **table | {"layout": "HND"})
            means = None if value_means is None else value_means[request].double()
        requests.append(_attend(query[request].double(), keys, values, scale, rule, estimated, means))
    columns = Reference(*zip(*requests))
    lists = {"kept", "passed", "candidates"}
    return Reference(
        *(
            list(column) if name in lists else torch.stack(column)
            for name, column in columns._asdict().items()
        )
    )


def effective_modes(modes, gated):
    """How requests attend [batch] that have these modes, or None: those that sift are dense where they
    are gated."""
    if modes is None or not gated:
        return modes
    return torch.where(modes == Mode.SIFT, Mode.DENSE.value, modes)


class Rule(NamedTuple):
    """How the heads of a sifted request choose their keys."""

    thresholds: torch.Tensor  # [heads] float64, log2 η
    compensation: str
    empty: str
    sink: int
    recent: int
    margin: float  # natural logarithm


def _attend(query, keys, values, scale, rule, estimated, means):
    """One request, as a Reference without the batch: query [heads, head_dim], the others [kv_heads,
    length, head_dim]; without a rule it is dense, without estimated keys scores are exact."""
    group = query.shape[0] // keys.shape[0]
    values = values.repeat_interleave(group, 0)
    scores = _scores(query, keys, scale)
    everything = torch.ones_like(scores, dtype=torch.bool)
    if rule is None:
        chosen = Chosen(everything, everything, ~everything, scores, _infinite(scores))
    else:
        estimates = None if estimated is None else _scores(query, estimated, scale)
        chosen = _choose(scores, estimates, rule)
    log_sum_exp = _log_sum_exp2(chosen.scores)
    weights = torch.where(chosen.kept, torch.exp2(scores - log_sum_exp[:, None]), 0.0)
    mass = weights.sum(1)
    output = (weights.unsqueeze(1) @ values).squeeze(1)
    if rule is not None and rule.compensation == "renormalise":
        output = output / torch.where(mass > 0, mass, 1.0)[:, None]
    if rule is not None and rule.compensation == "mean":
        output = output + (1 - mass).clamp_min(0)[:, None] * means.repeat_interleave(group, 0)
    forced = everything if rule is None else _forced(scores, rule)
    nothing = ~(chosen.passed | forced).any(1)
    return Reference(
        output,
        log_sum_exp,
        chosen.kept,
        chosen.passed,
        chosen.candidates,
        mass,
        nothing,
        chosen.clearance,
    )


class Chosen(NamedTuple):
    """What the heads of a request choose; masks and scores are [heads, length]."""

    kept: torch.Tensor
    passed: torch.Tensor
    candidates: torch.Tensor
    scores: torch.Tensor  # base 2, whose log-sum-exp serves
    clearance: torch.Tensor  # [heads]


def _choose(exact, estimates, rule):
    """The keys of sifted heads: exact scores [heads, length], base 2, and estimates or None."""
    forced = _forced(exact, rule)
    clearance = _infinite(exact)
    known = torch.ones_like(exact, dtype=torch.bool)  # keys whose exact scores are
    scores = exact
    if estimates is not None:
        margin = rule.margin / math.log(2)
        known, clear = _above(estimates, known, estimates, forced, rule, margin, "highest")
        clearance = torch.minimum(clearance, clear)
        scores = torch.where(known, exact, estimates)
    kept, clear = _above(exact, known, scores, forced, rule, 0.0, rule.empty)
    limit = rule.thresholds + _log_sum_exp2(scores)
    passed = known & (exact > limit[:, None]) & ~forced
    candidates = torch.zeros_like(known) if estimates is None else known
    return Chosen(kept, passed, candidates, scores, torch.minimum(clearance, clear))


def _above(scores, known, all_scores, forced, rule, margin, empty):
    """The mask [heads, length] of known keys with scores above the threshold, of those that are
    forced, and of what stands in for none; and the clearance [heads]."""
    limit = (rule.thresholds + _log_sum_exp2(all_scores) - margin)[:, None]
    scores = torch.where(known, scores, -math.inf)
    chosen = (scores > limit) | forced
    clearance = torch.where(forced, math.inf, (scores - limit).abs()).amin(1)
    nothing = ~chosen.any(1)
    if empty == "highest":
        best = torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
        chosen = chosen | (best & nothing[:, None])
        others = torch.where(best, -math.inf, scores).amax(1)
        lead = scores.amax(1) - others
        clearance = torch.where(nothing, torch.minimum(clearance, lead), clearance)
    return chosen, clearance


def _forced(scores, rule):
    """The mask [heads, length] of keys that are kept whatever their score."""
    length = scores.shape[1]
    place = torch.arange(length, device=scores.device)
    return ((place < rule.sink) | (place >= length - rule.recent)).expand_as(scores)


def _scores(query, keys, scale):
    """[heads, length], base 2, of a query [heads, head_dim] and keys [kv_heads, length, head_dim]."""
    grouped = query.unflatten(0, (keys.shape[0], -1))
    return (grouped @ keys.transpose(1, 2)).flatten(0, 1) * (scale * math.log2(math.e))


def _log_sum_exp2(scores):
    return torch.logsumexp(scores * math.log(2), 1) / math.log(2)


def _infinite(scores):
    return torch.full_like(scores[:, 0], math.inf)


def facts(result, kv_heads):
    """head_facts [batch, heads, 4] and group_facts [batch, kv_heads, 3], int32, of a Reference."""
    counts = [_counts(mask) for mask in (result.kept, result.passed)]
    mass = result.kept_mass.float().contiguous().view(torch.int32)
    heads = torch.stack([*counts, mass, result.empty.int()], 2)
    # What stands in for none is not forced; a head that is empty has no forced keys.
    unforced = [
        passed | (kept & nothing[:, None])
        for passed, kept, nothing in zip(result.passed, result.kept, result.empty)
    ]
    unions = [
        torch.stack([_counts([mask.unflatten(0, (kv_heads, -1)).any(1)])[0] for mask in masks])
        for masks in (result.kept, unforced, result.candidates)
    ]
    return heads.int(), torch.stack(unions, 2).int()


def _counts(masks):
    """[batch, …] of how many each row of the masks [batch][…, length] has."""
    return torch.stack([mask.sum(-1, dtype=torch.int32) for mask in masks])
