"""Calls with arguments that do not fit, of a small problem on the CPU."""

import torch

SETUP = dict(lengths=(1, 40), head_dim=64)


def call(problem, workspace, **changes):
    from siftattention import decode_attention

    given = {"query": problem.query, "cache": problem.cache, "lengths": problem.lengths}
    given |= {"workspace": workspace} | problem.options | changes
    return decode_attention(**given)


def halves(*shape):
    return torch.zeros(shape, dtype=torch.float16)


def integers(*shape):
    return torch.zeros(shape, dtype=torch.int32)


def floats(*shape):
    return torch.zeros(shape)


def pair(side):
    return {"cache": (side, side)}
