"""What one line of results is about: a batch with its shapes, and how its queries are made."""

from typing import NamedTuple

LLAMA_8B = (32, 8, 128)


class Cell(NamedTuple):
    batch: int
    context: int  # keys of each request
    heads: int  # query heads
    kv_heads: int
    head_dim: int
    inputs: str  # "independent" or "correlated" heads of a group

    @property
    def group(self):
        return self.heads // self.kv_heads

    @property
    def cache_bytes(self):
        """Of K and V together, 2 bytes an element."""
        return 4 * self.batch * self.context * self.kv_heads * self.head_dim

    def __str__(self):
        return "x".join(map(str, self[:5])) + "/" + self.inputs


def parse_cells(text, inputs):
    """Cells of "8x8192,8x32768x32x32x128": BATCHxCONTEXT or BATCHxCONTEXTxHEADSxKVxDIM."""
    cells = []
    for part in text.split(","):
        numbers = tuple(int(number) for number in part.split("x"))
        if len(numbers) == 2:
            numbers += LLAMA_8B
        if len(numbers) != 5:
            raise ValueError(f"cell '{part}', expected BATCHxCONTEXT or BATCHxCONTEXTxHEADSxKVxDIM")
        cells += [Cell(*numbers, kind) for kind in inputs]
    return cells


GRIDS = {
    "llama8b": ",".join(f"{b}x{s}" for s in (2048, 8192, 32768, 131072) for b in (1, 8, 16, 64)),
    "shapes": ",".join(
        f"8x{context}x{shape}"
        for shape in ("32x32x128", "64x8x128", "28x4x128", "24x8x128", "9x3x64")
        for context in (8192, 32768)
    ),
}
