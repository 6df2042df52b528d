"""What is said of arguments that do not fit, before anything is launched."""

import re

import pytest
import torch

from problems import SIFT, Setup, make
from refusals import SETUP, call, floats, halves, integers, pair

pytestmark = pytest.mark.library

# The problem: 2 requests, 8 query heads, 2 KV heads, pages of 16, 3 pages a request, 6 in all.
WRONG_VALUES = (
    # Shapes.
    ({"query": halves(2, 8)}, "query has 2 dimensions, expected [batch, heads, head_dim]"),
    ({"out": halves(2, 8, 32)}, "out has shape [2, 8, 32], expected [2, 8, 64]"),
    ({"lengths": integers(3)}, "lengths has shape [3], expected [2]"),
    ({"block_table": integers(3, 3)}, "table has shape [3, 3], expected [2, 3]"),
    ({"modes": torch.zeros(1, dtype=torch.uint8)}, "modes has shape [1], expected [2]"),
    ({"thresholds": floats(2, 2)}, "thresholds has shape [2, 2], expected [2, 8]"),
    ({"value_means": floats(2, 8, 64)}, "value_means has shape [2, 8, 64], expected [2, 2, 64]"),
    ({"log_sum_exp": floats(2)}, "log_sum_exp has shape [2], expected [2, 8]"),
    ({"head_facts": integers(2, 8)}, "head_facts has shape [2, 8], expected [2, 8, 4]"),
    ({"group_facts": integers(2, 2, 2)}, "group_facts has shape [2, 2, 2], expected [2, 2, 3]"),
    (pair(halves(6, 2, 16)), "key_cache has 3 dimensions, expected 4"),
    (pair(halves(6, 2, 16, 128)), "key_cache has head dimension 128, expected 64"),
    (pair(halves(6, 2, 8, 64)), "pages have 8 slots, expected a power of two of at least 16"),
    (pair(halves(6, 2, 48, 64)), "pages have 48 slots"),
    ({"cache": (halves(6, 2, 16, 64), halves(7, 2, 16, 64))}, "key_cache has sizes [6, 2, 16, 64]"),
    (
        {"block_table": None} | pair(halves(1, 2, 48, 64)),
        "key_cache has 1 sequences, expected at least 2",
    ),
    # Devices.
    ({"lengths": integers(2).to("meta")}, "lengths is on meta, expected cpu, where the query is"),
    (pair(halves(6, 2, 16, 64).to("meta")), "key_cache is on meta, expected cpu"),
    ({}, "query is on cpu, expected a CUDA device"),
    # How they lie in memory.
    ({"query": halves(8, 2, 64).transpose(0, 1)}, "query is not contiguous"),
    (
        {"query": halves(2 * 8 * 64 + 1)[1:].view(2, 8, 64)},
        "query does not begin at a multiple of 16 bytes",
    ),
    ({"out": halves(2, 8, 128)[..., ::2]}, "out is not contiguous"),
    ({"lengths": integers(4)[::2]}, "lengths is not contiguous"),
    (
        pair(halves(6, 2, 64, 16).transpose(2, 3)),
        "key_cache has stride 16 along the head dimension, expected 1",
    ),
    (
        pair(halves(6 * 2 * 16 * 64 + 1)[1:].view(6, 2, 16, 64)),
        "key_cache does not begin at a multiple of 16 bytes",
    ),
    # Words and numbers.
    ({"layout": "DHN"}, "layout is 'DHN', expected 'HND' or 'NHD'"),
    ({"compensation": "more"}, "compensation is 'more', expected 'none', 'renormalise' or 'mean'"),
    ({"empty": "last"}, "empty is 'last', expected 'zero' or 'highest'"),
    ({"sink": -1}, "sink is -1, expected 0 to"),
    ({"recent": 2**31}, "recent is 2147483648, expected 0 to"),
    # Tables.
    ({"indptr": integers(3)}, "indptr and indices belong together"),
    ({"indptr": integers(3), "indices": integers(6)}, "expected one of them"),
    (
        {"block_table": None, "indptr": integers(2), "indices": integers(6)},
        "table_begin has shape [2], expected [3]",
    ),
)
WRONG_TYPES = (
    ({"query": floats(2, 8, 64)}, "query has type Float, expected float16 or bfloat16"),
    ({"lengths": torch.zeros(2, dtype=torch.int64)}, "lengths has type Long, expected Int"),
    ({"out": floats(2, 8, 64)}, "out has type Float, expected Half"),
    ({"modes": integers(2)}, "modes has type Int, expected Byte"),
    (
        {"thresholds": torch.zeros(2, 8, dtype=torch.float64)},
        "thresholds has type Double, expected Float",
    ),
    (pair(halves(6, 2, 16, 64).bfloat16()), "key_cache has type BFloat16, expected Half"),
)
REFUSALS = [
    *((*case, ValueError) for case in WRONG_VALUES),
    *((*case, TypeError) for case in WRONG_TYPES),
]


@pytest.mark.parametrize("changes, sentence, error", REFUSALS, ids=[case[1] for case in REFUSALS])
def test_refuses(cuda_implementation, changes, sentence, error):
    problem = make(Setup(device="cpu", **SETUP))
    with pytest.raises(error, match=re.escape(sentence)):
        call(problem, problem.workspace(), **changes)


def allocate(batch=2, heads=8, kv_heads=2, head_dim=64, keys=41):
    from siftattention import DecodeWorkspace

    return DecodeWorkspace.allocate(batch, heads, kv_heads, head_dim, keys)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "make_workspace, sentence",
    (
        (lambda: allocate()._replace(keys=10**6), "bytes, expected at least"),
        (lambda: allocate()._replace(batch=512), "bytes, expected at least"),
        (lambda: allocate(batch=1), "the batch is 2, expected 1 to what the plan was made for"),
    ),
)
def test_refuses_a_workspace_of_other_sizes(make_workspace, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(make(Setup(**SETUP)), make_workspace())


@pytest.mark.gpu
def test_refuses_modes_without_what_they_need():
    problem = make(Setup(**SETUP)).sifted([SIFT], tau=0.9)
    workspace = problem.workspace()
    with pytest.raises(ValueError, match="the array of thresholds is null"):
        call(problem, workspace, thresholds=None)
    with pytest.raises(ValueError, match="the array of value means is null"):
        call(problem, workspace, compensation="mean")


@pytest.mark.gpu
@pytest.mark.parametrize(
    "changes, sentence",
    (
        ({"gated": True}, "requests are gated, but none may attend exactly"),
        ({"modes": None}, "all requests attend exactly, but none may"),
    ),
)
def test_refuses_that_none_attends_exactly(changes, sentence):
    problem = make(Setup(**SETUP)).sifted([SIFT], tau=0.9, exact=False)
    with pytest.raises(ValueError, match=sentence):
        call(problem, problem.workspace(), **changes)


@pytest.mark.gpu
def test_refuses_strides_that_are_no_multiples_of_16_bytes():
    problem = make(Setup(**SETUP))
    padded = torch.zeros(6, 2, 16, 68, dtype=torch.float16, device="cuda")[..., :64]
    with pytest.raises(ValueError, match="stride is .* expected a multiple of 16"):
        call(problem, problem.workspace(), cache=(padded, padded))


@pytest.mark.gpu
def test_an_error_leaves_the_workspace_usable():
    problem = make(Setup(**SETUP))
    workspace = problem.workspace()
    expected = call(problem, workspace)
    with pytest.raises(ValueError):
        call(problem, workspace, layout="DHN")
    assert torch.equal(call(problem, workspace), expected)
