"""Accuracy of downstream tasks against realised sparsity (figures 6 and 11)."""

from .style import Figure, legend_below, look, number, panels

LEAST_SAMPLES = 30


def figures(study):
    cells = study.of_kind("task")
    names = list(dict.fromkeys(cell["cell"]["task"] for cell in cells
                               if cell["result"]["samples"] >= LEAST_SAMPLES))
    if not names:
        return []
    drawing, axes = panels(len(names), width=3.4, height=3.2)
    rows = []
    for axis, name in zip(axes, names):
        for index, (series, own) in enumerate(study.series("tasks", task=name).items()):
            own = sorted(own, key=lambda cell: cell["result"]["realised_sparsity"] or 0)
            axis.plot([cell["result"]["realised_sparsity"] or 0 for cell in own],
                      [cell["result"]["score"] for cell in own], label=series, **look(index))
            rows += [[name, series, cell["cell"]["policy"], str(cell["result"]["samples"]),
                      number(cell["result"]["score"]), number(cell["result"]["realised_sparsity"])]
                     for cell in own]
        axis.set_title(f"{name}, n = {study.of_kind('task', task=name)[0]['result']['samples']}")
        axis.set_xlabel("realised sparsity, all rows")
    axes[0].set_ylabel("score")
    legend_below(drawing, axes)
    table = ("Scores", ["task", "series", "policy", "n", "score", "realised sparsity"], rows)
    return [Figure("tasks", "Downstream tasks", "Score against realised sparsity.", drawing,
                   [table])]
