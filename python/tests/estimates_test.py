"""Estimated scores: the reference against cases done by hand, the kernels against the reference."""

import math

import pytest
import torch

from oracle import reference
from problems import DENSE, LAYOUTS, RECORD, SIFT, Setup, compute, make, solve
from siftattention import reference_shadow

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 700)
MIXED = (SIFT, DENSE, SIFT, RECORD)
FORMATS = (("bits4", 32), ("bits4", 64), ("fp8", 32))


def chosen(exact, estimates, eta, margin, **changes):
    """What a head chooses whose keys have these e^score, exactly and estimated."""
    scores, guesses = (torch.tensor([row]).double().log2() for row in (exact, estimates))
    thresholds = torch.tensor([math.log2(eta)]).double()
    options = {"compensation": "none", "empty": "highest", "sink": 0, "recent": 0} | changes
    rule = reference.Rule(thresholds, margin=math.log(margin), **options)
    return reference._choose(scores, guesses, rule)


def test_candidates_are_those_whose_estimate_is_above_the_lowered_threshold():
    # Estimates sum to 16: above η · 16 / 2 = 2 are the first two. The third would have passed.
    result = chosen([8, 1, 4, 1], [8, 4, 2, 2], eta=1 / 4, margin=2)
    assert result.candidates.tolist() == [[True, True, False, False]]
    # Exact scores of these and estimates of the others sum to 13, of which η is 3.25.
    assert result.scores.exp2().sum().item() == pytest.approx(13)
    assert result.kept.tolist() == [[True, False, False, False]]


def test_a_greater_margin_makes_more_candidates():
    result = chosen([8, 1, 4, 1], [8, 4, 2, 2], eta=1 / 4, margin=4)
    assert result.candidates.all()
    assert result.kept.tolist() == [[True, False, True, False]]


def test_without_candidates_the_highest_estimate_is_one():
    result = chosen([1, 2, 1, 1], [1, 3, 3, 1], eta=1 / 2, margin=1)
    assert result.candidates.tolist() == [[False, True, False, False]]  # the first of equals
    assert result.kept.tolist() == [[False, True, False, False]]
    assert not result.passed.any()
    nothing = chosen([1, 2, 1, 1], [1, 3, 3, 1], eta=1 / 2, margin=1, empty="zero")
    assert nothing.candidates.any() and not nothing.kept.any()


def test_a_candidate_that_stood_in_for_none_may_pass():
    result = chosen([1, 9, 1, 1], [2, 3, 2, 2], eta=1 / 2, margin=1)
    assert result.passed.tolist() == [[False, True, False, False]]


def test_forced_keys_are_candidates():
    result = chosen([1, 8, 1, 1], [1, 8, 1, 1], eta=1 / 2, margin=1, sink=1, recent=1)
    assert result.candidates.tolist() == [[True, True, False, True]]
    assert result.kept.tolist() == [[True, True, False, True]]
    assert result.passed.tolist() == [[False, True, False, False]]


def test_clearance_is_the_distance_of_the_nearest_decision():
    result = chosen([8, 1, 4, 1], [8, 4, 2, 2], eta=1 / 4, margin=1.9)
    # Estimates of 2 are nearest to the limit of 4 / 1.9.
    assert result.clearance.item() == pytest.approx(math.log2(4 / 1.9) - 1)


def test_with_all_keys_for_candidates_scores_are_exact():
    problem = make(Setup(lengths=(1, 17, 40), device="cpu")).sifted([SIFT], tau=0.8)
    shadows = shadows_of(problem.cache[0])
    estimated = problem.with_choices(shadows=shadows, margin=1000.0).reference()
    exact = problem.reference()
    assert torch.equal(estimated.output, exact.output)
    assert torch.equal(estimated.log_sum_exp, exact.log_sum_exp)
    _, groups = reference.facts(estimated, 2)
    assert groups[:, 0, 2].tolist() == [1, 17, 40]
    assert not reference.facts(exact, 2)[1][..., 2].any()


def shadows_of(keys):
    """The reference's shadows of all keys [pages, kv_heads, page, head_dim] of a cache."""
    from typing import NamedTuple

    class Shadows(NamedTuple):
        tiles: torch.Tensor
        code: str = "bits4"
        block: int = 32
        order: str = "as_stored"

    rows = reference_shadow.encode(keys, "bits4", 32)
    return Shadows(reference_shadow.into_tiles(rows, keys.shape[3], "bits4"))


def ranges(device, lengths=LENGTHS):
    """First keys and ends that begin and end within tiles, pages and requests."""
    end = torch.tensor(lengths, dtype=torch.int32)
    begin = (end * torch.tensor([0, 1, 2] * len(lengths))[: len(lengths)] // 3).int()
    return begin.to(device), end.to(device)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@pytest.mark.parametrize("order", ("as_stored", "pairs_parted"))
@pytest.mark.parametrize("code, block", FORMATS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_shadows_are_the_bytes_of_the_reference(device, layout, code, block, order, dtype):
    from siftattention import KeyShadows, write_key_shadows

    problem = make(Setup(lengths=LENGTHS, layout=layout, page=32, dtype=dtype, device=device))
    begin, end = ranges(device)
    format = {"code": code, "block": block, "order": order, "layout": layout[:3]}
    found, expected = (KeyShadows.allocate(problem.cache, **format) for _ in range(2))
    for shadows in (found, expected):
        shadows.tiles.fill_(0x55)
    given = (problem.cache, begin, end)
    write_key_shadows(found, *given, most=300, **problem.table)
    reference_shadow.write_key_shadows(expected, *given, **problem.table)
    assert torch.equal(found.tiles, expected.tiles)
    assert (found.tiles != 0x55).any()


@pytest.mark.parametrize("table", ("block_table", "indptr"))
@pytest.mark.parametrize("head_dim", (64, 96, 128, 256))
def test_shadows_of_all_head_dimensions(device, head_dim, table):
    from siftattention import KeyShadows, write_key_shadows

    problem = make(Setup(lengths=LENGTHS, head_dim=head_dim, table=table, device=device))
    found, expected = (KeyShadows.allocate(problem.cache) for _ in range(2))
    given = (problem.cache, *ranges(device))
    write_key_shadows(found, *given, most=1, **problem.table)
    reference_shadow.write_key_shadows(expected, *given, **problem.table)
    assert torch.equal(found.tiles, expected.tiles)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(device, layout, dtype):
    problem = make(Setup(lengths=LENGTHS, layout=layout, dtype=dtype, device=device))
    solve(problem.sifted(MIXED, tau=0.8).shadowed())


@pytest.mark.parametrize("order", ("as_stored", "pairs_parted"))
@pytest.mark.parametrize("code, block", FORMATS)
@pytest.mark.parametrize("margin", (0.0, 0.5, 20.0))
def test_formats_and_margins(device, margin, code, block, order):
    problem = make(Setup(lengths=LENGTHS, device=device)).sifted([SIFT], tau=0.8)
    solve(problem.shadowed(margin, code=code, block=block, order=order))


@pytest.mark.parametrize("group", (1, 4, 7, 16))
@pytest.mark.parametrize("head_dim", (64, 96, 128, 256))
def test_shapes_of_heads(device, head_dim, group):
    setup = Setup(2 * group, 2, head_dim, LENGTHS, table="indptr", page=64, device=device)
    solve(make(setup).sifted(MIXED, tau=0.875).shadowed())


@pytest.mark.parametrize("compensation", ("none", "renormalise", "mean"))
@pytest.mark.parametrize("sink, recent", ((0, 0), (4, 20)))
def test_compensations_and_keys_always_kept(device, compensation, sink, recent):
    problem = make(Setup(lengths=LENGTHS, device=device))
    choices = {"compensation": compensation, "value_means": problem.means()}
    solve(problem.sifted(MIXED, 0.8, sink=sink, recent=recent, **choices).shadowed())


@pytest.mark.parametrize("empty", ("zero", "highest"))
def test_heads_that_keep_nothing(device, empty):
    problem = make(Setup(lengths=LENGTHS, device=device)).sifted([SIFT], tau=0.8, empty=empty)
    problem.choices["thresholds"][:, ::2] = 8  # log2 η above all scores, whatever their errors
    outputs = solve(problem.shadowed())
    assert (outputs.head_facts[:, ::2, 3] == 1).all()


def test_long_requests(device):
    problem = make(Setup(lengths=(6000, 3, 2049), heads=4, kv_heads=1, device=device))
    problem = problem.sifted([SIFT], tau=0.999)
    solve(problem.shadowed(margin=0.3))


def test_a_workspace_for_estimates_serves_exact_scores_too(device):
    problem = make(Setup(lengths=LENGTHS, device=device)).sifted(MIXED, tau=0.8)
    workspace = problem.shadowed().workspace()
    for each in (problem, problem.shadowed(), problem):
        solve(each, workspace)


def test_requests_that_are_gated_estimate_nothing(device):
    dense = make(Setup(lengths=LENGTHS, device=device))
    outputs = solve(dense.sifted(MIXED, tau=0.8, gated=True).shadowed())
    assert torch.equal(outputs.out, compute(dense).out)


def test_estimated_results_are_the_same_bits_without_exact_requests(device):
    problem = make(Setup(lengths=LENGTHS, device=device)).sifted([SIFT], tau=0.8).shadowed()
    sifted = solve(problem.with_choices(exact=False))
    assert torch.equal(sifted.out, compute(problem).out)


def test_estimated_results_are_the_same_bits_again(device):
    problem = make(Setup(lengths=LENGTHS, device=device)).sifted([SIFT], tau=0.8).shadowed()
    assert torch.equal(compute(problem).out, compute(problem).out)


@pytest.mark.gpu
def test_a_graph_makes_shadows_and_estimates_from_them():
    from siftattention import decode_attention, write_key_shadows

    problem = make(Setup(lengths=LENGTHS)).sifted([SIFT], tau=0.8).shadowed()
    shadows, workspace = problem.choices["shadows"], problem.workspace()
    out = torch.empty_like(problem.query)
    ends = problem.lengths.clone()
    problem.lengths.copy_((ends - 10).clamp_min(1))
    begin = torch.empty_like(ends)

    def step():
        torch.sub(problem.lengths, 1, out=begin)
        write_key_shadows(shadows, problem.cache, begin, problem.lengths, **problem.table)
        given = (problem.query, problem.cache, problem.lengths, workspace)
        decode_attention(*given, **problem.options, out=out)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    before = shadows.tiles.clone()
    for _ in range(9):
        problem.lengths.copy_(torch.minimum(problem.lengths + 1, ends))
        graph.replay()
        assert torch.equal(out, compute(problem).out)
    assert torch.equal(shadows.tiles, before)
