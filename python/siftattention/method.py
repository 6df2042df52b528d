"""The method's states: what decode attention carries from step to step of a request."""

import functools
from typing import NamedTuple

import torch

from siftattention.library import operators


class Layout(NamedTuple):
    """How the bytes of a state are laid out, as the library has been compiled."""

    bytes: int
    fields: dict  # from a name to (dtype, offset in bytes)


@functools.cache
def state_layout(of):
    """The Layout of the states of query heads ("head") or of KV heads ("group")."""
    size, names, types, offsets = operators.method_state_layout(of)
    types = [getattr(torch, name) for name in types]
    return Layout(size, dict(zip(names, zip(types, offsets))))


class MethodStates(NamedTuple):
    """States of all requests in one layer, and the options of the method.

    A request keeps its slot, whatever its place in the batch. Bytes of zero are a fresh state. The
    numbers in the bytes are there as tensors that share them: `head` and `group`.
    """

    head_states: torch.Tensor  # [slots, heads, bytes] uint8
    group_states: torch.Tensor  # [slots, kv_heads, bytes] uint8
    tau: float = 0.875  # intended sparsity: the quantile level
    warmup: int = 128  # generated rows that attend exactly and record
    fit: str = "ridge"  # or "ols", the paper's least squares
    adapt: float = 0.0  # γ of the feedback on the threshold, 0 to 1
    adapt_target: str = "head"  # or "group": whose kept fraction is steered to 1 − tau
    dense_rows: int = 0  # rows that see at most so many keys are exact

    @classmethod
    def allocate(cls, slots, heads, kv_heads, device="cuda", **options):
        """Fresh states of `slots` requests; `options` are the other fields of MethodStates."""
        shapes = (
            (slots, heads, state_layout("head").bytes),
            (slots, kv_heads, state_layout("group").bytes),
        )
        return cls(*(torch.zeros(s, dtype=torch.uint8, device=device) for s in shapes), **options)

    def reset(self, slots):
        """Makes the states in these slots fresh, for the requests that come next."""
        self.head_states[slots] = 0
        self.group_states[slots] = 0

    def head(self, name):
        """A number of each query head, [slots, heads]: a view of the states' bytes.

        Of the law ln η = ln α − β ln S + c: head.law.ln_alpha, head.law.beta, head.correction (c),
        head.law.degenerate, head.law.ill_determined, and head.fitted, without which they mean
        nothing. Of the fit: head.fit.count, .sum_x, .sum_y, .sum_xx, .sum_xy, .sum_yy (x = ln S −
        first_x, y = ln θ − first_y), .first_x, .first_y and .refused. Of generated rows: tally.rows,
        .rows_after_warmup, .pruned, .pruned_after_warmup, .kept_mass_after_warmup (sums over rows)
        and .empty_rows.

        Raises KeyError for other names.
        """
        return _view(self.head_states, *state_layout("head").fields[name])

    def group(self, name):
        """A number of each KV head, [slots, kv_heads]: a view of the states' bytes.

        Of generated rows: tally.sparse_rows, .dense_rows, .rows_after_warmup; .union_after_warmup and
        .candidates_after_warmup (sums of fractions of the visible keys); .key_rows_read,
        .shadow_rows_read, .value_rows_read, and .value_rows_dense, which dense attention would have
        read.

        Raises KeyError for other names.
        """
        return _view(self.group_states, *state_layout("group").fields[name])

    @property
    def alpha(self):
        """α of the fitted laws [slots, heads], float64."""
        return self.head("head.law.ln_alpha").exp()

    @property
    def beta(self):
        """β of the fitted laws [slots, heads], float64; a view."""
        return self.head("head.law.beta")

    @property
    def correction(self):
        """What `adapt` has added to ln η so far [slots, heads], float64; a view."""
        return self.head("head.correction")


def _view(states, dtype, offset):
    """The numbers of a type at an offset of each state's bytes."""
    return states[..., offset : offset + dtype.itemsize].view(dtype)[..., 0]
