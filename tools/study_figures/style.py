"""How figures look, and how they are kept."""

import dataclasses

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402

TEXT_NAMES = {"wikitext2": "WikiText-2", "c4": "C4"}
# Paul Tol's bright colours and two of his light ones, which people who are colour-blind can tell
# apart.
COLOURS = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#777777", "#000000",
           "#EE8866", "#44BB99"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*", "h", "<"]

pyplot.rcParams.update({
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "legend.fontsize": 8,
    "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False,
    "figure.dpi": 110, "savefig.dpi": 160, "svg.hashsalt": "sift", "svg.fonttype": "path",
})


@dataclasses.dataclass
class Figure:
    name: str  # of the files
    title: str  # of its section in the report
    caption: str
    drawing: object  # a matplotlib figure
    tables: list  # of (title, [heads], [[cells]])


def text_name(name):
    return TEXT_NAMES.get(name, name)


def look(index):
    """Colour and marker of the index-th series."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def panels(columns, width=3.4, height=2.9, rows=1, **options):
    """A figure and its axes, always a flat list."""
    drawing, axes = pyplot.subplots(rows, columns, figsize=(width * columns, height * rows),
                                    squeeze=False, layout="constrained", **options)
    return drawing, list(axes.flat)


def legend_below(drawing, axes, columns=4):
    """One legend for all panels, below them."""
    handles, labels = {}, []
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            if label not in handles:
                handles[label] = handle
                labels.append(label)
    drawing.legend([handles[label] for label in labels], labels, loc="upper center",
                   bbox_to_anchor=(0.5, 0), ncols=min(columns, len(labels)), frameon=False)


def number(value, digits=3):
    """A number for a table; a dash for nothing."""
    return "–" if value is None else f"{value:.{digits}f}"


def save(figure, folder):
    for suffix in ("svg", "png"):
        metadata = {"Date": None} if suffix == "svg" else {"Software": None}
        # Legends stand below the panels: "tight" takes them in.
        figure.drawing.savefig(folder / f"{figure.name}.{suffix}", metadata=metadata,
                               bbox_inches="tight")
    pyplot.close(figure.drawing)
