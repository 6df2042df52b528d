"""The kernels against the reference in float64, outputs poisoned first."""

import pytest
import torch

from problems import DENSE, LAYOUTS, RAGGED, RECORD, SIFT, Setup, compute, make, solve

MIXED = (DENSE, SIFT, RECORD, SIFT)
FEW = (1, 40, 700)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tau", (None, 0.9))
def test_layouts(device, layout, dtype, tau):
    problem = make(Setup(layout=layout, dtype=dtype, device=device))
    solve(problem if tau is None else problem.sifted(MIXED, tau))


@pytest.mark.parametrize("group", (1, 3, 4, 7, 8, 16))
@pytest.mark.parametrize("head_dim", (64, 96, 128, 256))
def test_shapes_of_heads(device, head_dim, group):
    problem = make(Setup(heads=2 * group, head_dim=head_dim, table="indptr", device=device))
    solve(problem)
    solve(problem.sifted(MIXED, tau=0.875))


@pytest.mark.parametrize("layout", ("HND tensor", "NHD pair"))
@pytest.mark.parametrize("page", (16, 32, 64, 128, 1024))
def test_sizes_of_pages(device, page, layout):
    solve(make(Setup(page=page, layout=layout, device=device)).sifted(MIXED, tau=0.9))


@pytest.mark.parametrize("tau", (0.5, 0.75, 0.95))
@pytest.mark.parametrize("compensation", ("none", "renormalise", "mean"))
def test_compensations(device, compensation, tau):
    problem = make(Setup(device=device))
    solve(problem.sifted(MIXED, tau, compensation=compensation, value_means=problem.means()))


@pytest.mark.parametrize("sink, recent", ((0, 20), (4, 0), (4, 64), (10_000, 0)))
def test_keys_always_kept(device, sink, recent):
    solve(make(Setup(device=device)).sifted(MIXED, 0.9, sink=sink, recent=recent))


@pytest.mark.parametrize("empty", ("zero", "highest"))
def test_heads_that_keep_nothing(device, empty):
    problem = make(Setup(device=device)).sifted([SIFT], tau=0.9, empty=empty)
    problem.choices["thresholds"][:, ::2] = 1  # log2 η above all scores
    outputs = solve(problem)
    assert (outputs.head_facts[:, ::2, 3] == 1).all()


def test_requests_that_are_gated_attend_exactly(device):
    dense = make(Setup(device=device))
    problem = dense.sifted(MIXED, tau=0.9, compensation="mean", value_means=dense.means())
    workspace = problem.workspace()
    for gated in (True, False, True):
        outputs = solve(problem.with_choices(gated=gated), workspace)
    assert torch.equal(outputs.out, compute(dense).out)


def test_steps_in_which_all_requests_sift_give_the_same_bits_without_exact_ones(device):
    problem = make(Setup(device=device)).sifted([SIFT], tau=0.9)
    workspace = problem.workspace()
    every, sifted, again = (
        solve(problem.with_choices(exact=exact), workspace) for exact in (True, False, True)
    )
    assert torch.equal(sifted.out, every.out) and torch.equal(again.out, every.out)


@pytest.mark.parametrize("scale", (0.02, 0.3))
def test_scales(device, scale):
    solve(make(Setup(device=device)).with_choices(scale=scale))


def test_many_requests_in_different_phases(device):
    lengths = tuple(1 + i * 577 % 3000 for i in range(64))
    solve(make(Setup(lengths=lengths, layout="NHD tensor", device=device)).sifted(MIXED, 0.9))


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", ((100_000, 3, 40_000), tuple(range(1, 513))))
def test_the_longest_and_the_most_requests(lengths):
    solve(make(Setup(heads=4, kv_heads=1, lengths=lengths)).sifted(MIXED, tau=0.95))


def test_pages_that_requests_share(device):
    problem = make(Setup(lengths=(640, 640, 640), device=device))
    problem.table["block_table"][1:, :20] = problem.table["block_table"][0, :20]
    solve(problem.sifted([SIFT], tau=0.9))


def test_a_workspace_with_room_to_spare_serves_any_smaller_batch(device):
    from siftattention import DecodeWorkspace

    workspace = DecodeWorkspace.allocate(2 * len(RAGGED), 8, 2, 128, 2 * sum(RAGGED), device)
    for lengths in (RAGGED, FEW, (5000,)):
        problem = make(Setup(lengths=lengths, device=device))
        solve(problem, workspace)
        solve(problem.sifted(MIXED, tau=0.9), workspace)


def test_memory_of_a_freed_workspace_can_be_a_new_one(device):
    for heads in (8, 16, 8):
        solve(make(Setup(heads=heads, lengths=FEW, device=device)).sifted(MIXED, tau=0.9))


def test_results_are_the_same_bits_alone_and_in_a_batch(device):
    problem = make(Setup(device=device)).sifted([SIFT], tau=0.9)
    together, again = compute(problem), compute(problem)
    assert torch.equal(together.out, again.out)
    for request in (0, 8, 13):
        one = slice(request, request + 1)
        alone = make(Setup(lengths=RAGGED[one], device=device))
        alone.query, alone.lengths, alone.cache = problem.query[one], alone.lengths, problem.cache
        alone.table["block_table"] = problem.table["block_table"][one]
        alone.choices = {name: problem.choices[name][one] for name in ("modes", "thresholds")}
        assert torch.equal(compute(alone).out[0], together.out[request])


def test_both_tables_give_the_same_bits(device):
    tables = (make(Setup(table=table, device=device)) for table in ("block_table", "indptr"))
    assert torch.equal(*(compute(problem).out for problem in tables))


def test_outputs_are_optional(device):
    from siftattention import decode_attention

    problem = make(Setup(device=device)).sifted(MIXED, tau=0.9)
    arguments = (problem.query, problem.cache, problem.lengths, problem.workspace())
    out = decode_attention(*arguments, **problem.options)
    assert torch.equal(out, compute(problem).out)


@pytest.mark.gpu
def test_runs_on_the_current_stream():
    problem = make(Setup()).sifted(MIXED, tau=0.9)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        outputs = compute(problem)
    stream.synchronize()
    assert torch.equal(outputs.out, compute(problem).out)
