"""The results that `sift study` writes: one JSON object a line, the first says what was run."""

import dataclasses
import json


class ResultsError(Exception):
    """What is wrong with a results file, in one sentence."""


def _refuse_constant(text):
    raise ValueError(f"holds {text}")


@dataclasses.dataclass
class Completions:
    """The answers of one task under one policy."""

    name: str  # of the file
    settings: dict
    samples: list


@dataclasses.dataclass
class Study:
    settings: dict
    origin: dict
    cells: list  # of {"cell", "charts", "result"}
    completions: list = dataclasses.field(default_factory=list)
    scores: dict = dataclasses.field(default_factory=dict)  # by (name of the file, index)

    def of_kind(self, kind, **identity):
        """Cells of a kind whose identity has these members, in the order of the study."""
        return [cell for cell in self.cells if cell["cell"]["kind"] == kind
                and all(cell["cell"].get(key) == value for key, value in identity.items())]

    def series(self, chart, **identity):
        """{series: [cells]} of a chart, in the order of the study."""
        found = {}
        for cell in self.cells:
            if any(cell["cell"].get(key) != value for key, value in identity.items()):
                continue
            for use in cell["charts"]:
                if use["chart"] == chart:
                    found.setdefault(use["series"], []).append(cell)
        return found

    def texts(self):
        """Names of the texts that anything was measured on."""
        names = [cell["cell"]["text"] for cell in self.cells if "text" in cell["cell"]]
        return list(dict.fromkeys(names))

    def full_perplexity(self, text):
        """Perplexity with full attention, None where that was not run."""
        full = self.of_kind("perplexity", text=text, policy="full")
        return full[0]["result"]["perplexity"] if full else None


def read_line(path, number, line):
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ResultsError(f"line {number} of {path} is no result: {error}, expected a JSON object "
                           "of finite numbers") from error
    if not isinstance(value, dict):
        raise ResultsError(f"line {number} of {path} is no result: expected a JSON object")
    return value


def read_lines(path):
    """The objects of a file of results, the first of which holds its settings."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {path}: {error}") from error
    lines = lines[:-1]  # what an interrupted write left has no line end
    if not lines:
        raise ResultsError(f"{path} is empty, expected the results of a study")
    return [read_line(path, number, line) for number, line in enumerate(lines, 1)]


def read_completions(path):
    header, *samples = read_lines(path)
    if "settings" not in header:
        raise ResultsError(f'line 1 of {path} has no "settings", expected completions')
    for number, sample in enumerate(samples, 2):
        if not {"index", "generated_tokens", "attention", "rows"} <= sample.keys():
            raise ResultsError(f"line {number} of {path} is no completion")
    return Completions(path.name, header["settings"], samples)


def read_scores(path):
    """What `tools/score scores … --each` wrote; nothing where it did not run."""
    if not path.exists():
        return {}
    return {(score["file"].rsplit("/", 1)[-1], score["index"]): score
            for score in read_lines(path)}


def load(folder):
    """The study in a folder. Raises ResultsError naming file and line."""
    path = folder / "cells.jsonl"
    header, *cells = read_lines(path)
    if "settings" not in header:
        raise ResultsError(f'line 1 of {path} has no "settings", expected the results of a study')
    for number, cell in enumerate(cells, 2):
        if not {"cell", "charts", "result"} <= cell.keys():
            raise ResultsError(f'line {number} of {path} lacks "cell", "charts" or "result"')
    completions = [read_completions(file)
                   for file in sorted((folder / "completions").glob("*.jsonl"))]
    return Study(header["settings"], header.get("origin", {}), cells, completions,
                 read_scores(folder / "scores.jsonl"))
