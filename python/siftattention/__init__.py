"""Dynamic sparse decode attention for PyTorch: keys are read whole, values only where they matter.

`decode_attention` computes one step; `DecodeWorkspace` is the memory that it works in. Both are safe
under torch.compile and in CUDA graphs. `siftattention.reference` computes the same in float64 from
plain tensor operations.
"""

from siftattention.attention import Mode, decode_attention, kept_masses
from siftattention.workspace import DecodeWorkspace, decode_workspace_size

__all__ = ["DecodeWorkspace", "Mode", "decode_attention", "decode_workspace_size", "kept_masses"]
