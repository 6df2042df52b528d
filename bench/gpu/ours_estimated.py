"""Our decode attention over estimated scores, and over exact ones at the same thresholds.

Thresholds are the τ-quantiles of exact scores, as for other sifted variants, with one τ for all heads:
the one at which candidates by estimates take up UNION of a KV head's keys.
"""

import torch

from ours import caches_of, variant
from problem import LOG2_E

LAYOUT = "page16"
UNIONS = (0.25, 0.125)  # keys that are candidates of any head of their group
MARGINS = (0, 0.5)  # natural logarithm
CODE, BLOCK = "bits4", 32

JUDGED_REQUESTS = 8  # of a cell, which are enough to find τ
STEPS = 24  # of bisection
MOST_MISS = 0.01  # of the union that τ is found for
MOST_COUNTED_MISS = 0.03  # of what the kernel counts over all requests

# Of the output against that of exact sifting, by margin. An estimate is off by about .08 (natural
# logarithm). Without a margin some per cent of the keys that a head keeps are missed, those next to the
# threshold: the reference in float64 has errors of .11 to .17 from 2048 keys on. A margin of .5 misses none,
# and .02 to .08 are left since the threshold follows the estimates' sum. A threshold that is off by .14 gives
# .27 and more, all candidates of a margin of .5 being kept .49, shadows of other keys .96.
MOST_ERRORS = {0: 0.22, 0.5: 0.15}


class Judgement:
    """Exact scores and estimates of a cell's first requests, by which a τ is found for a union."""

    def __init__(self, problem):
        requests = range(min(JUDGED_REQUESTS, problem.cell.batch))
        exact = torch.stack([problem.scores(request) for request in requests])
        self._total = _log_sum_exp2(exact)  # [requests, kv_heads, group, 1]
        self._ordered = exact.sort(-1).values  # [requests, kv_heads, group, keys]
        self._cut, self._context = problem.cut, problem.cell.context
        estimates = torch.stack([_estimates(problem, request) for request in requests])
        self._estimates = estimates - _log_sum_exp2(estimates)
        self._found = {}

    def candidates(self, tau, margin):
        """The fraction of keys that are candidates of any head of their group."""
        limit = self._cut(self._ordered, tau) - self._total - margin * LOG2_E
        return (self._estimates > limit).any(2).double().mean().item()

    def tau_at(self, union, margin):
        """The τ at which candidates are `union` of the keys."""
        if (union, margin) not in self._found:
            self._found[union, margin] = self._find(union, margin)
        return self._found[union, margin]

    def _find(self, union, margin):
        low, high = 0.0, 1 - 1 / self._context  # all keys but one pruned
        for _ in range(STEPS):
            middle = (low + high) / 2
            more = self.candidates(middle, margin) > union
            low, high = (middle, high) if more else (low, middle)
        miss, tau = min((abs(self.candidates(tau, margin) - union), tau) for tau in (low, high))
        if miss > MOST_MISS:
            nearest = f"{self.candidates(tau, margin):.3f} at {tau:.4f}"
            raise ValueError(f"candidates are {union} of the keys at no τ; nearest is {nearest}")
        return tau


def _log_sum_exp2(scores):
    """Of scores base 2, over the last dimension, which stays."""
    return torch.logsumexp(scores / LOG2_E, -1, keepdim=True) * LOG2_E


def _estimates(problem, request):
    """Scores of one request on the keys that shadows stand for, as Problem.scores."""
    from siftattention.reference_shadow import decode, encode

    rows = encode(problem.keys[request], CODE, BLOCK)
    return problem.scores(request, keys=decode(rows, problem.cell.head_dim, CODE, BLOCK))


def _shadows(problem):
    """The shadows of each copy of the caches."""
    from siftattention import KeyShadows, write_key_shadows

    caches, table = caches_of(problem, LAYOUT)
    shadows = [KeyShadows.allocate(cache, code=CODE, block=BLOCK) for cache in caches]
    begin = torch.zeros_like(problem.lengths)
    for own, cache in zip(shadows, caches):
        write_key_shadows(
            own, cache, begin, problem.lengths, block_table=table, most=problem.cell.context
        )
    return shadows


def _workspace(problem):
    from siftattention import DecodeWorkspace

    cell = problem.cell
    return DecodeWorkspace.allocate(
        cell.batch,
        cell.heads,
        cell.kv_heads,
        cell.head_dim,
        cell.batch * cell.context,
        device=problem.device,
        estimates=True,
    )


def _estimated(problem, union, margin):
    """Sifting over estimates; its output is compared with exact sifting's."""
    from siftattention import Mode

    tau = problem.scratch(Judgement).tau_at(union, margin)
    options = [{"shadows": own, "margin": float(margin)} for own in problem.scratch(_shadows)]
    made = variant(problem, LAYOUT, Mode.SIFT, tau, _workspace, options)

    def facts():
        counted = made.facts()
        candidates = counted.get("candidates", 0.0)
        if abs(candidates - union) > MOST_COUNTED_MISS:
            raise ValueError(f"its candidates are {candidates} of the keys, expected about {union}")
        return {"tau": round(tau, 6), **counted}

    return made._replace(facts=facts, most_error=MOST_ERRORS[margin])


def _exact(problem, union, margin):
    """Exact sifting at the same thresholds."""
    from siftattention import Mode

    tau = problem.scratch(Judgement).tau_at(union, margin)
    made = variant(problem, LAYOUT, Mode.SIFT, tau)
    return made._replace(facts=lambda: {"tau": round(tau, 6), **made.facts()})


def _builders():
    for union in UNIONS:
        for margin in MARGINS:
            for name, build in (("estimated", _estimated), ("sift_at", _exact)):
                yield (
                    f"{name}/{LAYOUT}/{union}/{margin}",
                    lambda problem, build=build, union=union, margin=margin: build(
                        problem, union, margin
                    ),
                )


BUILDERS = dict(_builders())
