"""The element types of the tensors of a GGUF file, and the bytes that one generated token reads.

As a program: gguf_tensors.py FILE... prints a line for each element type of each file.
"""

import math
import struct
import sys
from collections import Counter

# Identifier in the file: name, elements of a block, bytes of a block.
ELEMENT_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18),
    30: ("BF16", 1, 2),
}
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9


class Gguf:
    """`metadata` maps keys to values, `tensors` names to (element type, shape, bytes).

    A shape begins with the contiguous axis.
    """

    def __init__(self, path):
        with open(path, "rb") as self._file:
            magic, version, tensor_count, key_count = self._unpack("4sIQQ")
            if magic != b"GGUF" or version not in (2, 3):
                raise ValueError(f"'{path}' is not a GGUF file of version 2 or 3")
            self.metadata = {
                self._string(): self._value(*self._unpack("I")) for _ in range(key_count)
            }
            self.tensors = dict(self._tensor() for _ in range(tensor_count))

    def _unpack(self, layout):
        layout = "<" + layout
        return struct.unpack(layout, self._file.read(struct.calcsize(layout)))

    def _string(self):
        return self._file.read(*self._unpack("Q")).decode("utf-8", errors="replace")

    def _value(self, kind):
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            element_kind, count = self._unpack("IQ")
            return [self._value(element_kind) for _ in range(count)]
        return self._unpack(SCALARS[kind])[0]

    def _tensor(self):
        name = self._string()
        shape = self._unpack(f"{self._unpack('I')[0]}Q")
        name_of_type, elements, size = ELEMENT_TYPES[self._unpack("IQ")[0]]
        return name, (name_of_type, shape, math.prod(shape) // elements * size)

    def histogram(self):
        """Element type -> {"tensors": count, "bytes": sum, "names": sorted kinds of tensor}."""
        counts, sizes, names = Counter(), Counter(), {}
        for name, (element_type, _, size) in self.tensors.items():
            counts[element_type] += 1
            sizes[element_type] += size
            names.setdefault(element_type, set()).add(
                name.split(".", 2)[-1] if name[:4] == "blk." else name
            )
        return {
            element_type: {
                "tensors": counts[element_type],
                "bytes": size,
                "names": sorted(names[element_type]),
            }
            for element_type, size in sizes.most_common()
        }

    def weight_bytes_per_token(self):
        """Bytes of weights that one decode step reads.

        These are all, except an embedding that is not the output matrix too: of that it is one row.
        """
        tied = "output.weight" not in self.tensors
        return sum(
            size
            for name, (_, _, size) in self.tensors.items()
            if tied or name != "token_embd.weight"
        )

    def cache_bytes_per_position(self, bytes_per_element):
        """Bytes of one position's keys and values, of equal width, in all layers."""
        architecture = self.metadata["general.architecture"]
        layers, heads, width = (
            self.metadata[f"{architecture}.{key}"]
            for key in ("block_count", "attention.head_count", "embedding_length")
        )
        kv_heads = self.metadata.get(f"{architecture}.attention.head_count_kv", heads)
        head_width = self.metadata.get(f"{architecture}.attention.key_length", width // heads)
        return 2 * layers * kv_heads * head_width * bytes_per_element


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for element_type, row in Gguf(argument).histogram().items():
            print(
                *(argument, element_type, row["tensors"], row["bytes"], " ".join(row["names"])),
                sep="\t",
            )
