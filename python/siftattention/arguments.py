"""What arguments of decode attention mean, for the kernels and for their reference alike."""

import enum

import torch


class Mode(enum.IntEnum):
    """How one request attends, as the values of `modes`."""

    DENSE = 0  # exact attention
    RECORD = 1  # exact attention; its scores stay in the workspace
    SIFT = 2  # keys above the threshold only


def sides_of(cache):
    """Keys and values of a cache that is a pair of them, or one tensor [pages, 2, …]."""
    return cache.unbind(1) if isinstance(cache, torch.Tensor) else cache


def check_tables(block_table, indptr, indices):
    """Raises ValueError unless pages are told by a block_table, by indptr and indices, or not at all."""
    if (indptr is None) != (indices is None):
        raise ValueError("indptr and indices belong together, and one of them is None")
    if block_table is not None and indices is not None:
        raise ValueError("there is a block_table and there are indices, expected one of them")


TILE_KEYS = 16  # neighbouring slots whose shadows make a tile


def tiles_of_page(slots):
    """Tiles that hold the shadows of so many slots."""
    return -(-slots // TILE_KEYS)
