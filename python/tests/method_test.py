"""The method: its reference against other ways to compute, and states on the device against it."""

import math

import pytest
import torch

from oracle import reference
from problems import DENSE, RECORD, SIFT, Outputs, Setup, compare_outputs, make
from siftattention import reference_method

pytestmark = pytest.mark.library

PROMPTS = (20, 77, 300, 641)
STEPS = 40
WARMUP = 16
CLEARANCE = 5e-3  # thresholds come from quantiles of float32 scores


class Fit:
    """One head's records, in the bytes of a state."""

    def __init__(self, kind):
        from siftattention import MethodStates

        self.method = MethodStates.allocate(1, 1, 1, "cpu", fit=kind, warmup=1000)

    def add(self, keys, ln_theta):
        lengths = torch.tensor([keys], dtype=torch.int32)
        modes = torch.tensor([RECORD], dtype=torch.uint8)
        thetas = torch.tensor([[ln_theta]], dtype=torch.float64)
        facts = torch.zeros(1, 1, 4, dtype=torch.int32)
        ones = torch.ones(1, dtype=torch.int32)
        reference_method.observe(self.method, lengths, ones, modes, thetas, facts, facts[..., :3])

    def law(self):
        names = ("ln_alpha", "beta", "degenerate", "ill_determined")
        return [self.method.head(f"head.law.{name}").item() for name in names]


def records(count=50):
    generator = torch.Generator().manual_seed(1)
    keys = torch.randint(100, 5000, (count,), generator=generator)
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    return keys, -2 - 0.8 * keys.double().log() + 0.2 * noise


def test_ols_is_least_squares():
    fit, (keys, ln_thetas) = Fit("ols"), records()
    for pair in zip(keys.tolist(), ln_thetas.tolist()):
        fit.add(*pair)
    design = torch.stack([torch.ones(len(keys)), -keys.double().log()], 1).double()
    expected = torch.linalg.lstsq(design, ln_thetas[:, None]).solution[:, 0]
    ln_alpha, beta, degenerate, _ = fit.law()
    assert (ln_alpha, beta) == pytest.approx(expected.tolist(), rel=1e-9) and not degenerate


def test_ridge_minimises_what_docs_say():
    fit, (keys, ln_thetas) = Fit("ridge"), records(5)
    for pair in zip(keys.tolist(), ln_thetas.tolist()):
        fit.add(*pair)
    x, y = (values - values.mean() for values in (keys.double().log(), ln_thetas))
    slope = (x @ y) / (x @ x)
    variance = ((y - slope * x) ** 2).sum() / 3
    betas = torch.linspace(0, 2, 200_001, dtype=torch.float64)
    errors = ((y + betas[:, None] * x) ** 2).sum(1) / variance + ((betas - 1) / 0.5) ** 2
    assert fit.law()[1] == pytest.approx(betas[errors.argmin()].item(), abs=1e-5)


@pytest.mark.parametrize("kind", ("ols", "ridge"))
@pytest.mark.parametrize("trouble", ("one length", "equal", "infinite", "none"))
def test_degenerate_fits_are_their_mean(kind, trouble):
    fit = Fit(kind)
    given = {
        "one length": [(50, -1.0), (50, -2.0)],
        "equal": [(50, -2.0), (60, -2.0)],
        "infinite": [(50, -1.0), (60, math.inf), (70, -3.0)],
        "none": [(50, math.nan)],
    }[trouble]
    for pair in given:
        fit.add(*pair)
    taken = [value for _, value in given if value < math.inf] or [0.0]
    assert fit.law() == [pytest.approx(sum(taken) / len(taken)), 0.0, True, False]


def test_quantiles_are_those_of_softmax():
    problem = make(Setup(lengths=(1, 2, 40), head_dim=64, device="cpu"))
    modes = torch.tensor([RECORD, RECORD, DENSE], dtype=torch.uint8)
    taus = torch.full((3,), 0.875, dtype=torch.float64)
    given = (problem.query, problem.cache, problem.lengths, modes, taus)
    found = reference_method.record(*given, **problem.table)
    keys = next(keys for keys in list(problem.rows(0))[1:2])
    scores = (problem.query[1].double().unflatten(0, (2, 4)) @ keys.double().transpose(1, 2)) / 8
    low, high = scores.softmax(2).flatten(0, 1).sort(1).values.unbind(1)
    torch.testing.assert_close(found[1], (low + 0.875 * (high - low)).log())
    assert (found[0] == 0).all() and found[2].isnan().all()


def test_modes_follow_from_counts():
    from siftattention import MethodStates

    method = MethodStates.allocate(4, 2, 1, "cpu", warmup=16, dense_rows=50)
    lengths, generated = (
        torch.tensor(row, dtype=torch.int32) for row in ([900, 900, 50, 51], [16, 17, 17, 17])
    )
    modes, thresholds = reference_method.plan(method, lengths, generated)
    assert modes.tolist() == [RECORD, SIFT, DENSE, SIFT]
    assert thresholds.shape == (4, 2) and not thresholds.any()
    gated, _ = reference_method.plan(method, lengths, generated, gated=True)
    assert gated.tolist() == [RECORD, DENSE, DENSE, DENSE] and gated.dtype == modes.dtype


def test_states_are_views_of_bytes():
    from siftattention import MethodStates

    states = MethodStates.allocate(5, 4, 2, "cpu")
    states.beta[3] = 0.75
    states.group("tally.value_rows_read")[3, 1] = 2**40
    assert states.beta[3].tolist() == [0.75] * 4 and states.alpha[3].tolist() == [1.0] * 4
    assert states.group_states.count_nonzero() == 1
    states.reset(torch.tensor([3]))
    assert not states.head_states.any() and not states.group_states.any()
    with pytest.raises(KeyError):
        states.head("head.law.gamma")


class Generation:
    """A batch that generates, one state each for the device and for the reference."""

    def __init__(self, device, estimates=False, **options):
        from siftattention import DecodeWorkspace, MethodStates

        lengths = tuple(prompt + STEPS for prompt in PROMPTS)
        self.setup = Setup(head_dim=64, lengths=lengths, layout="NHD tensor", device=device)
        self.problem = make(self.setup)
        if estimates:
            self.problem = self.problem.shadowed()
        s = self.setup
        self.states, self.expected = (
            MethodStates.allocate(7, s.heads, s.kv_heads, device, warmup=WARMUP, **options)
            for _ in range(2)
        )
        sizes = (s.batch, s.heads, s.kv_heads, s.head_dim, sum(lengths), device)
        self.workspace = DecodeWorkspace.allocate(*sizes, estimates=estimates)
        self.estimates = estimates
        self.lengths = torch.tensor(PROMPTS, dtype=torch.int32, device=device)
        self.generated = torch.zeros_like(self.lengths)
        self.per_request = {
            "slots": torch.tensor([5, 0, 3, 6], dtype=torch.int32, device=device),
            "taus": torch.tensor([0.75, 0.875, 0.8, 0.875], dtype=torch.float64, device=device),
            "warmups": torch.tensor([WARMUP, 8, WARMUP, 9], dtype=torch.int32, device=device),
        }
        self.forced = {"sink": 2, "recent": 3}
        generator = torch.Generator().manual_seed(5)
        shape = (STEPS, *self.problem.query.shape)
        self.queries = torch.randn(shape, generator=generator).to(device, s.dtype)

    def decode(self, states, **outputs):
        from siftattention import decode_attention

        return decode_attention(
            self.problem.query,
            self.problem.cache,
            self.lengths,
            self.workspace,
            method=states,
            generated=self.generated,
            **self.problem.options,
            **self.per_request,
            **self.forced,
            **outputs,
        )

    def advance(self, step):
        self.problem.query.copy_(self.queries[step])
        self.lengths += 1
        self.generated += 1

    def check_step(self, gated=False):
        """Runs a step and its reference, whose states take what the device's heads kept: a key within
        rounding of a threshold may fall on either side. Returns how many heads were compared."""
        taus, slots, warmups = (self.per_request[n] for n in ("taus", "slots", "warmups"))
        before = (self.lengths, self.generated)
        modes, thresholds = reference_method.plan(
            self.expected, *before, slots=slots, warmups=warmups, gated=gated
        )
        outputs = Outputs.poisoned(self.problem)
        self.decode(self.states, gated=gated, **outputs.all())
        given = (self.problem.query, self.problem.cache, self.lengths)
        choices = self.problem.options | {"modes": modes, "thresholds": thresholds} | self.forced
        result = reference.decode_attention(*given, **choices)
        clear = result.clearance > CLEARANCE
        compare_outputs(outputs, result, clear, tolerance=5e-3)
        ln_thetas = reference_method.record(*given, modes, taus, **self.problem.table)
        facts = (outputs.head_facts, outputs.group_facts)
        reference_method.observe(
            self.expected,
            *before,
            modes,
            ln_thetas,
            *facts,
            **self.per_request,
            **self.forced,
            estimates=self.estimates,
        )
        return int((clear & (modes == SIFT)[:, None]).sum())

    def compare_states(self):
        found, expected = self.states, self.expected
        for name in ("head.fit.count", "head.fitted", "tally.rows", "tally.rows_after_warmup"):
            assert torch.equal(found.head(name), expected.head(name)), name
        for name in ("pruned", "pruned_after_warmup", "kept_mass_after_warmup"):
            close(found.head(f"tally.{name}"), expected.head(f"tally.{name}"), 1e-9)
        close(found.correction, expected.correction, 1e-9)
        close(found.head("head.fit.sum_y"), expected.head("head.fit.sum_y"), 2e-3)
        own = self.per_request["slots"].long()
        ln_keys = self.lengths.double().log()[:, None]
        ln_etas = [
            s.head("head.law.ln_alpha")[own] - s.beta[own] * ln_keys for s in (found, expected)
        ]
        close(*ln_etas, 3e-3)
        for name in ("sparse_rows", "dense_rows", "value_rows_read", "key_rows_read"):
            assert torch.equal(found.group(f"tally.{name}"), expected.group(f"tally.{name}")), name
        for name in ("union_after_warmup", "candidates_after_warmup"):
            close(found.group(f"tally.{name}"), expected.group(f"tally.{name}"), 1e-9)


def close(found, expected, tolerance):
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("estimates", (False, True))
@pytest.mark.parametrize("fit, target", (("ols", "head"), ("ridge", "group")))
def test_a_generation_follows_the_reference(device, fit, target, estimates):
    options = {"fit": fit, "adapt": 0.05, "adapt_target": target}
    generation = Generation(device, estimates, **options)
    compared = 0
    for step in range(STEPS):
        generation.advance(step)
        compared += generation.check_step()
    generation.compare_states()
    sifted = sum(STEPS - warmup for warmup in generation.per_request["warmups"].tolist())
    assert compared > generation.setup.heads * sifted / 4
    rows = generation.states.group("tally.sparse_rows").sum(1).tolist()
    assert rows == [2 * 32, 0, 0, 2 * 24, 0, 2 * 24, 2 * 31]


@pytest.mark.parametrize("estimates", (False, True))
def test_steps_that_are_gated_count_as_dense(device, estimates):
    generation = Generation(device, estimates, adapt=0.05)
    for step in range(STEPS):
        generation.advance(step)
        generation.check_step(gated=step % 2 == 1)
    generation.compare_states()
    # Of the rows after the warm-ups those with odd numbers.
    sparse, dense = (generation.states.group(f"tally.{n}_rows") for n in ("sparse", "dense"))
    assert sparse.sum(1).tolist() == [2 * 16, 0, 0, 2 * 12, 0, 2 * 12, 2 * 15]
    assert (sparse + dense)[generation.per_request["slots"].long()].eq(STEPS).all()
    recorded = generation.states.head("head.fit.count")[:, 0].tolist()
    assert recorded == [8, 0, 0, WARMUP, 0, WARMUP, 9]


def test_quantiles_go_where_they_are_asked_for(device):
    generation = Generation(device)
    generation.advance(0)
    ln_thetas = torch.full((4, 8), 7.0, dtype=torch.float64, device=device)
    generation.decode(generation.states, ln_thetas=ln_thetas)
    assert not generation.states.head("head.fit.count").any()
    modes = torch.full((4,), RECORD, dtype=torch.uint8, device=device)
    given = (generation.problem.query, generation.problem.cache, generation.lengths, modes)
    taus = generation.per_request["taus"]
    close(ln_thetas, reference_method.record(*given, taus, **generation.problem.table), 1e-3)


def test_given_modes_replace_those_of_the_counts(device):
    generation = Generation(device)
    generation.advance(0)
    modes = torch.tensor([DENSE, RECORD, DENSE, RECORD], dtype=torch.uint8, device=device)
    generation.decode(generation.states, modes=modes)
    counts = generation.states.head("head.fit.count")[:, 0].tolist()
    assert counts == [1, 0, 0, 0, 0, 0, 1]  # slots 0 and 6


@pytest.mark.gpu
@pytest.mark.parametrize("estimates", (False, True))
def test_a_graph_runs_warm_up_and_sifting(estimates):
    eager, graphed = (Generation("cuda", estimates, adapt=0.05) for _ in range(2))
    scratch = graphed.states._replace(
        head_states=graphed.states.head_states.clone(),
        group_states=graphed.states.group_states.clone(),
    )
    graphed.lengths += 1
    graphed.decode(scratch)  # readies the workspace
    graphed.lengths -= 1
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = graphed.decode(graphed.states)
    for step in range(STEPS):
        eager.advance(step)
        graphed.advance(step)
        graph.replay()
        assert torch.equal(out, eager.decode(eager.states))
    assert torch.equal(graphed.states.head_states, eager.states.head_states)
    assert torch.equal(graphed.states.group_states, eager.states.group_states)
    assert graphed.states.head("head.fitted")[[0, 3, 5, 6]].all()


@pytest.mark.gpu
@pytest.mark.parametrize("names", (("records",), ("records", "exact")))
def test_launches_for_the_warm_up_are_not_needed_behind_it(names):
    whole, split = (Generation("cuda") for _ in range(2))
    for step in range(STEPS):
        whole.advance(step)
        split.advance(step)
        whole.decode(whole.states)
        split.decode(split.states, **dict.fromkeys(names, step < WARMUP))
    assert torch.equal(whole.states.head_states, split.states.head_states)
