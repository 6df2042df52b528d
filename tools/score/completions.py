"""Reading the files that `sift eval` writes, and writing lines beside them."""

import dataclasses
import json
import pathlib


class ScoreError(Exception):
    """What went wrong in one sentence, and the exit code that goes with it."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


BAD_ARGUMENT, BAD_FILE, INPUT_OUTPUT = 2, 3, 4


@dataclasses.dataclass
class Completions:
    """One run: its settings, and its finished samples in the order in which they ran."""

    path: str
    settings: dict
    samples: list


def parse_line(path, number, line):
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ScoreError(BAD_FILE, f"{path}: line {number}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ScoreError(BAD_FILE, f"{path}: line {number}: expected a JSON object")
    return value


def require(path, number, line, **kinds):
    for key, kind in kinds.items():
        if not isinstance(line.get(key), kind):
            raise ScoreError(BAD_FILE, f"{path}: line {number}: key '{key}' is missing or of another "
                                       f"type than expected; this is no line of `sift eval`")


def read_completions(path):
    """The run that a file holds; a last line that was cut off is left out, as `sift eval` does."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ScoreError(INPUT_OUTPUT, f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScoreError(BAD_FILE, f"{path}: not UTF-8, expected JSON lines") from None
    lines = text.split("\n")[:-1]
    if not lines:
        raise ScoreError(BAD_FILE, f"{path}: no whole line, expected completions of `sift eval`")
    header, *rest = (parse_line(path, number, line) for number, line in enumerate(lines, start=1))
    require(path, 1, header, settings=dict)
    require(path, 1, header["settings"], task=str, attention=str, format=str, limit=int)
    for number, sample in enumerate(rest, start=2):
        require(path, number, sample, index=int, prompt=str, completion=str, finish_reason=str,
                generated_tokens=int, rows=int, rows_after_warmup=int, attention=dict, document=dict)
    if not rest:
        raise ScoreError(BAD_FILE, f"{path}: holds no finished sample")
    return Completions(str(path), header["settings"], rest)


def weighted_mean(samples, key, weight):
    """Mean over the rows of all samples, as `sift eval` reports it; None where nothing was measured."""
    pairs = [(sample["attention"].get(key), sample[weight]) for sample in samples]
    pairs = [(value, rows) for value, rows in pairs if value is not None and rows > 0]
    total = sum(rows for _, rows in pairs)
    return sum(value * rows for value, rows in pairs) / total if total else None


def write_lines(path, objects):
    try:
        with open(path, "w", encoding="utf-8") as file:
            for value in objects:
                file.write(json.dumps(value, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ScoreError(INPUT_OUTPUT, f"cannot write {path}: {error.strerror}") from None
