"""The paper's approach, from its description (arXiv 2506.05300, sections 4.1 and 4.3): one fused Triton
kernel that scores a query head's keys, compares softmax scores with a threshold, writes the indices of
those above it to global memory, and gathers their values."""

import torch
import triton
import triton.language as tl

from problem import TAUS
from timing import fastest
from variant import Variant


@triton.jit
def sift_fused(
    query,  # [batch, heads, DIM]
    keys,  # [batch, kv_heads, context, DIM]
    values,  # as keys
    thresholds,  # [batch, heads] η
    scores,  # [batch, heads, context] float32, scratch
    indices,  # [batch, heads, context] int32, scratch
    weights,  # [batch, heads, context] float32, scratch
    output,  # [batch, heads, DIM]
    context,
    scale,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)  # a request's head
    dims = tl.arange(0, DIM)
    lanes = tl.arange(0, BLOCK)
    keys += (row // GROUP) * context * DIM
    values += (row // GROUP) * context * DIM
    scores += row * context
    indices += row * context
    weights += row * context
    q = tl.load(query + row * DIM + dims).to(tl.float32) * scale

    maximum = -float("inf")
    total = 0.0
    for start in range(0, context, BLOCK):
        key = start + lanes
        inside = key < context
        tile = tl.load(keys + key[:, None] * DIM + dims[None, :], mask=inside[:, None], other=0.0)
        score = tl.sum(tile.to(tl.float32) * q[None, :], 1)
        score = tl.where(inside, score, -float("inf"))
        tl.store(scores + key, score, mask=inside)
        highest = tl.maximum(maximum, tl.max(score, 0))
        total = total * tl.exp(maximum - highest) + tl.sum(tl.exp(score - highest), 0)
        maximum = highest
    tl.debug_barrier()  # scores are read by other threads than wrote them

    threshold = tl.load(thresholds + row)
    kept = 0
    for start in range(0, context, BLOCK):
        key = start + lanes
        score = tl.load(scores + key, mask=key < context, other=-float("inf"))
        weight = tl.exp(score - maximum) / total
        keep = weight > threshold
        place = kept + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(indices + place, key, mask=keep)
        tl.store(weights + place, weight, mask=keep)
        kept += tl.sum(keep.to(tl.int32), 0)
    tl.debug_barrier()

    sums = tl.zeros([DIM], tl.float32)
    for start in range(0, kept, BLOCK):
        place = start + lanes
        inside = place < kept
        key = tl.load(indices + place, mask=inside, other=0)
        weight = tl.load(weights + place, mask=inside, other=0.0)
        tile = tl.load(values + key[:, None] * DIM + dims[None, :], mask=inside[:, None], other=0.0)
        sums += tl.sum(tile.to(tl.float32) * weight[:, None], 0)
    tl.store(output + row * DIM + dims, sums.to(output.dtype.element_ty))


CONFIGURATIONS = ((64, 4), (128, 4), (128, 8), (256, 8))  # keys of a block, warps


class Scratch:
    """What the kernel writes between its passes; all three have the shape [batch, heads, context]."""

    def __init__(self, problem):
        shape = (problem.cell.batch, problem.cell.heads, problem.cell.context)
        self.scores = torch.empty(shape, dtype=torch.float32, device=problem.device)
        self.indices = torch.empty(shape, dtype=torch.int32, device=problem.device)
        self.weights = torch.empty(shape, dtype=torch.float32, device=problem.device)


def launcher(problem, tau, block, warps):
    """A function of the copy's number that runs the kernel and returns its output."""
    cell, scratch = problem.cell, problem.scratch(Scratch)
    thresholds = torch.exp2(problem.sifted[tau][0])
    output = torch.empty_like(problem.query)

    def launch(copy):
        sift_fused[(cell.batch * cell.heads,)](
            problem.query,
            *problem.contiguous[copy],
            thresholds,
            scratch.scores,
            scratch.indices,
            scratch.weights,
            output,
            cell.context,
            problem.scale,
            GROUP=cell.group,
            DIM=cell.head_dim,
            BLOCK=block,
            num_warps=warps,
        )
        return output

    return launch


def _build(tau):
    def build(problem):
        launches = [launcher(problem, tau, *configuration) for configuration in CONFIGURATIONS]
        return Variant(fastest(launches, problem.copies), tau)

    return build


BUILDERS = {f"paper/contiguous/{tau}": _build(tau) for tau in TAUS}
