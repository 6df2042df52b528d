#!/usr/bin/env python3
"""Compiles the FlashInfer kernels that the benchmark runs, ahead of time.

    build_flashinfer_kernels.py OUTPUT [GROUPxDIM...]

FlashInfer compiles a kernel when it is first called, which takes minutes. What this writes,
OUTPUT/NAME/NAME.so, is found under flashinfer/data/aot of the installed package instead. GROUPxDIM is
the number of query heads of a KV head and the head dimension (4x128). It needs nvcc and no GPU.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("FLASHINFER_CUDA_ARCH_LIST", "9.0a")

import torch  # noqa: E402
from flashinfer.jit.attention.modules import gen_batch_decode_module  # noqa: E402
from flashinfer.jit.attention.modules import gen_batch_prefill_module  # noqa: E402
from flashinfer.jit.xqa import gen_xqa_module  # noqa: E402

NO_POSITIONS = 0
PAGES = (16, 64)


def specifications(group, dim, dtype=torch.float16):
    """The modules that decode attention of this shape loads, cheapest first."""
    types = (dtype, dtype, dtype, torch.int32)
    yield gen_batch_decode_module(*types, dim, dim, NO_POSITIONS, False, False)
    for page in PAGES:
        yield gen_xqa_module(dtype, dtype, page, dim, group, False, dtype, 1)
    yield gen_batch_prefill_module("fa2", *types, dim, dim, NO_POSITIONS, False, False, False)


def build(specification, output):
    target = output / specification.name / f"{specification.name}.so"
    if target.exists():
        return
    specification.build()
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(specification.jit_library_path, target)
    print(target, target.stat().st_size, flush=True)


def main():
    output = Path(sys.argv[1])
    for shape in sys.argv[2:] or ["4x128"]:
        group, dim = (int(part) for part in shape.split("x"))
        for specification in specifications(group, dim):
            build(specification, output)


if __name__ == "__main__":
    main()
