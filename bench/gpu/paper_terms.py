"""The terms of the paper's cost analysis (section 4.2), each on its own, as PyTorch computes them."""

import torch

from problem import TAUS
from top_k import attention_weights, gather, project
from variant import Variant

WARMUP = 128


def _scores(problem):
    def launch(copy):
        attention_weights(problem, copy)

    return Variant(launch)


def _project_all(problem):
    weights = attention_weights(problem, 0).to(problem.dtype)

    def launch(copy):
        return (weights @ problem.contiguous[copy][1]).view(problem.query.shape)

    return Variant(launch, tau=0.0)


def _on_weights(problem, operation):
    """An operation on scores that rotate through as many copies as the caches do."""
    weights = [attention_weights(problem, 0) for _ in range(problem.copies)]

    def launch(copy):
        operation(weights[copy])

    return Variant(launch)


def _project_kept(tau):
    def build(problem):
        kept = problem.cell.context - problem.pruned(tau)
        largest, indices = torch.topk(attention_weights(problem, 0), kept, dim=3, sorted=False)
        return Variant(lambda copy: project(problem, largest, gather(problem, copy, indices)), tau)

    return build


def _threshold(tau):
    def build(problem):
        cell = problem.cell
        eta = torch.exp2(problem.sifted[tau][0]).view(cell.batch, cell.kv_heads, cell.group, 1)
        return _on_weights(problem, lambda weights: weights > eta)

    return build


def _top_k(tau):
    def build(problem):
        kept = problem.cell.context - problem.pruned(tau)
        return _on_weights(problem, lambda weights: torch.topk(weights, kept, 3, sorted=False))

    return build


def _quantile(tau):
    """The τ-quantile of each head by selection: what a warm-up step has to record."""

    def build(problem):
        place = problem.pruned(tau)
        return _on_weights(problem, lambda weights: torch.kthvalue(weights, place, 3))

    return build


def _fit(problem):
    """Least squares of ln θ on ln S over WARMUP steps of every head, once after a warm-up."""
    cell = problem.cell
    steps = torch.arange(cell.context - WARMUP, cell.context, device=problem.device).log()
    quantiles = torch.rand(cell.batch, cell.heads, WARMUP, device=problem.device) + 0.1

    def launch(_):
        x, y = steps - steps.mean(), quantiles.log()
        mean = y.mean(2, keepdim=True)
        slope = (x * (y - mean)).sum(2) / (x * x).sum()
        torch.exp(mean.squeeze(2) - slope * steps.mean())

    return Variant(launch)


def _builders():
    yield "terms/scores", _scores
    yield "terms/project_all", _project_all
    yield f"terms/fit/{WARMUP}", _fit
    for tau in TAUS:
        yield f"terms/project_kept/{tau}", _project_kept(tau)
        yield f"terms/threshold/{tau}", _threshold(tau)
        yield f"terms/top_k/{tau}", _top_k(tau)
        yield f"terms/quantile/{tau}", _quantile(tau)


BUILDERS = dict(_builders())
