"""What is said of arguments that do not fit, before anything is launched."""

import re

import pytest
import torch

from problems import SIFT, Setup, make

pytestmark = pytest.mark.library
SETUP = dict(lengths=(1, 40), head_dim=64)


def call(problem, workspace, **changes):
    from siftattention import decode_attention

    given = {"query": problem.query, "cache": problem.cache, "lengths": problem.lengths}
    given |= {"workspace": workspace} | problem.options | changes
    return decode_attention(**given)


@pytest.fixture
def cuda_implementation(monkeypatch):
    """The operators' implementations for CUDA whatever the tensors are: their checks need no GPU."""
    import siftattention.attention
    import siftattention.key_shadows

    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)

    class Operators:
        @staticmethod
        def decode_attention_out(*arguments, **keywords):
            operator = torch.ops.siftattention.decode_attention_out.default
            operator.redispatch(keys, *arguments, **keywords)

        @staticmethod
        def write_key_shadows(*arguments, **keywords):
            operator = torch.ops.siftattention.write_key_shadows.default
            operator.redispatch(keys, *arguments, **keywords)

        key_shadow_tile_bytes = torch.ops.siftattention.key_shadow_tile_bytes

    for module in (siftattention.attention, siftattention.key_shadows):
        monkeypatch.setattr(module, "operators", Operators)


def halves(*shape):
    return torch.zeros(shape, dtype=torch.float16)


def integers(*shape):
    return torch.zeros(shape, dtype=torch.int32)


def floats(*shape):
    return torch.zeros(shape)


def pair(side):
    return {"cache": (side, side)}


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

    slots = options.pop("slots", 2)
    return MethodStates.allocate(slots, options.pop("heads", 8), 2, "cpu", **options)


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
