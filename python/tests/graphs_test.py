"""CUDA graphs: what the arrays hold may change between replays."""

import pytest
import torch

from problems import DENSE, RAGGED, RECORD, SIFT, Outputs, Setup, compare, compute, make

pytestmark = pytest.mark.gpu


class Graph:
    """A graph of one step, after one call that readies the workspace, and what it writes to. A graph does
    not own what its launches use, so this has the workspace, which nothing else refers to."""

    def __init__(self, problem):
        from siftattention import decode_attention

        self.problem, self.workspace = problem, problem.workspace()
        self.outputs = Outputs.poisoned(problem)
        given = (problem.query, problem.cache, problem.lengths, self.workspace)
        decode_attention(*given, **problem.options, **self.outputs.all())
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            decode_attention(*given, **problem.options, **self.outputs.all())

    def replay(self):
        """Runs the step into poisoned outputs, and compares."""
        self.outputs.poison()
        self._graph.replay()
        compare(self.problem, self.outputs)


@pytest.fixture
def problem():
    return make(Setup()).sifted([SIFT], tau=0.5)


def test_thresholds_change_between_replays(problem):
    graph = Graph(problem)
    for tau in (0.5, 0.9, 0.75):
        problem.choices["thresholds"].copy_(problem.thresholds(tau))
        graph.replay()


def test_modes_change_between_replays(problem):
    graph = Graph(problem)
    for modes in ((RECORD,), (DENSE, SIFT), (SIFT, DENSE, RECORD)):
        problem.choices["modes"].copy_(problem.sifted(modes, tau=0.5).choices["modes"])
        graph.replay()


def test_modes_of_gated_steps_change_between_replays(problem):
    problem = problem.with_choices(gated=True)
    graph = Graph(problem)
    for modes in ((DENSE, SIFT), (SIFT,), (RECORD, SIFT)):
        problem.choices["modes"].copy_(problem.sifted(modes, tau=0.5).choices["modes"])
        graph.replay()


def test_queries_and_lengths_change_between_replays(problem):
    graph = Graph(problem)
    for step in range(3):
        problem.query.normal_()
        problem.lengths.copy_(torch.tensor([max(1, n - 100 * step) for n in RAGGED]))
        problem.choices["thresholds"].copy_(problem.thresholds(0.9))
        graph.replay()


def test_pages_change_between_replays(problem):
    graph = Graph(problem)
    order = torch.randperm(len(problem.cache[0]), device="cuda")
    for side in problem.cache:
        side.copy_(side[order])
    problem.table["block_table"].copy_(order.argsort()[problem.table["block_table"].long()])
    graph.replay()


def test_a_replay_gives_the_bits_of_a_call(problem):
    graph = Graph(problem)
    graph.replay()
    assert torch.equal(graph.outputs.out, compute(problem).out)


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
