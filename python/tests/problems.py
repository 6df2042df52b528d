"""Batches of random requests, and the comparison of what was computed for them with the reference."""

import math
from dataclasses import dataclass, field, replace

import torch

from oracle import reference
from siftattention.arguments import Mode, sides_of

DENSE, RECORD, SIFT = (mode.value for mode in Mode)
RAGGED = (1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 2049, 5000)
LAYOUTS = (
    "HND pair",
    "HND tensor",  # one tensor [pages, 2, kv_heads, page, head_dim]
    "HND contiguous",  # no pages: [batch, kv_heads, slots, head_dim]
    "NHD pair",
    "NHD tensor",  # [pages, 2, page, kv_heads, head_dim]
    "NHD contiguous",
)
CLEARANCE = 1e-3  # scores are known better than that, base 2
TOLERANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of outputs, whose values are normal


@dataclass(frozen=True)
class Setup:
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 128
    lengths: tuple = RAGGED
    layout: str = "HND pair"
    page: int = 16
    table: str = "block_table"  # or "indptr"
    dtype: torch.dtype = torch.float16
    device: str = "cuda"

    @property
    def batch(self):
        return len(self.lengths)


@dataclass
class Problem:
    """Arguments of decode_attention but the workspace and the outputs."""

    setup: Setup
    query: torch.Tensor  # [batch, heads, head_dim]
    cache: object  # a pair or one tensor, as setup.layout says
    lengths: torch.Tensor  # [batch] int32
    table: dict  # layout and where pages lie
    choices: dict = field(default_factory=dict)  # modes, thresholds and what else is optional

    @property
    def options(self):
        return self.table | self.choices

    def with_choices(self, **choices):
        return replace(self, choices=self.choices | choices)

    def sifted(self, modes, tau, **choices):
        """The same with a mode for each request (repeated to the batch) and thresholds near the
        τ-quantiles."""
        batch = self.setup.batch
        modes = torch.tensor([modes[i % len(modes)] for i in range(batch)], dtype=torch.uint8)
        modes = modes.to(self.setup.device)
        return self.with_choices(modes=modes, thresholds=self.thresholds(tau), **choices)

    def shadowed(self, margin=0.5, **format):
        """The same with shadows of the keys, of a code, block and order; other bytes of their tiles are
        poison."""
        from siftattention import KeyShadows, write_key_shadows

        shadows = KeyShadows.allocate(self.cache, layout=self.setup.layout[:3], **format)
        shadows.tiles.fill_(0x7F)
        begin, most = torch.zeros_like(self.lengths), max(self.setup.lengths)
        write_key_shadows(shadows, self.cache, begin, self.lengths, most=most, **self.table)
        return self.with_choices(shadows=shadows, margin=margin)

    def thresholds(self, tau):
        """log2 η [batch, heads], float32: in the widest gap between probabilities near each head's
        τ-quantile, so that rounding decides about no key."""
        rows = [
            _thresholds(log_probabilities(query, keys), tau)
            for query, keys in zip(self.query, self.rows(0))
        ]
        return torch.stack(rows).float()

    def means(self):
        """The means of all visible values [batch, kv_heads, head_dim], float32."""
        return torch.stack([values.float().mean(1) for values in self.rows(1)])

    def rows(self, side):
        """Keys (0) or values (1) of each request in turn, [kv_heads, length, head_dim]."""
        for request, length in enumerate(self.lengths.tolist()):
            yield reference.rows_of(sides_of(self.cache)[side], request, length, **self.table)

    def workspace(self):
        """A workspace for exactly this batch."""
        from siftattention import DecodeWorkspace

        s = self.setup
        sizes = (s.batch, s.heads, s.kv_heads, s.head_dim, sum(s.lengths))
        return DecodeWorkspace.allocate(*sizes, s.device, estimates="shadows" in self.choices)

    def reference(self):
        return reference.decode_attention(self.query, self.cache, self.lengths, **self.options)


def make(setup, seed=1):
    """A dense problem of normal numbers, pages in random order, unused slots NaN."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(setup.lengths, dtype=torch.int32)
    query = torch.randn(setup.batch, setup.heads, setup.head_dim, generator=generator)
    sides = [_rows(setup, generator) for _ in range(2)]
    table = {}
    if "contiguous" not in setup.layout:
        order, block_table = _pages(setup, generator)
        sides = [_into_pages(side, setup.page, order) for side in sides]
        flat = setup.table == "indptr"
        table = _flat_table(setup, block_table) if flat else {"block_table": block_table}
    if setup.layout.startswith("NHD"):
        sides = [side.transpose(1, 2).contiguous() for side in sides]
    sides = [side.to(setup.device, setup.dtype) for side in sides]
    cache = torch.stack(sides, 1) if "tensor" in setup.layout else tuple(sides)
    query, lengths = query.to(setup.device, setup.dtype), lengths.to(setup.device)
    table = {name: array.to(setup.device) for name, array in table.items()}
    return Problem(setup, query, cache, lengths, {"layout": setup.layout[:3]} | table)


def _rows(setup, generator):
    """[batch, kv_heads, slots, head_dim], slots in whole pages, NaN after each request's length."""
    slots = -(-max(setup.lengths) // setup.page) * setup.page
    rows = torch.randn(setup.batch, setup.kv_heads, slots, setup.head_dim, generator=generator)
    for request, length in enumerate(setup.lengths):
        rows[request, :, length:] = float("nan")
    return rows


def _pages(setup, generator):
    """An order of pages, and the block table [batch, pages of the longest] that belongs to it."""
    columns = -(-max(setup.lengths) // setup.page)
    order = torch.randperm(setup.batch * columns, generator=generator)
    return order, order.view(setup.batch, columns).int()


def _into_pages(rows, page, order):
    """[pages, kv_heads, page, head_dim] of [batch, kv_heads, slots, head_dim]: page order[i] holds the
    i-th piece of the requests in turn."""
    pieces = rows.unflatten(2, (-1, page)).transpose(1, 2).flatten(0, 1)
    paged = torch.empty_like(pieces)
    paged[order] = pieces
    return paged


def _flat_table(setup, block_table):
    """indptr [batch + 1] and indices [pages], of used pages only."""
    counts = [-(-length // setup.page) for length in setup.lengths]
    indices = torch.cat([block_table[i, :count] for i, count in enumerate(counts)])
    indptr = torch.tensor([0, *counts]).cumsum(0).int()
    return {"indptr": indptr, "indices": indices}


def log_probabilities(query, keys):
    """log2 softmax scores [heads, length] of a query [heads, head_dim] and keys [kv_heads, length,
    head_dim], float64."""
    grouped = query.double().unflatten(0, (keys.shape[0], -1))
    scores = (grouped @ keys.double().transpose(1, 2)).flatten(0, 1) / query.shape[1] ** 0.5
    return scores.log_softmax(1) / math.log(2)


def _thresholds(probabilities, tau):
    """[heads]: for each row of [heads, length] the middle of the widest gap near its τ-quantile."""
    lowest = probabilities.min(1, keepdim=True).values - 2
    ordered = torch.cat([lowest, probabilities.sort(1).values], 1)
    length = probabilities.shape[1]
    near = max(2, length // 50)
    middle = round(tau * (length - 1))
    first, last = max(0, middle - near), min(length, middle + near)
    gaps = ordered[:, first + 1 : last + 1] - ordered[:, first:last]
    place = first + gaps.argmax(1, keepdim=True)
    return (ordered.gather(1, place) + ordered.gather(1, place + 1)).squeeze(1) / 2


@dataclass
class Outputs:
    """All that decode_attention can write, poisoned before it runs."""

    out: torch.Tensor
    log_sum_exp: torch.Tensor
    head_facts: torch.Tensor
    group_facts: torch.Tensor

    @classmethod
    def poisoned(cls, problem):
        s = problem.setup
        outputs = cls(
            torch.empty_like(problem.query),
            torch.empty(s.batch, s.heads, device=s.device),
            torch.empty(s.batch, s.heads, 4, dtype=torch.int32, device=s.device),
            torch.empty(s.batch, s.kv_heads, 3, dtype=torch.int32, device=s.device),
        )
        outputs.poison()
        return outputs

    def all(self):
        """The arrays by the names of arguments."""
        return {
            "out": self.out,
            "log_sum_exp": self.log_sum_exp,
            "head_facts": self.head_facts,
            "group_facts": self.group_facts,
        }

    def poison(self):
        """Fills all arrays with what no step writes."""
        self.out.fill_(float("nan"))
        self.log_sum_exp.fill_(float("nan"))
        self.head_facts.fill_(-1)
        self.group_facts.fill_(-1)


def compute(problem, workspace=None):
    """Runs decode_attention into poisoned outputs."""
    from siftattention import decode_attention

    workspace = workspace or problem.workspace()
    outputs = Outputs.poisoned(problem)
    returned = decode_attention(
        problem.query, problem.cache, problem.lengths, workspace, **problem.options, **outputs.all()
    )
    assert returned is outputs.out
    return outputs


def compare(problem, outputs):
    """That outputs are what the reference computes; facts are those of sifted requests.

    Thresholds of problems lie where rounding decides about no exact score; where scores are
    estimated, heads are left out that are near deciding otherwise.
    """
    expected = problem.reference()
    modes = reference.effective_modes(
        problem.options.get("modes"), problem.options.get("gated", False)
    )
    clear = torch.ones_like(expected.empty)
    if "shadows" in problem.choices:
        clear = expected.clearance > CLEARANCE
        assert clear.double().mean() > 0.25
    tolerance = TOLERANCE[problem.setup.dtype]
    compare_outputs(outputs, expected, clear, tolerance)
    if modes is not None:
        sifted = (modes == SIFT)[:, None]
        compare_facts(outputs, expected, sifted & clear, problem.setup.kv_heads)


def compare_outputs(outputs, expected, clear, tolerance):
    """Of the heads that the mask `clear` [batch, heads] has."""
    torch.testing.assert_close(
        outputs.out[clear].double(), expected.output[clear], atol=tolerance, rtol=0
    )
    torch.testing.assert_close(
        outputs.log_sum_exp[clear].double(), expected.log_sum_exp[clear], atol=2e-3, rtol=1e-5
    )


def compare_facts(outputs, expected, clear, kv_heads):
    """Counts are exact, masses nearly, of the heads that the mask `clear` [batch, heads] has, and of
    groups all of whose heads it has."""
    heads, groups = reference.facts(expected, kv_heads)
    counts = [0, 1, 3]
    assert torch.equal(outputs.head_facts[clear][..., counts], heads[clear][..., counts])
    masses = outputs.head_facts[clear][..., 2].contiguous().view(torch.float32)
    torch.testing.assert_close(masses.double(), expected.kept_mass[clear], atol=2e-3, rtol=0)
    clear_groups = clear.unflatten(1, (kv_heads, -1)).all(2)
    assert torch.equal(outputs.group_facts[clear_groups], groups[clear_groups])


def solve(problem, workspace=None):
    """Runs, compares, and returns what was computed."""
    outputs = compute(problem, workspace)
    compare(problem, outputs)
    return outputs
