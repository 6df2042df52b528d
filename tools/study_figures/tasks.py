"""Downstream tasks: realised sparsity of their answers, and scores against it (figures 4 left, 6, 9
and 11)."""

import re

from .style import Figure, legend_below, look, number, panels

LEAST_SAMPLES = 30  # charts of fewer are not drawn
SCORES = {"gsm8k": "exact_match,flexible-extract", "ifeval": "prompt_level_strict_acc",
          "math-hard": "exact_match", "longgenbench": "completion_rate"}


def by_task(study):
    found = {}
    for run in study.completions:
        found.setdefault(run.settings["task"], []).append(run)
    return found


def largest_warmup(runs):
    """Of the policies that a chart compares."""
    found = [re.search(r"warmup=(\d+)", run.settings["attention"]) for run in runs]
    return max((int(match.group(1)) for match in found if match), default=0)


def counted(runs):
    """Indices of the samples that every run finished with more tokens than the longest warm-up."""
    least = largest_warmup(runs)
    return set.intersection(*({sample["index"] for sample in run.samples
                               if sample["generated_tokens"] > least} for run in runs))


def sparsity(run, indices, key="realised_sparsity", weight="rows"):
    """Mean over the rows of these samples; 0 for full attention."""
    pairs = [(sample["attention"][key], sample[weight]) for sample in run.samples
             if sample["index"] in indices and sample["attention"][key] is not None]
    total = sum(rows for _, rows in pairs)
    return sum(value * rows for value, rows in pairs) / total if total else 0


def score(study, run, indices):
    """Mean score of these samples, None where they were not scored."""
    key = SCORES.get(run.settings["task"])
    values = [study.scores.get((run.name, index), {}).get(key) for index in indices]
    return None if not values or None in values else sum(map(float, values)) / len(values)


def rows_of(study, task, runs, indices):
    return [[task, run.settings["series"], run.settings["attention"], str(len(indices)),
             number(sparsity(run, indices)),
             number(sparsity(run, indices, "realised_sparsity_after_warmup",
                             "rows_after_warmup")),
             number(score(study, run, indices))] for run in runs]


def task_table(study, groups):
    rows = [row for task, (runs, indices) in groups.items()
            for row in rows_of(study, task, runs, indices)]
    return ("Answers that every run continued beyond the longest warm-up",
            ["task", "series", "policy", "n", "realised sparsity", "after warm-up", "score"], rows)


def series_of(runs):
    found = {}
    for run in runs:
        found.setdefault(run.settings["series"], []).append(run)
    return found


def look_of(study, series):
    """The same in every panel, though each has series of its own."""
    names = list(dict.fromkeys(run.settings["series"] for run in study.completions))
    return look(names.index(series))


def sparsity_figure(study, groups, drawn):
    drawing, axes = panels(len(drawn), width=3.4, height=3.2)
    for axis, task in zip(axes, drawn):
        runs, indices = groups[task]
        own = [run for run in runs if "tau=" in run.settings["attention"]]
        for name, members in series_of(own).items():
            levels = [float(re.search(r"tau=([0-9.]+)", run.settings["attention"]).group(1))
                      for run in members]
            axis.plot(levels, [sparsity(run, indices) for run in members], label=name,
                      **look_of(study, name))
        axis.plot([0.45, 1], [0.45, 1], color="black", linewidth=0.7, linestyle=":",
                  label="intended = realised")
        axis.set_title(f"{task}, n = {len(indices)}")
        axis.set_xlabel("intended sparsity τ")
    axes[0].set_ylabel("realised sparsity, all rows")
    legend_below(drawing, axes)
    return Figure("tasks_intended_sparsity", "Intended and realised sparsity of answers",
                  "Over the generated rows of the samples that every run continued beyond the "
                  "longest warm-up.", drawing, [task_table(study, groups)])


def score_figure(study, groups, drawn):
    scored = [task for task in drawn
              if all(score(study, run, groups[task][1]) is not None for run in groups[task][0])]
    if not scored:
        return None
    drawing, axes = panels(len(scored), width=3.4, height=3.2)
    for axis, task in zip(axes, scored):
        runs, indices = groups[task]
        for name, members in series_of(runs).items():
            axis.plot([sparsity(run, indices) for run in members],
                      [score(study, run, indices) for run in members], label=name,
                      **look_of(study, name))
        axis.set_title(f"{task}, n = {len(indices)}")
        axis.set_xlabel("realised sparsity, all rows")
        axis.set_ylabel(SCORES[task], fontsize=8)
    legend_below(drawing, axes)
    return Figure("task_scores", "Scores of downstream tasks",
                  "Scores of the same samples, by tools/score.", drawing, [])


def figures(study):
    groups = {task: (runs, counted(runs)) for task, runs in by_task(study).items()}
    drawn = [task for task, (_, indices) in groups.items() if len(indices) >= LEAST_SAMPLES]
    if not drawn:
        return []
    found = [sparsity_figure(study, groups, drawn), score_figure(study, groups, drawn)]
    return [figure for figure in found if figure]


def too_few(study):
    """A sentence for each task whose charts are not drawn."""
    sentences = []
    for task, runs in by_task(study).items():
        count = len(counted(runs))
        if count < LEAST_SAMPLES:
            sentences.append(f"{task}: {count} samples were continued beyond the longest warm-up by "
                             f"every run, too few for a chart ({LEAST_SAMPLES}).")
    return sentences
