"""Dynamic sparse decode attention for PyTorch: keys are read whole, values only where they matter.

`decode_attention` computes one step; `DecodeWorkspace` is the memory that it works in. `KeyShadows`,
made by `write_key_shadows`, let it estimate scores before it reads keys; `MethodStates` let it find
its thresholds itself. All are safe under torch.compile and in CUDA graphs. `siftattention.reference`
computes the same in float64 from plain tensor operations.
"""

import importlib

from siftattention.arguments import Mode

__all__ = [
    "DecodeWorkspace",
    "KeyShadows",
    "MethodStates",
    "Mode",
    "decode_attention",
    "decode_workspace_size",
    "independent_union",
    "kept_masses",
    "sifting_pays",
    "write_key_shadows",
]

_MODULES = {
    "DecodeWorkspace": "workspace",
    "KeyShadows": "key_shadows",
    "MethodStates": "method",
    "decode_attention": "attention",
    "decode_workspace_size": "workspace",
    "independent_union": "gate",
    "kept_masses": "attention",
    "sifting_pays": "gate",
    "write_key_shadows": "key_shadows",
}


def __getattr__(name):
    """Loads the library with the first name that needs it: the reference does without."""
    if name not in _MODULES:
        raise AttributeError(f"module 'siftattention' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"siftattention.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
