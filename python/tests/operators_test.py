"""What PyTorch asks of operators: schemas that tell what is written, fake tensors, torch.compile."""

import shutil

import pytest
import torch

from problems import DENSE, SIFT, Outputs, Setup, compare, compute, make

pytestmark = pytest.mark.library
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))
BACKENDS = (
    "eager",
    "aot_eager",
    pytest.param(
        "inductor",
        marks=pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
    ),
)


def small(device, **changes):
    return make(Setup(lengths=(1, 40, 300), device=device, **changes))


def arguments_of(problem, outputs):
    """Arguments and keywords of the operator itself."""
    keys, values = problem.cache
    workspace = problem.workspace()
    options = problem.options | outputs.all()
    for name in ("shadows", "method"):
        given = options.pop(name, None)
        options |= {} if given is None else given._asdict()
    keywords = {name: options[name] for name in options if name not in ("out", "block_table")}
    keywords["table"] = keywords.pop("indices", options.get("block_table"))
    keywords["table_begin"] = keywords.pop("indptr", None)
    keywords["estimates"] = workspace.estimates
    sizes = (workspace.batch, workspace.keys)
    return (
        (problem.query, keys, values, problem.lengths, workspace.buffer, *sizes, outputs.out),
        keywords,
    )


def with_method(problem):
    """The same with the method's states, of requests in their warm-up and behind it."""
    from siftattention import MethodStates

    s = problem.setup
    states = MethodStates.allocate(s.batch, s.heads, s.kv_heads, s.device, warmup=1)
    generated = torch.arange(s.batch, dtype=torch.int32, device=s.device)
    return problem.with_choices(method=states, generated=generated)


PROBLEMS = {
    "sifted": lambda problem: problem.sifted([DENSE, SIFT], tau=0.8),
    "estimated": lambda problem: problem.sifted([DENSE, SIFT], tau=0.8).shadowed(),
    "method": lambda problem: with_method(problem.shadowed()),
    "gated": lambda problem: problem.sifted([DENSE, SIFT], tau=0.8, gated=True),
    "all sifted": lambda problem: problem.sifted([SIFT], tau=0.8, exact=False),
}


@pytest.mark.parametrize("kind", ("estimated", "method", "gated", "all sifted"))
@pytest.mark.parametrize("device", DEVICES)
def test_opcheck_of_what_is_optional(device, kind):
    problem = PROBLEMS[kind](small(device))
    arguments, keywords = arguments_of(problem, Outputs.poisoned(problem))
    operator = torch.ops.siftattention.decode_attention_out.default
    torch.library.opcheck(operator, arguments, keywords)


@pytest.mark.parametrize("device", DEVICES)
def test_opcheck_of_shadows(device):
    from siftattention import KeyShadows

    problem = small(device)
    tiles = KeyShadows.allocate(problem.cache).tiles
    arguments = (tiles, problem.cache[0], problem.lengths - 1, problem.lengths, 1)
    keywords = {"table": problem.table["block_table"]}
    operator = torch.ops.siftattention.write_key_shadows.default
    torch.library.opcheck(operator, arguments, keywords)


@pytest.mark.parametrize("table", ("block_table", "indptr"))
@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device, table):
    problem = small(device, table=table).sifted([DENSE, SIFT], tau=0.8)
    arguments, keywords = arguments_of(problem, Outputs.poisoned(problem))
    operator = torch.ops.siftattention.decode_attention_out.default
    torch.library.opcheck(operator, arguments, keywords)


@pytest.mark.parametrize("device", ("cuda", "meta"))
def test_shapes_are_known_without_data(device):
    from torch._subclasses.fake_tensor import FakeTensorMode

    from siftattention import DecodeWorkspace, KeyShadows, decode_attention, write_key_shadows

    with FakeTensorMode():
        query = torch.empty(3, 8, 128, dtype=torch.bfloat16, device=device)
        cache = torch.empty(9, 2, 2, 16, 128, dtype=torch.bfloat16, device=device)
        integers = torch.empty(3, 3, dtype=torch.int32, device=device)
        workspace = DecodeWorkspace.allocate(3, 8, 2, 128, 144, device)
        out = decode_attention(query, cache, integers[0], workspace, block_table=integers)
        shadows = KeyShadows.allocate(cache)
        write_key_shadows(shadows, cache, integers[0], integers[1], block_table=integers)
    assert shadows.tiles.shape == (9, 2, 1, 16 * 80)
    assert (out.shape, out.dtype, out.device.type) == (query.shape, query.dtype, device)


def layer(query, cache, lengths, workspace, options):
    """What a model does around attention."""
    from siftattention import decode_attention

    return decode_attention(query * 2, cache, lengths, workspace, **options) + query


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", DEVICES)
def test_compiles_into_one_graph(device, backend):
    problem = small(device).sifted([DENSE, SIFT], tau=0.8)
    given = (problem.query, problem.cache, problem.lengths, problem.workspace())
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for _ in range(2):  # the second runs what the first has compiled
        outputs, expected = Outputs.poisoned(problem).all(), Outputs.poisoned(problem).all()
        del outputs["out"], expected["out"]
        result = compiled(*given, problem.options | outputs)
        assert torch.equal(result, layer(*given, problem.options | expected))
        assert all(torch.equal(outputs[name], expected[name]) for name in expected)


def step(query, cache, lengths, workspace, shadows, method, generated, options):
    """A step of a layer that estimates scores and runs the method."""
    from siftattention import decode_attention, write_key_shadows

    write_key_shadows(shadows, cache, lengths - 1, lengths, **options)
    return decode_attention(
        query * 2,
        cache,
        lengths,
        workspace,
        shadows=shadows,
        method=method,
        generated=generated,
        **options,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", DEVICES)
def test_the_method_over_estimates_compiles_into_one_graph(device, backend):
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    problems = [PROBLEMS["method"](small(device)) for _ in range(2)]
    workspace = problems[0].workspace()
    for _ in range(2):
        results = []
        for problem, run in zip(problems, (step, compiled)):
            choices = problem.choices
            problem.choices["shadows"].tiles.fill_(0)
            given = (problem.query, problem.cache, problem.lengths, workspace, choices["shadows"])
            results.append(run(*given, choices["method"], choices["generated"], problem.table))
        assert torch.equal(*results)
        assert torch.equal(*(p.choices["shadows"].tiles for p in problems))
        assert torch.equal(*(p.choices["method"].head_states for p in problems))
        assert torch.equal(*(p.choices["method"].group_states for p in problems))
    assert problems[1].choices["method"].group("tally.sparse_rows").any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", DEVICES)
def test_compiled_code_writes_into_what_it_is_given(device, backend):
    from siftattention import decode_attention

    problem = small(device).sifted([DENSE, SIFT], tau=0.8)
    outputs = Outputs.poisoned(problem)
    compiled = torch.compile(decode_attention, fullgraph=True, backend=backend)
    given = (problem.query, problem.cache, problem.lengths, problem.workspace())
    compiled(*given, **problem.options, **outputs.all())
    compare(problem, outputs)


@pytest.mark.parametrize("device", DEVICES)
def test_compiles_for_any_batch(device):
    from siftattention import DecodeWorkspace, decode_attention

    compiled = torch.compile(decode_attention, fullgraph=True, backend="aot_eager", dynamic=True)
    workspace = DecodeWorkspace.allocate(8, 8, 2, 128, 4000, device)
    for lengths in ((1, 40, 300), (17, 200, 3, 90)):
        problem = make(Setup(lengths=lengths, device=device))
        out = compiled(problem.query, problem.cache, problem.lengths, workspace, **problem.options)
        assert torch.equal(out, compute(problem).out)


def test_a_workspace_holds_more_for_more_keys():
    from siftattention import decode_workspace_size

    sizes = [decode_workspace_size(8, 32, 8, 128, keys) for keys in (1, 10_000, 1_000_000)]
    assert sizes == sorted(set(sizes))
    assert decode_workspace_size(8, 32, 8, 128, 10_000, estimates=True) > sizes[1]


@pytest.mark.parametrize(
    "sizes, sentence",
    (
        ((0, 8, 2, 128, 100), "the batch is 0, expected 1 to 512 requests"),
        ((513, 8, 2, 128, 100), "the batch is 513"),
        ((1, 34, 2, 128, 100), "the number of query heads is 34, expected 1 to 16 for each KV head"),
        ((1, 7, 2, 128, 100), "the number of query heads is 7"),
        ((1, 8, 0, 128, 100), "the number of KV heads is 0"),
        ((1, 8, 2, 80, 100), "the head dimension is 80, expected 64, 96, 128 or 256"),
        ((1, 8, 2, 128, 0), "the number of keys is 0"),
        ((2**40, 8, 2, 128, 1), "batch is 1099511627776"),
    ),
)
def test_a_workspace_of_sizes_that_are_not_served(sizes, sentence):
    from siftattention import decode_workspace_size

    with pytest.raises(ValueError, match=sentence):
        decode_workspace_size(*sizes)
