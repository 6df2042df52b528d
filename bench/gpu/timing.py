"""Times launches as CUDA graphs that take turns."""

import statistics
import time

import torch

GRAPH_LAUNCHES = 8
GRAPH_MILLISECONDS = 2  # slow launches need no more of them
MOST_MILLISECONDS = 1000  # of one graph in all its turns
LEAST_TURNS = 8
EAGER_CALLS = 20


def quiet_stream():
    """A context in which work goes to a stream that waited for all work before it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    return torch.cuda.stream(stream)


class Graph:
    """A graph of launches over all copies of the caches, a whole number of times."""

    def __init__(self, launch, copies, pool):
        with quiet_stream():
            for copy in range(min(copies, 2)):
                launch(copy)
        torch.cuda.synchronize()
        self.host_microseconds = host_microseconds(launch, copies)
        self._launches = copies * repeats(copies, eager_milliseconds(launch, copies))
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            for index in range(self._launches):
                launch(index % copies)
        self._launch = launch  # a graph does not own the tensors that its launches use: this does
        self._begin = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self.microseconds = []

    def measure(self):
        self._begin.record()
        self._graph.replay()
        self._end.record()
        self._end.synchronize()
        milliseconds = self._begin.elapsed_time(self._end)
        self.microseconds.append(milliseconds * 1000 / self._launches)

    @property
    def has_enough(self):
        milliseconds = sum(self.microseconds) * self._launches / 1000
        return len(self.microseconds) >= LEAST_TURNS and milliseconds > MOST_MILLISECONDS


def repeats(copies, milliseconds):
    """How often a graph goes over all copies, when one launch takes so long."""
    if copies >= GRAPH_LAUNCHES:
        return 1
    return max(1, min(GRAPH_LAUNCHES // copies, int(GRAPH_MILLISECONDS / (copies * milliseconds))))


def host_microseconds(launch, copies):
    """What one launch takes of the host without a graph: the median of calls that do not wait."""
    times = []
    for index in range(EAGER_CALLS):
        if index % 10 == 0:
            torch.cuda.synchronize()  # a full queue would make the host wait for the device
        begin = time.perf_counter()
        launch(index % copies)
        times.append((time.perf_counter() - begin) * 1e6)
    torch.cuda.synchronize()
    return statistics.median(times)


def eager_milliseconds(launch, copies):
    """About what one launch takes of the device."""
    launch(0)
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    launches = max(GRAPH_LAUNCHES, copies)
    begin.record()
    for index in range(launches):
        launch(index % copies)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / launches


def take_turns(graphs, rounds):
    """Measures each graph 2 · rounds times in the order A B … B A, slow ones less often, after one turn
    that is dropped."""
    for graph in graphs:
        graph.measure()
        graph.microseconds.clear()
    for _ in range(rounds):
        turn = [graph for graph in graphs if not graph.has_enough]
        for graph in turn + turn[::-1]:
            graph.measure()


def fastest(launches, copies):
    """The one of several launches that takes the least time; those that fail are passed over."""
    failures, timed = [], []
    for launch in launches:
        try:
            timed.append((eager_milliseconds(launch, copies), launch))
        except Exception as failure:  # any of a compiler's, a driver's or a library's own
            failures.append(failure)
    if not timed:
        raise failures[0]
    return min(timed, key=lambda pair: pair[0])[1]


def spread(microseconds):
    """{"median", "q1", "q3"} of measured times."""
    q1, median, q3 = statistics.quantiles(microseconds, n=4, method="inclusive")
    return {"median": round(median, 2), "q1": round(q1, 2), "q3": round(q3, 2)}
