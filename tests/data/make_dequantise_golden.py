"""Writes dequantise_golden.h: one random block of every type and its values by the `gguf` package.

Run: pip install gguf numpy && python make_dequantise_golden.py > dequantise_golden.h
"""

from importlib.metadata import version

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Where the 16-bit floats of a block stand, in bytes.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_block(name, random):
    values, size = gguf.GGML_QUANT_SIZES[Type[name]]
    block = random.integers(0, 256, size, dtype=np.uint8)
    for at in HALVES[name]:
        block[at:at + 2] = np.float16(random.normal(0, 0.01)).reshape(1).view(np.uint8)
    return block


def wrapped(items):
    lines, line = [], "    "
    for item in items:
        if len(line) + len(item) + 2 > 98:
            lines.append(line.rstrip())
            line = "    "
        line += item + ", "
    return "\n".join(lines + [line.rstrip()])


def main():
    random = np.random.default_rng(20250611)
    print("#pragma once\n\n// Written by make_dequantise_golden.py with the Python package gguf "
          f"{version('gguf')}; do not edit.\n")
    print("#include <cstdint>\n\n// clang-format off\nnamespace sift::golden {\n")
    for name in TYPES:
        block = random_block(name, random)
        values = gguf.dequantize(block, Type[name]).ravel()
        constant = "k" + name.replace("_", "")
        print(f"inline constexpr std::uint8_t {constant}Block[] = {{\n{wrapped(map(str, block))}\n}};")
        # Values as the bits of floats: equality is exact.
        bits = [f"0x{bits:x}" for bits in values.astype(np.float32).view(np.uint32)]
        print(f"inline constexpr std::uint32_t {constant}Values[] = {{\n{wrapped(bits)}\n}};\n")
    print("}  // namespace sift::golden\n// clang-format on")


main()
