"""The method's rules in float64 from plain tensor operations, on the bytes that MethodStates hold.

`decode_attention` is a step: `plan`, attention with the modes and thresholds that it gives, `record`,
`observe`.
"""

import math

import torch

from siftattention import reference
from siftattention.arguments import Mode, sides_of

LN_THETA_FLOOR = -87.33654475055310  # ln of the smallest normal float32
LARGEST_CORRECTION = 4.0
SLOPE_PRIOR_DEVIATION = 0.5
ASSUMED_RESIDUAL = 0.2
ILL_DETERMINED_SLOPE_ERROR = 0.5


def plan(method, lengths, generated, *, slots=None, warmups=None, modes=None, gated=False):
    """How requests attend in a step [batch], uint8 values of Mode, and thresholds [batch, heads], float64
    log2 η.

    The arguments are those of siftattention.decode_attention.
    """
    own = _slots(slots, lengths)
    if modes is None:
        warmups = torch.full_like(lengths, method.warmup) if warmups is None else warmups
        exact = torch.where(lengths <= method.dense_rows, Mode.DENSE, Mode.SIFT)
        modes = torch.where(generated <= warmups, Mode.RECORD, exact).to(torch.uint8)
    ln_alpha, beta, correction = (
        method.head(f"head.{name}")[own] for name in ("law.ln_alpha", "law.beta", "correction")
    )
    ln_eta = ln_alpha + correction - beta * lengths.double().log()[:, None]
    return reference.effective_modes(modes, gated), ln_eta / math.log(2)


def record(query, cache, lengths, modes, taus, *, scale=None, **table):
    """ln of the τ-quantiles [batch, heads], float64, of the softmax scores of requests that record;
    NaN for others. `taus` [batch] is needed; `table` says where pages lie and the layout."""
    ln_thetas = torch.full(query.shape[:2], math.nan, dtype=torch.float64, device=query.device)
    scale = 1 / math.sqrt(query.shape[2]) if scale is None else scale
    for request, length in enumerate(lengths.tolist()):
        if modes[request] != Mode.RECORD:
            continue
        keys = reference.rows_of(sides_of(cache)[0], request, length, **table).double()
        grouped = query[request].double().unflatten(0, (keys.shape[0], -1))
        softmax = ((grouped @ keys.transpose(1, 2)).flatten(0, 1) * scale).softmax(1)
        quantile = softmax.quantile(taus[request].double(), dim=1)
        ln_thetas[request] = quantile.log().clamp_min(LN_THETA_FLOOR)
    return ln_thetas


def decode_attention(
    query,
    cache,
    lengths,
    method,
    generated,
    *,
    slots=None,
    taus=None,
    warmups=None,
    modes=None,
    gated=False,
    ln_thetas=None,
    sink=0,
    recent=0,
    shadows=None,
    scale=None,
    block_table=None,
    indptr=None,
    indices=None,
    layout="HND",
    **options,
):
    """What siftattention.decode_attention computes from the same arguments with a method, as a
    Reference; the states of `method` take what it did. Returns the Reference and how requests attended
    [batch], uint8 values of Mode."""
    modes, thresholds = plan(
        method, lengths, generated, slots=slots, warmups=warmups, modes=modes, gated=gated
    )
    table = {"block_table": block_table, "indptr": indptr, "indices": indices, "layout": layout}
    always = {"sink": sink, "recent": recent}
    result = reference.decode_attention(
        query,
        cache,
        lengths,
        modes=modes,
        thresholds=thresholds,
        shadows=shadows,
        scale=scale,
        **always,
        **table,
        **options,
    )
    each = torch.full_like(lengths, method.tau, dtype=torch.float64) if taus is None else taus
    recorded = record(query, cache, lengths, modes, each, scale=scale, **table)
    if ln_thetas is not None:
        ln_thetas.copy_(torch.where(modes[:, None] == Mode.RECORD, recorded, ln_thetas))
        recorded = None
    facts = reference.facts(result, method.group_states.shape[1])
    observe(
        method,
        lengths,
        generated,
        modes,
        recorded,
        *facts,
        slots=slots,
        taus=taus,
        warmups=warmups,
        estimates=shadows is not None,
        **always,
    )
    return result, modes


def observe(
    method,
    lengths,
    generated,
    modes,
    ln_thetas,
    head_facts,
    group_facts,
    *,
    slots=None,
    taus=None,
    warmups=None,
    sink=0,
    recent=0,
    estimates=False,
):
    """Gives the states what a step did.

    - modes [batch], as `plan` gives them; ln_thetas [batch, heads], float64, of requests that record, or
      None where the fits do not take them; head_facts and group_facts of those that sift.
    - estimates: whether scores were estimated. The others are as for decode_attention.
    """
    masses = head_facts[..., 2].contiguous().view(torch.float32).double()
    for request, slot in enumerate(_slots(slots, lengths).tolist()):
        row = _Row(
            lengths[request].item(),
            generated[request].item(),
            method.tau if taus is None else taus[request].item(),
            method.warmup if warmups is None else warmups[request].item(),
            lengths[request].item() - sink - recent,
        )
        heads = {name: method.head(name)[slot] for name in _HEAD_NAMES}
        groups = {name: method.group(name)[slot] for name in _GROUP_NAMES}
        if modes[request] == Mode.SIFT:
            facts = head_facts[request].double()
            if not heads["head.fitted"].all():
                _solve_into(heads, method.fit)
            _count_sifted_heads(heads, row, facts, masses[request])
            _count_sifted_groups(groups, row, group_facts[request], estimates)
            _adapt(heads["head.correction"], method, row, facts[:, 1], group_facts[request, :, 1])
            continue
        if row.generated > 0:
            _count_dense(heads, groups, row)
        if modes[request] == Mode.RECORD and ln_thetas is not None:
            _add_records(heads, row.visible, ln_thetas[request])
            _solve_into(heads, method.fit)


class _Row:
    """A row of a request, and what it goes by."""

    def __init__(self, visible, generated, tau, warmup, eligible):
        self.visible = visible  # S
        self.generated = generated
        self.tau = tau
        self.after_warmup = int(generated > warmup)
        self.eligible = max(eligible, 0)


_FIT_NAMES = "count sum_x sum_y sum_xx sum_xy sum_yy first_x first_y refused".split()
_HEAD_NAMES = [
    *(f"head.fit.{name}" for name in _FIT_NAMES),
    *(f"head.law.{name}" for name in ("ln_alpha", "beta", "degenerate", "ill_determined")),
    *("head.correction", "head.fitted", "tally.rows", "tally.rows_after_warmup", "tally.pruned"),
    *("tally.pruned_after_warmup", "tally.kept_mass_after_warmup", "tally.empty_rows"),
]
_GROUP_NAMES = [
    *("tally.sparse_rows", "tally.dense_rows", "tally.rows_after_warmup"),
    *("tally.union_after_warmup", "tally.candidates_after_warmup", "tally.value_rows_read"),
    *("tally.key_rows_read", "tally.shadow_rows_read", "tally.value_rows_dense"),
]


def _slots(slots, lengths):
    """The slot [batch] of each request."""
    return torch.arange(len(lengths), device=lengths.device) if slots is None else slots.long()


def _add_records(heads, visible, ln_theta):
    """Adds records [heads] to the sums of the fits; NaN and +∞ are refused."""
    fit = {name: heads[f"head.fit.{name}"] for name in _FIT_NAMES}
    taken = ln_theta < math.inf
    value = torch.where(taken, ln_theta, 0.0).clamp_min(LN_THETA_FLOOR)
    first = taken & (fit["count"] == 0)
    fit["first_x"].copy_(torch.where(first, math.log(visible), fit["first_x"]))
    fit["first_y"].copy_(torch.where(first, value, fit["first_y"]))
    x = torch.where(taken, math.log(visible) - fit["first_x"], 0.0)
    y = torch.where(taken, value - fit["first_y"], 0.0)
    for name, term in (("x", x), ("y", y), ("xx", x * x), ("xy", x * y), ("yy", y * y)):
        fit[f"sum_{name}"] += term
    fit["count"] += taken
    fit["refused"] += ~taken


def _solve_into(heads, kind):
    """Fits the laws to the sums."""
    law = solve({name: heads[f"head.fit.{name}"] for name in _FIT_NAMES}, kind)
    for name, value in law.items():
        heads[f"head.law.{name}"].copy_(value)
    heads["head.fitted"].fill_(True)


def solve(fit, kind):
    """The power laws, as a dictionary of ln_alpha, beta, degenerate and ill_determined, that the sums
    of a fit, a dictionary of count, sum_x, …, give by `kind`, "ols" or "ridge"."""
    count = fit["count"].clamp_min(1)
    mean_x, mean_y = fit["sum_x"] / count, fit["sum_y"] / count
    sxx = fit["sum_xx"] - fit["sum_x"] * mean_x
    sxy = fit["sum_xy"] - fit["sum_x"] * mean_y
    syy = fit["sum_yy"] - fit["sum_y"] * mean_y
    sloped = (fit["refused"] == 0) & (fit["count"] >= 2) & (sxx > 0) & (syy > 0)
    divisor = torch.where(sloped, sxx, 1.0)
    beta = -sxy / divisor
    residual = (syy - sxy * sxy / divisor).clamp_min(0) / (fit["count"] - 2).clamp_min(1)
    variance = torch.where(fit["count"] < 3, ASSUMED_RESIDUAL**2, residual)
    if kind == "ridge":
        prior = variance / SLOPE_PRIOR_DEVIATION**2
        beta = ((sxx * beta + prior) / torch.where(sloped, sxx + prior, 1.0)).clamp(0, 2)
    beta = torch.where(sloped, beta, 0.0)
    return {
        "ln_alpha": fit["first_y"] + mean_y + beta * (fit["first_x"] + mean_x),
        "beta": beta,
        "degenerate": ~sloped,
        "ill_determined": sloped & ((variance / divisor).sqrt() > ILL_DETERMINED_SLOPE_ERROR),
    }


def _adapt(correction, method, row, kept, rows):
    """Adds γ clamp(ln(((k + ½) / (n + 1)) / (1 − τ)), −2, 2) to the corrections [heads], of k = kept
    [heads] or rows [kv_heads] of n eligible keys."""
    if method.adapt == 0 or row.eligible == 0:
        return
    if method.adapt_target == "group":
        kept = rows.double().repeat_interleave(len(correction) // len(rows))
    excess = ((kept + 0.5) / (row.eligible + 1) / (1 - row.tau)).log()
    correction += excess.clamp(-2, 2) * method.adapt
    correction.clamp_(-LARGEST_CORRECTION, LARGEST_CORRECTION)


def _count_sifted_heads(heads, row, facts, masses):
    """Counts a sifted row in the tallies of its heads; facts are [heads, 4], masses [heads]."""
    pruned = 1 - facts[:, 0] / row.visible
    heads["tally.rows"] += 1
    heads["tally.pruned"] += pruned
    heads["tally.empty_rows"] += facts[:, 3].long()
    heads["tally.rows_after_warmup"] += row.after_warmup
    heads["tally.pruned_after_warmup"] += pruned * row.after_warmup
    heads["tally.kept_mass_after_warmup"] += masses * row.after_warmup


def _count_sifted_groups(groups, row, facts, estimates):
    """The same of its KV heads; facts are [kv_heads, 3]."""
    rows, _, candidates = facts.long().unbind(1)
    groups["tally.sparse_rows"] += 1
    groups["tally.rows_after_warmup"] += row.after_warmup
    groups["tally.union_after_warmup"] += rows.double() / row.visible * row.after_warmup
    groups["tally.candidates_after_warmup"] += candidates.double() / row.visible * row.after_warmup
    groups["tally.value_rows_read"] += rows
    groups["tally.value_rows_dense"] += row.visible
    groups["tally.key_rows_read"] += candidates if estimates else row.visible
    groups["tally.shadow_rows_read"] += row.visible if estimates else 0


def _count_dense(heads, groups, row):
    """Counts a generated row that attended exactly."""
    heads["tally.rows"] += 1
    heads["tally.rows_after_warmup"] += row.after_warmup
    heads["tally.kept_mass_after_warmup"] += row.after_warmup
    groups["tally.dense_rows"] += 1
    for name in ("rows", "union", "candidates"):
        groups[f"tally.{name}_after_warmup"] += row.after_warmup
    for name in ("key_rows_read", "value_rows_read", "value_rows_dense"):
        groups[f"tally.{name}"] += row.visible
