"""The results that `sift study` writes: one JSON object a line, the first says what was run."""

import dataclasses
import json


class ResultsError(Exception):
    """What is wrong with a results file, in one sentence."""


def _refuse_constant(text):
    raise ValueError(f"holds {text}")


@dataclasses.dataclass
class Study:
    settings: dict
    origin: dict
    cells: list  # of {"cell", "charts", "result"}

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


def load(folder):
    """The study in a folder. Raises ResultsError naming file and line."""
    path = folder / "cells.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {path}: {error}") from error
    lines = lines[:-1]  # what an interrupted write left has no line end
    if not lines:
        raise ResultsError(f"{path} is empty, expected the results of a study")
    values = [read_line(path, number, line) for number, line in enumerate(lines, 1)]
    header, cells = values[0], values[1:]
    if "settings" not in header:
        raise ResultsError(f'line 1 of {path} has no "settings", expected the results of a study')
    for number, cell in enumerate(cells, 2):
        if not {"cell", "charts", "result"} <= cell.keys():
            raise ResultsError(f'line {number} of {path} lacks "cell", "charts" or "result"')
    return Study(header["settings"], header.get("origin", {}), cells)
