"""What is said of shadows and of the method's arguments that do not fit, before anything is launched."""

import re

import pytest
import torch

from problems import Setup, make
from refusals import SETUP, call, floats, halves, integers

pytestmark = pytest.mark.library


def shadows(*shape, **format):
    from siftattention import KeyShadows

    return KeyShadows(torch.zeros(shape, dtype=torch.uint8), **format)


# Shadows of the problem's cache have 1 tile of 16 · 40 bytes for each page and KV head.
WRONG_SHADOWS = (
    ((6, 2, 1, 72), {}, "tiles has shape [6, 2, 1, 72], expected [6, 2, 1, 640]"),
    ((5, 2, 1, 640), {}, "tiles has shape [5, 2, 1, 640]"),
    ((6, 2, 1, 640), {"code": "fp8"}, "expected [6, 2, 1, 1088]"),
    ((6, 2, 1, 640), {"code": "bits3"}, "the code of shadows is 'bits3', expected 'bits4' or 'fp8'"),
    ((6, 2, 1, 640), {"block": 16}, "the block of shadows is 16, expected 32 or 64"),
    ((6, 2, 1, 640), {"order": "parted"}, "the order of shadows is 'parted', expected 'as_stored'"),
)


@pytest.mark.parametrize("shape, format, sentence", WRONG_SHADOWS, ids=[c[2] for c in WRONG_SHADOWS])
def test_refuses_shadows_of_other_caches(cuda_implementation, shape, format, sentence):
    from siftattention import write_key_shadows

    problem = make(Setup(device="cpu", **SETUP))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call(problem, problem.workspace(), shadows=shadows(*shape, **format))
    given = (shadows(*shape, **format), problem.cache, problem.lengths, problem.lengths)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        write_key_shadows(*given, **problem.table)


@pytest.mark.parametrize(
    "changes, sentence",
    (
        ({"margin": -1.0}, "margin is -1, expected at least 0"),
        ({}, "there are shadows of keys, but the workspace was allocated without estimates"),
    ),
)
def test_refuses_estimates(cuda_implementation, changes, sentence):
    problem = make(Setup(device="cpu", **SETUP))
    with pytest.raises(ValueError, match=sentence):
        call(problem, problem.workspace(), shadows=shadows(6, 2, 1, 640), **changes)


@pytest.mark.parametrize(
    "changes, sentence, error",
    (
        ({"begin": integers(3)}, "begin has shape [3], expected [2]", ValueError),
        ({"end": integers(2).long()}, "end has type Long, expected Int", TypeError),
        ({"most": -1}, "most is -1, expected 0 to", ValueError),
        ({"cache": (floats(6, 2, 16, 64),)}, "key_cache has type Float", TypeError),
        ({"cache": (halves(6, 2, 16),)}, "key_cache has 3 dimensions, expected 4", ValueError),
        ({"begin": integers(2).to("meta")}, "begin is on meta, expected cpu", ValueError),
        ({}, "key_cache is on cpu, expected a CUDA device", ValueError),
    ),
)
def test_refuses_to_make_shadows(cuda_implementation, changes, sentence, error):
    from siftattention import write_key_shadows

    problem = make(Setup(device="cpu", **SETUP))
    given = {"shadows": shadows(6, 2, 1, 640), "cache": problem.cache}
    given |= {"begin": problem.lengths, "end": problem.lengths} | problem.table | changes
    with pytest.raises(error, match=re.escape(sentence)):
        write_key_shadows(**given)


@pytest.mark.parametrize(
    "head_dim, format, sentence",
    (
        (80, {}, "the head dimension is 80, expected 64, 96, 128 or 256"),
        (96, {"block": 64}, "the head dimension is 96, expected a multiple of the block"),
        (64, {"block": 48}, "the block of shadows is 48, expected 32 or 64"),
        (64, {"code": "fp4"}, "the code of shadows is 'fp4'"),
    ),
)
def test_refuses_to_allocate_shadows(head_dim, format, sentence):
    from siftattention import KeyShadows

    with pytest.raises(ValueError, match=sentence):
        KeyShadows.allocate((halves(6, 2, 16, head_dim),), **format)


def method(**options):
    from siftattention import MethodStates

    sizes = {"slots": 2, "heads": 8, "kv_heads": 2, "device": "cpu"}
    return MethodStates.allocate(**sizes | options)


COUNTS = {"generated": integers(2)}
WRONG_METHODS = (
    ({}, {}, "generated is None, but the method needs to know", ValueError),
    ({}, {"generated": integers(3)}, "generated has shape [3], expected [2]", ValueError),
    ({}, COUNTS | {"thresholds": floats(2, 8)}, "there are thresholds and the method's", ValueError),
    ({}, COUNTS | {"slots": integers(3)}, "slots has shape [3], expected [2]", ValueError),
    ({}, COUNTS | {"taus": floats(2)}, "taus has type Float, expected Double", TypeError),
    ({}, COUNTS | {"warmups": floats(2)}, "warmups has type Float, expected Int", TypeError),
    ({}, COUNTS | {"ln_thetas": floats(2, 8)}, "ln_thetas has type Float", TypeError),
    ({"slots": 1}, COUNTS, "the method has states in 1 slots, expected at least 2", ValueError),
    ({"heads": 4}, COUNTS, "head_states has shape [2, 4, ", ValueError),
    ({"tau": 1.0}, COUNTS, "tau is 1, expected more than 0 and less than 1", ValueError),
    ({"fit": "line"}, COUNTS, "fit is 'line', expected 'ols' or 'ridge'", ValueError),
    ({"adapt": 2.0}, COUNTS, "adapt is 2, expected 0 to 1", ValueError),
    ({"adapt_target": "all"}, COUNTS, "adapt_target is 'all', expected 'head' or", ValueError),
    ({"warmup": -1}, COUNTS, "warmup is -1, expected 0 to", ValueError),
    ({"dense_rows": -1}, COUNTS, "dense_rows is -1, expected 0 to", ValueError),
)


@pytest.mark.parametrize(
    "options, changes, sentence, error", WRONG_METHODS, ids=[c[2] for c in WRONG_METHODS]
)
def test_refuses_methods(cuda_implementation, options, changes, sentence, error):
    problem = make(Setup(device="cpu", **SETUP))
    with pytest.raises(error, match=re.escape(sentence)):
        call(problem, problem.workspace(), method=method(**options), **changes)


@pytest.mark.parametrize("name", ("generated", "slots", "taus", "warmups", "ln_thetas"))
def test_refuses_what_belongs_to_a_method(cuda_implementation, name):
    problem = make(Setup(device="cpu", **SETUP))
    with pytest.raises(ValueError, match=f"{name} is given without the method's states"):
        call(problem, problem.workspace(), **{name: integers(2)})


@pytest.mark.gpu
@pytest.mark.parametrize(
    "changes, sentence",
    (
        ({}, "a request may record, but none may attend exactly"),
        ({"records": False, "gated": True}, "requests are gated, but none may attend exactly"),
    ),
)
def test_refuses_that_none_attends_exactly(changes, sentence):
    problem = make(Setup(**SETUP))
    given = {"method": method(device="cuda"), "generated": problem.lengths, "exact": False}
    with pytest.raises(ValueError, match=sentence):
        call(problem, problem.workspace(), **given | changes)
