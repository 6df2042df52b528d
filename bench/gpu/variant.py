"""A way to compute, or only to read, what a cell asks for."""

from typing import Callable, NamedTuple, Optional

import torch


class Variant(NamedTuple):
    """`launch(copy)` runs on the caches' copy of that number and returns its output.

    The output [batch, heads, head_dim] is compared with what is exact when each head keeps the keys
    above its `tau`-quantile, 0 being all of them; with nothing where tau is None.
    """

    launch: Callable[[int], Optional[torch.Tensor]]
    tau: Optional[float] = None
    facts: Optional[Callable[[], dict]] = None  # what the launch says of itself, after it
