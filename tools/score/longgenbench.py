"""Scores of LongGenBench (Wu et al., arXiv 2409.02076) without a judge.

The benchmark asks a large model whether each block holds its event. Here are what comes before
(the blocks, the completion rate, the questions to the judge), as its evaluation has them, and a
deterministic check of our own, whose figures start with `mention_`: it looks for the event's words.
"""

import re

from completions import BAD_FILE, ScoreError

SEPARATOR = "#*#"
CHECKS = ("once", "range", "periodic")
FILLERS = frozenset("a an and at at for from in into my of on or the to with".split())


def document_of(sample):
    document = sample["document"]
    kinds = {"type": str, "prefix": str, "number": int} | {f"checks_{kind}": dict for kind in CHECKS}
    for key, kind in kinds.items():
        if not isinstance(document.get(key), kind):
            raise ScoreError(BAD_FILE, f"the document of sample {sample['index']} has no '{key}' of "
                                       "the expected type")
    return document


def blocks_of(sample, prompt_format):
    """{number: text} of the blocks; of several with one number the first counts. A plain prompt ends
    with the heading of the first block, so that it belongs to the answer."""
    document = document_of(sample)
    text = sample["completion"]
    if prompt_format == "plain":
        text = document["prefix"] + text
    heading = re.compile(re.escape(document["type"]) + r" (\d+)")
    blocks = {}
    for block in text.split(SEPARATOR):
        match = heading.search(block)
        if match:
            blocks.setdefault(int(match.group(1)), block)
    return blocks


def completion_rate(blocks, number):
    """Share of the blocks 1 … number that were written."""
    return sum(block in blocks for block in range(1, number + 1)) / number


def stem(word):
    """A word without the endings that verbs and plurals have: "attended" and "attend" are one."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[:-len(ending)]
    return word


def stems(text):
    return {stem(word) for word in re.findall(r"[a-z0-9]+", text.lower())}


def mentions(block, event):
    """Whether every word of the event, fillers and brackets apart, stands in the block."""
    event = re.sub(r"\(.*?\)", " ", event)
    wanted = {stem(word) for word in re.findall(r"[a-z0-9]+", event.lower()) if word not in FILLERS}
    return wanted <= stems(block)


def scorer(prompt_format):
    def score(sample):
        document = document_of(sample)
        blocks = blocks_of(sample, prompt_format)
        scores = {"completion_rate": completion_rate(blocks, document["number"])}
        for kind in CHECKS:
            events = {int(number): event for number, event in document[f"checks_{kind}"].items()}
            written = {number: event for number, event in events.items() if number in blocks}
            scores[f"events_{kind}"] = len(events)
            scores[f"events_{kind}_written"] = len(written)
            scores[f"mention_{kind}"] = sum(mentions(blocks[number], event)
                                            for number, event in written.items())
        return scores
    return score


def judge_prompts(run):
    """The questions that the benchmark puts to its judge, of blocks that were written."""
    for sample in run.samples:
        blocks = blocks_of(sample, run.settings["format"])
        for kind in CHECKS:
            for number, event in document_of(sample)[f"checks_{kind}"].items():
                if int(number) not in blocks:
                    continue
                yield {"index": sample["index"], "check": kind, "block": int(number),
                       "prompt": f"Context: {blocks[int(number)]}### Instruction: Does this context "
                                 f"include the {event}? Please answer with 'yes' or 'no' only."}
