"""A way to compute, or only to read, what a cell asks for."""

from typing import Callable, NamedTuple, Optional

import torch

MOST_ERROR = 0.05  # relative to the norm of the output; a key more or less of a top-k is 0.01


class Variant(NamedTuple):
    """`launch(copy)` runs on the caches' copy of that number and returns its output.

    The output [batch, heads, head_dim] is compared with what is exact when each head keeps the keys
    above its `tau`-quantile, 0 being all of them; with nothing where tau is None. An error of more than
    `most_error` is a failure.
    """

    launch: Callable[[int], Optional[torch.Tensor]]
    tau: Optional[float] = None
    facts: Optional[Callable[[], dict]] = None  # what the launch says of itself, after it
    most_error: float = MOST_ERROR
