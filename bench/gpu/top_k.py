"""Exact top-k attention from PyTorch's operators, at the sparsity of sifting."""

import torch

from problem import TAUS
from variant import Variant


def attention_weights(problem, copy):
    """Softmax scores [batch, kv_heads, group, context] of the caches' copy, float32."""
    cell = problem.cell
    query = problem.query.view(cell.batch, cell.kv_heads, cell.group, cell.head_dim)
    scores = query @ problem.contiguous[copy][0].transpose(2, 3)
    return torch.softmax(scores.float() * problem.scale, 3)


def gather(problem, copy, indices):
    """Values [batch, kv_heads, group, k, head_dim] of indices [batch, kv_heads, group, k]."""
    values = problem.contiguous[copy][1].view(-1, problem.cell.head_dim)
    rows = (indices + problem.first_rows).flatten()
    return values.index_select(0, rows).view(*indices.shape, problem.cell.head_dim)


def project(problem, weights, rows):
    """Σ weights · rows: [batch, heads, head_dim] of [batch, kv_heads, group, k(, head_dim)]."""
    sums = weights.to(problem.dtype).unsqueeze(3) @ rows
    return sums.view(problem.query.shape)


def _build(tau):
    def build(problem):
        kept = problem.cell.context - problem.pruned(tau)

        def launch(copy):
            weights = attention_weights(problem, copy)
            largest, indices = torch.topk(weights, kept, dim=3, sorted=False)
            return project(problem, largest, gather(problem, copy, indices))

        return Variant(launch, tau)

    return build


BUILDERS = {f"top_k/contiguous/{tau}": _build(tau) for tau in TAUS}
