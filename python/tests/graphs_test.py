"""CUDA graphs: what the arrays hold may change between replays."""

import pytest
import torch

from problems import DENSE, RAGGED, RECORD, SIFT, Outputs, Setup, compare, compute, make

pytestmark = pytest.mark.gpu


def capture(problem):
    """A graph of one step, after one call that readies the workspace, and what it writes to."""
    from siftattention import decode_attention

    workspace, outputs = problem.workspace(), Outputs.poisoned(problem)
    given = (problem.query, problem.cache, problem.lengths, workspace)
    decode_attention(*given, **problem.options, **outputs.all())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        decode_attention(*given, **problem.options, **outputs.all())
    return graph, outputs


def replay(graph, problem, outputs):
    outputs.poison()
    graph.replay()
    compare(problem, outputs)


@pytest.fixture
def problem():
    return make(Setup()).sifted([SIFT], tau=0.5)


def test_thresholds_change_between_replays(problem):
    graph, outputs = capture(problem)
    for tau in (0.5, 0.9, 0.75):
        problem.choices["thresholds"].copy_(problem.thresholds(tau))
        replay(graph, problem, outputs)


def test_modes_change_between_replays(problem):
    graph, outputs = capture(problem)
    for modes in ((RECORD,), (DENSE, SIFT), (SIFT, DENSE, RECORD)):
        problem.choices["modes"].copy_(problem.sifted(modes, tau=0.5).choices["modes"])
        replay(graph, problem, outputs)


def test_queries_and_lengths_change_between_replays(problem):
    graph, outputs = capture(problem)
    for step in range(3):
        problem.query.normal_()
        problem.lengths.copy_(torch.tensor([max(1, n - 100 * step) for n in RAGGED]))
        problem.choices["thresholds"].copy_(problem.thresholds(0.9))
        replay(graph, problem, outputs)


def test_pages_change_between_replays(problem):
    graph, outputs = capture(problem)
    order = torch.randperm(len(problem.cache[0]), device="cuda")
    for side in problem.cache:
        side.copy_(side[order])
    problem.table["block_table"].copy_(order.argsort()[problem.table["block_table"].long()])
    replay(graph, problem, outputs)


def test_a_replay_gives_the_bits_of_a_call(problem):
    graph, outputs = capture(problem)
    replay(graph, problem, outputs)
    assert torch.equal(outputs.out, compute(problem).out)


def test_two_steps_in_one_graph_share_a_workspace(problem):
    from siftattention import decode_attention

    problems = (problem, make(Setup(), seed=2).sifted([SIFT], tau=0.9))
    workspace, outputs = problem.workspace(), [Outputs.poisoned(each) for each in problems]

    def steps():
        for each, written in zip(problems, outputs):
            given = (each.query, each.cache, each.lengths, workspace)
            decode_attention(*given, **each.options, **written.all())

    steps()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steps()
    for written in outputs:
        written.poison()
    graph.replay()
    for each, written in zip(problems, outputs):
        compare(each, written)
