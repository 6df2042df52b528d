"""The tensors of a cell: queries, caches in several layouts, thresholds, and exact results."""

import functools
import math

import torch

SEED = 20250605
ROTATED_BYTES = 300 << 20  # more than four times the L2 cache of an H100 (50 MB) or H200 (60 MB)
TAUS = (0.5, 0.75, 0.875, 0.95)
CORRELATED_TAU = 0.875
CORRELATED_UNION = 0.28
LOG2_E = math.log2(math.e)


class Problem:
    """A cell's data on a device. Caches have `copies` equal copies, so that L2 stays cold."""

    def __init__(self, cell, device="cuda", dtype=torch.float16):
        self.cell, self.device, self.dtype = cell, device, dtype
        self.scale = 1 / math.sqrt(cell.head_dim)
        self.copies = ROTATED_BYTES // cell.cache_bytes + 1
        generator = torch.Generator(device).manual_seed(SEED)
        shape = (cell.batch, cell.kv_heads, cell.context, cell.head_dim)
        self.keys = self._normal(shape, generator)  # [batch, kv_heads, context, head_dim]
        self.values = self._normal(shape, generator)
        self._shared = self._normal((cell.batch, cell.kv_heads, 1, cell.head_dim), generator)
        self._own = self._normal((cell.batch, cell.kv_heads, cell.group, cell.head_dim), generator)
        self._paged, self._tables = {}, {}  # by page size
        self._scratch = {}
        self.lengths = torch.full((cell.batch,), cell.context, dtype=torch.int32, device=device)
        self.share = self._find_share() if cell.inputs == "correlated" else 0.0
        self.query = self._query(self.share)  # [batch, heads, head_dim]

    def _normal(self, shape, generator):
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)

    def _query(self, share):
        """√share of what a group has in common and √(1 − share) of each head's own."""
        mixed = math.sqrt(share) * self._shared + math.sqrt(1 - share) * self._own
        return mixed.to(self.dtype).reshape(self.cell.batch, self.cell.heads, self.cell.head_dim)

    def scores(self, request, query=None, most_keys=None, keys=None):
        """Scores times log2 e of one request, float32 [kv_heads, group, keys], on its own keys or on
        these [kv_heads, keys, head_dim]."""
        query = self.query if query is None else query
        grouped = query[request].view(self.cell.kv_heads, self.cell.group, self.cell.head_dim)
        keys = self.keys[request, :, :most_keys] if keys is None else keys
        return (grouped.float() @ keys.float().transpose(1, 2)) * (self.scale * LOG2_E)

    def union_at(self, share, most_keys=8192):
        """Union density when every head keeps the CORRELATED_TAU-quantile of its own scores."""
        query, kept, seen = self._query(share), 0, 0
        for request in range(self.cell.batch):
            scores = self.scores(request, query, most_keys)
            cut = torch.quantile(scores, CORRELATED_TAU, dim=2, keepdim=True)
            union = (scores > cut).any(1)
            kept, seen = kept + union.sum().item(), seen + union.numel()
        return kept / seen

    def _find_share(self):
        """The share at which the union has CORRELATED_UNION, by bisection."""
        low, high = 0.0, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if self.union_at(middle) > CORRELATED_UNION else (low, middle)
        return (low + high) / 2

    # Exact results.

    @functools.cached_property
    def sifted(self):
        """{τ: (log2 η [batch, heads], output [batch, heads, head_dim])}, float32; τ 0 is dense."""
        return self._sift((0.0, *TAUS))

    def sifted_at(self, tau):
        """What `sifted` has for any τ from 0 to less than 1; made when it is first asked for."""
        if tau not in self.sifted:
            self.sifted.update(self._sift((tau,)))
        return self.sifted[tau]

    def _sift(self, taus):
        results = {tau: ([], []) for tau in taus}
        for request in range(self.cell.batch):
            scores = self.scores(request)
            total = torch.logsumexp(scores / LOG2_E, 2, keepdim=True) * LOG2_E
            ordered = scores.sort(2).values
            values = self.values[request].float()
            for tau, (thresholds, outputs) in results.items():
                cut = self.cut(ordered, tau)
                weights = torch.exp2(scores - total) * (scores > cut)
                thresholds.append((cut - total).flatten())
                outputs.append((weights @ values).flatten(0, 1))
        return {tau: (torch.stack(a), torch.stack(b)) for tau, (a, b) in results.items()}

    def cut(self, ordered, tau):
        """A score [kv_heads, group, 1] between the last pruned key and the first kept one, of scores in
        ascending order."""
        if tau == 0:
            return ordered[..., :1] - 1
        place = self.pruned(tau) - 1
        return ordered[..., place : place + 2].mean(-1, keepdim=True)

    def pruned(self, tau):
        """Keys that a head prunes: those up to its τ-quantile."""
        return math.floor(tau * (self.cell.context - 1)) + 1

    # Caches.

    @functools.cached_property
    def contiguous(self):
        """`copies` pairs of K and V [batch, kv_heads, context, head_dim]."""
        rest = [(self.keys.clone(), self.values.clone()) for _ in range(self.copies - 1)]
        return [(self.keys, self.values), *rest]

    @functools.cached_property
    def first_rows(self):
        """[batch, kv_heads, 1, 1] int64: where a KV head's rows begin in contiguous.view(-1, head_dim)."""
        units = self.cell.batch * self.cell.kv_heads
        first = torch.arange(units, device=self.device) * self.cell.context
        return first.view(self.cell.batch, self.cell.kv_heads, 1, 1)

    def paged(self, page):
        """`copies` pairs of K and V [pages, kv_heads, page, head_dim] (HND), pages shuffled."""
        if page not in self._paged:
            first = self._into_pages(self.keys, page), self._into_pages(self.values, page)
            rest = [tuple(side.clone() for side in first) for _ in range(self.copies - 1)]
            self._paged[page] = [first, *rest]
        return self._paged[page]

    def block_table(self, page):
        """[batch, context / page] int32, a random permutation of the pages."""
        if page not in self._tables:
            pages = self.cell.batch * self.cell.context // page
            generator = torch.Generator().manual_seed(SEED)
            order = torch.randperm(pages, generator=generator).to(self.device, torch.int32)
            self._tables[page] = order.view(self.cell.batch, -1)
        return self._tables[page]

    def scratch(self, make):
        """`make(self)`, made once: memory that variants share, since they never run at one time."""
        if make not in self._scratch:
            self._scratch[make] = make(self)
        return self._scratch[make]

    def _into_pages(self, side, page):
        cell = self.cell
        split = side.view(cell.batch, cell.kv_heads, -1, page, cell.head_dim).transpose(1, 2)
        pages = torch.empty(
            (cell.batch * cell.context // page, cell.kv_heads, page, cell.head_dim),
            dtype=self.dtype,
            device=self.device,
        )
        table = self.block_table(page).long()
        for request in range(cell.batch):
            pages[table[request]] = split[request]
        return pages
