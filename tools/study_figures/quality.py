"""Sparsity that is realised, and what it costs in perplexity (figures 4 left, 5, 9, 10), and the
frontier of quality against bytes and time."""

import re

from .style import Figure, legend_below, look, number, panels, text_name


def sparsity(cell, after_warmup=False):
    """Realised sparsity of a cell; full attention leaves nothing out."""
    key = "realised_sparsity_after_warmup" if after_warmup else "realised_sparsity"
    return cell["result"]["attention"][key] or 0


def intended(cell):
    """τ of a policy."""
    return float(re.search(r"tau=([0-9.]+)", cell["cell"]["policy"]).group(1))


def bytes_share(cell):
    """K and V bytes read, as a share of what dense attention reads."""
    attention = cell["result"]["attention"]
    dense = attention["k_bytes_dense"] + attention["v_bytes_dense"]
    return (attention["k_bytes_read"] + attention["v_bytes_read"]) / dense


def result_row(cell, full):
    attention = cell["result"]["attention"]
    perplexity = cell["result"]["perplexity"]
    prompt = cell["cell"]["prompt_tokens"]
    return [cell["cell"]["policy"] + (f" (after a prompt of {prompt})" if prompt else ""),
            number(perplexity), "–" if full is None else f"{perplexity - full:+.3f}",
            number(attention["realised_sparsity"]),
            number(attention["realised_sparsity_after_warmup"]),
            number(attention["union_density"]), number(attention["kept_mass"]),
            number(bytes_share(cell))]


RESULT_HEADS = ["policy", "perplexity", "difference to full", "realised sparsity",
                "realised sparsity after warm-up", "union density", "kept mass",
                "K and V bytes read, of dense"]


def result_table(study, text, series, title):
    full = study.full_perplexity(text)
    cells = {}
    for members in series.values():
        for cell in members:
            cells[(cell["cell"]["policy"], cell["cell"]["prompt_tokens"])] = cell
    return (title, RESULT_HEADS, [result_row(cell, full) for cell in cells.values()])


def after_warmup_table(series, title):
    """The x-axis of a chart, measured over rows after the warm-up alone."""
    rows = [[name, cell["cell"]["policy"], number(sparsity(cell)), number(sparsity(cell, True)),
             number(cell["result"]["perplexity"])]
            for name, cells in series.items() for cell in cells
            if cell["cell"]["policy"] != "full"]
    return (title, ["series", "policy", "realised sparsity", "after warm-up", "perplexity"], rows)


def intended_figure(study, texts):
    drawing, axes = panels(len(texts), width=3.4, height=3.2)
    tables = []
    for axis, text in zip(axes, texts):
        series = study.series("intended_sparsity", text=text)
        rows = []
        for index, (name, cells) in enumerate(series.items()):
            cells = sorted(cells, key=intended)
            axis.plot([intended(cell) for cell in cells], [sparsity(cell) for cell in cells],
                      label=name, **look(index))
            rows += [[name, f"{intended(cell):g}", number(sparsity(cell)),
                      number(sparsity(cell, True))] for cell in cells]
        axis.plot([0.45, 1], [0.45, 1], color="black", linewidth=0.7, linestyle=":",
                  label="intended = realised")
        axis.set_xlabel("intended sparsity τ")
        axis.set_title(text_name(text))
        axis.set_xlim(0.45, 1)
        axis.set_ylim(0.3, 1)
        tables.append((f"Intended and realised sparsity, {text_name(text)}",
                       ["series", "τ", "realised", "after warm-up"], rows))
    axes[0].set_ylabel("realised sparsity, all rows")
    legend_below(drawing, axes)
    return Figure("intended_sparsity", "Intended and realised sparsity",
                  "Keys left out as a share of the keys that a row sees, over all rows, the "
                  "warm-up's counting as 0. The warm-up w is the number of rows that the power "
                  "law is fitted on.", drawing, tables)


def perplexity_figure(study, text, chart, title, caption):
    series = {name: cells for name, cells in study.series(chart, text=text).items()
              if name != "Full"}
    full = study.full_perplexity(text)
    if not series:
        return None
    drawing, (axis,) = panels(1, width=5.4, height=4.2)
    worst = max(cell["result"]["perplexity"] for cells in series.values() for cell in cells)
    for index, (name, cells) in enumerate(series.items()):
        cells = sorted(cells, key=sparsity)
        axis.plot([sparsity(cell) for cell in cells],
                  [cell["result"]["perplexity"] for cell in cells], label=name, **look(index))
    if full is not None:
        axis.axhline(full, color="black", linewidth=0.9, linestyle="--", label="Full")
        if worst > 2 * full:
            logarithmic(axis, full, worst)
    axis.set_xlabel("realised sparsity, all rows")
    axis.set_ylabel("perplexity")
    axis.set_title(f"{title}, {text_name(text)}")
    legend_below(drawing, [axis], columns=3)
    tables = [result_table(study, text, study.series(chart, text=text),
                           f"{title}, {text_name(text)}"),
              after_warmup_table(series, f"{title}, {text_name(text)}: the x-axis after warm-up")]
    return Figure(f"{chart}_{text}", f"{title}, {text_name(text)}", caption, drawing, tables)


def logarithmic(axis, low, high):
    """A logarithmic y-axis with a few plain numbers."""
    steps = (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7)
    ticks = [step * 10 ** power for power in range(1, 6) for step in steps]
    shown = [tick for tick in ticks if 0.95 * low <= tick <= 1.05 * high]
    axis.set_yscale("log")
    axis.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axis.minorticks_off()


def frontier_points(study, text):
    """[(series, policy, perplexity difference, share of bytes, milliseconds per token)]"""
    full = study.full_perplexity(text)
    points = []
    for name, cells in study.series("frontier", text=text).items():
        for cell in cells:
            policy = cell["cell"]["policy"]
            quality = study.of_kind("perplexity", text=text, policy=policy)
            if quality and full is not None:
                points.append((name, policy, quality[0]["result"]["perplexity"] - full,
                               bytes_share(quality[0]) if policy != "full" else 1.0,
                               1000 * cell["result"]["seconds_per_token"]))
    return points


def frontier_figure(study, text):
    points = frontier_points(study, text)
    if not points:
        return None
    drawing, axes = panels(2, width=3.9, height=4.2, sharey=True)
    names = list(dict.fromkeys(point[0] for point in points))
    for index, name in enumerate(names):
        members = sorted((point for point in points if point[0] == name),
                         key=lambda point: point[3])
        for axis, column in zip(axes, (3, 4)):
            axis.plot([point[column] for point in members], [point[2] for point in members],
                      label=name, **look(index), linewidth=0.9)
    axes[0].set_ylabel("perplexity, difference to full")
    axes[0].set_xlabel("K and V bytes read, of dense")
    depth = study.series("frontier", text=text)[names[0]][0]["cell"]["depth"]
    axes[1].set_xlabel(f"time per token behind {depth} tokens [ms]")
    for axis in axes:
        axis.set_yscale("symlog", linthresh=0.1)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.axhline(0, color="black", linewidth=0.6)
    legend_below(drawing, axes, columns=3)
    table = ("Frontier: a point for each policy and setting",
             ["series", "policy", "perplexity difference", "bytes read, of dense",
              "time per token [ms]"],
             [[name, policy, f"{difference:+.3f}", number(share), number(time, 2)]
              for name, policy, difference, share, time in points])
    return Figure("frontier", f"Which policy to use: quality, bytes and time, {text_name(text)}",
                  "Lower and further left is better. Differences below 0.1 are drawn on a linear "
                  "scale, larger ones on a logarithmic one.", drawing, [table])


CHARTS = [
    ("perplexity", "Perplexity against realised sparsity",
     "Each line is a method, its points are settings: the paper's variant for each warm-up w, "
     "Top-k and H2O at fixed shares of the keys."),
    ("compensation", "What stands in for the keys left out",
     "The paper's variant (w = 128) beside compensation of the mass that was left out, "
     "calibration on a prompt (whose rows run dense and are scored too), and adaptation of the "
     "threshold."),
    ("fits", "Other fits and thresholds",
     "Fits of the law other than least squares, thresholds on scores before the softmax, and a "
     "warm-up that ends by itself, all without compensation."),
]


def figures(study):
    texts = [text for text in study.texts() if study.series("intended_sparsity", text=text)]
    drawn = [intended_figure(study, texts)] if texts else []
    for chart, title, caption in CHARTS:
        for text in study.texts():
            if chart == "fits" and len(study.series(chart, text=text)) < 2:
                continue  # nothing to compare
            drawn.append(perplexity_figure(study, text, chart, title, caption))
    drawn += [frontier_figure(study, text) for text in study.texts()[:1]]
    return [figure for figure in drawn if figure]
