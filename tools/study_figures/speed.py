"""Latency and bytes of one step of attention (figures 4 middle and right, 12), and the terms of the
paper's cost analysis (equations 4 to 7)."""

from .style import COLOURS, Figure, legend_below, look, number, panels

TERMS = {"project_all": "projection, all values", "project_surviving": "projection, survivors",
         "threshold": "threshold", "top_k": "top-k", "quantile": "quantile (warm-up step)",
         "fit": "fit of 128 records (once)"}


def by_batch(study):
    found = {}
    for cell in study.of_kind("attention_speed"):
        found.setdefault(cell["cell"]["batch"], []).append(cell)
    return found


def policies(cells):
    return list(dict.fromkeys(cell["cell"]["policy"] for cell in cells))


def latency_figure(study):
    batches = by_batch(study)
    drawing, axes = panels(len(batches), width=2.9, height=3.1, sharey=True)
    for axis, (batch, cells) in zip(axes, batches.items()):
        contexts = sorted({cell["cell"]["context"] for cell in cells})
        for index, policy in enumerate(policies(cells)):
            own = [cell for cell in cells if cell["cell"]["policy"] == policy]
            axis.loglog([cell["cell"]["context"] for cell in own],
                        [1e6 * cell["result"]["seconds"] for cell in own], label=policy,
                        **look(index))
        dense = [min(cell["result"]["dense_seconds"] for cell in cells
                     if cell["cell"]["context"] == context) for context in contexts]
        axis.loglog(contexts, [1e6 * seconds for seconds in dense], color="black", linestyle="--",
                    label="dense")
        axis.set_xticks(contexts, [str(context) for context in contexts])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(f"batch {batch}")
        axis.set_xlabel("keys")
    axes[0].set_ylabel("time of a step, one layer [µs]")
    legend_below(drawing, axes, columns=3)
    return Figure("latency", "Latency of decode attention against context",
                  "Median time of one step of one layer, caches cold; dense steps ran between "
                  "those of the policies.", drawing, [latency_table(study)])


def latency_table(study):
    rows = []
    for cell in study.of_kind("attention_speed"):
        result = cell["result"]
        rows.append([str(cell["cell"]["batch"]), str(cell["cell"]["context"]),
                     cell["cell"]["policy"],
                     number(result["attention"]["realised_sparsity_after_warmup"]),
                     number(1e6 * result["seconds"], 1), number(1e6 * result["dense_seconds"], 1),
                     number(result["times_as_fast_as_dense"], 2),
                     number(result["bytes"] / 2**20, 2), number(result["dense_bytes"] / 2**20, 2),
                     number(result["bytes_per_second"] / 1e9, 1)])
    return ("Time and bytes of a step",
            ["batch", "keys", "policy", "realised sparsity", "time [µs]", "dense [µs]",
             "times as fast as dense", "bytes read [MiB]", "dense [MiB]", "GB/s"], rows)


def sparsity_figure(study):
    cells = [cell for cell in study.of_kind("attention_speed")
             if cell["cell"]["policy"].startswith("sift")]
    largest = max(cell["cell"]["context"] for cell in cells)
    cells = [cell for cell in cells if cell["cell"]["context"] == largest]
    drawing, axes = panels(2, width=3.6, height=3.1)
    for index, batch in enumerate(sorted({cell["cell"]["batch"] for cell in cells})):
        own = [cell for cell in cells if cell["cell"]["batch"] == batch]
        x = [cell["result"]["attention"]["realised_sparsity_after_warmup"] for cell in own]
        axes[0].plot(x, [cell["result"]["times_as_fast_as_dense"] for cell in own],
                     label=f"batch {batch}", **look(index))
        axes[1].plot(x, [cell["result"]["bytes"] / cell["result"]["dense_bytes"] for cell in own],
                     label=f"batch {batch}", **look(index))
    axes[0].axhline(1, color="black", linewidth=0.7)
    axes[0].set_ylabel("times as fast as dense")
    axes[1].set_ylabel("bytes that had to be read, of dense")
    axes[1].set_ylim(0, 1.02)
    for axis in axes:
        axis.set_xlabel("realised sparsity")
    drawing.suptitle(f"{largest} keys", fontsize=10)
    legend_below(drawing, axes)
    return Figure("latency_by_sparsity", "Speed and bytes against realised sparsity",
                  "Sifting against dense attention; scores are random and heads independent, so "
                  "heads that share values seldom agree on them.", drawing, [])


def term_figure(study):
    cells = [cell for cell in study.of_kind("attention_speed", batch=1)
             if cell["result"]["term_seconds"] and cell["cell"]["policy"].startswith("sift")]
    if not cells:
        return None
    largest = max(cell["cell"]["context"] for cell in cells)
    cells = [cell for cell in cells if cell["cell"]["context"] == largest]
    drawing, (axis,) = panels(1, width=6.2, height=3.2)
    width = 0.8 / len(cells)
    names = list(TERMS)
    for index, cell in enumerate(cells):
        terms = cell["result"]["term_seconds"]
        axis.barh([row + index * width for row in range(len(names))],
                  [1e6 * terms[name] for name in names], height=width,
                  color=COLOURS[index], label=cell["cell"]["policy"])
    axis.set_yticks([row + 0.4 - width / 2 for row in range(len(names))],
                    [TERMS[name] for name in names])
    axis.invert_yaxis()
    axis.set_xlabel("time, one layer [µs]")
    axis.set_title(f"Batch 1, {largest} keys")
    axis.grid(axis="y", visible=False)
    legend_below(drawing, [axis])
    rows = [[str(cell["cell"]["batch"]), str(cell["cell"]["context"]), cell["cell"]["policy"],
             *[number(1e6 * cell["result"]["term_seconds"][name], 1) for name in names]]
            for cell in study.of_kind("attention_speed") if cell["result"]["term_seconds"]]
    table = ("Terms of the cost analysis [µs]", ["batch", "keys", "policy", *TERMS.values()], rows)
    return Figure("cost_terms", "Terms of the paper's cost analysis (equations 4–7)",
                  "Each term by itself, with the loops of decode attention. The fit is made once a "
                  "request, the others run every step.", drawing, [table])


def figures(study):
    if not study.of_kind("attention_speed"):
        return []
    drawn = [latency_figure(study), sparsity_figure(study), term_figure(study)]
    return [figure for figure in drawn if figure]
