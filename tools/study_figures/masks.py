"""Which keys each head keeps at one step (figure 13)."""

from .style import Figure, number, panels

COLUMNS = 512


def bits(digits, keys):
    """[keys] of 0 and 1 from hexadecimal digits, the first key highest."""
    return [int(bit) for digit in digits for bit in f"{int(digit, 16):04b}"][:keys]


def shares(row, columns):
    """The share of ones in each of `columns` pieces of a row."""
    edges = [len(row) * i // columns for i in range(columns + 1)]
    return [sum(row[a:b]) / (b - a) for a, b in zip(edges, edges[1:])]


def figures(study):
    cells = study.of_kind("mask")
    if not cells:
        return []
    drawing, axes = panels(len(cells), width=4.2, height=4.4, sharey=True)
    rows = []
    for axis, cell in zip(axes, cells):
        keys = cell["result"]["keys"]
        heads = [bits(head, keys) for layer in cell["result"]["kept"] for head in layer]
        columns = min(COLUMNS, keys)
        image = axis.imshow([shares(head, columns) for head in heads], aspect="auto",
                            cmap="Greys", vmin=0, vmax=1, extent=(0, keys, len(heads), 0),
                            interpolation="nearest")
        kept = sum(map(sum, heads)) / (keys * len(heads))
        name = cell["charts"][0]["series"]
        axis.set_title(f"{name}: {100 * kept:.1f} % of the keys kept")
        axis.set_xlabel("key")
        axis.grid(False)
        per_head = sorted(sum(head) / keys for head in heads)
        rows.append([cell["cell"]["policy"], str(keys), number(kept), number(per_head[0]),
                     number(per_head[len(per_head) // 2]), number(per_head[-1])])
    axes[0].set_ylabel("head (all heads of layer 0 on top)")
    drawing.colorbar(image, ax=axes, label="share of the keys kept", shrink=0.8)
    table = ("Keys kept at that step", ["policy", "keys", "kept", "fewest of a head", "median",
                                        "most of a head"], rows)
    return [Figure("masks", f"Keys that survive at step {cells[0]['result']['keys']}",
                   "A line for each query head of each layer, black where it keeps the keys.",
                   drawing, [table])]
