"""Loads the operators, and tells torch.compile what they do to shapes: nothing."""

import os
import pathlib

import torch

LIBRARY = os.environ.get(
    "SIFTATTENTION_LIBRARY", str(pathlib.Path(__file__).with_name("libsiftattention.so"))
)

torch.ops.load_library(LIBRARY)
operators = torch.ops.siftattention


@torch.library.register_fake("siftattention::decode_attention_out")
def _decode_attention_out(
    query, key_cache, value_cache, lengths, workspace, batch_capacity, key_capacity, out, **_
):
    """All results go to arrays that the caller gives."""


@torch.library.register_fake("siftattention::write_key_shadows")
def _write_key_shadows(tiles, keys, begin, end, most, **_):
    """Writes to the tiles that the caller gives."""
