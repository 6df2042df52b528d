#!/usr/bin/env python3
"""Scores what `sift eval` wrote. requirements.txt beside this file says what it needs.

    python tools/score scores FILE... [--json] [--each OUT]
    python tools/score judge-prompts FILE OUT
    python tools/score math-examples OUT

Each file says of which task it is. IFEval, MATH-Hard and GSM8K are scored by lm-eval's own checkers.
"""

import argparse
import json
import math
import sys

import lm_eval_tasks
import longgenbench
from completions import BAD_ARGUMENT, BAD_FILE, ScoreError, read_completions, weighted_mean, write_lines

ATTENTION = {"realised_sparsity": "rows", "realised_sparsity_after_warmup": "rows_after_warmup",
             "union_density": "rows_after_warmup", "kept_mass": "rows_after_warmup"}


def mean(values):
    """Mean and its standard error, as lm-eval has it: None for a single value."""
    average = sum(values) / len(values)
    if len(values) == 1:
        return average, None
    variance = sum((value - average) ** 2 for value in values) / (len(values) - 1)
    return average, math.sqrt(variance / len(values))


def scorer_of(run):
    makers = {"ifeval": lm_eval_tasks.ifeval_scorer, "math-hard": lm_eval_tasks.math_hard_scorer,
              "gsm8k": lm_eval_tasks.gsm8k_scorer,
              "longgenbench": lambda: longgenbench.scorer(run.settings["format"])}
    task = run.settings["task"]
    if task not in makers:
        raise ScoreError(BAD_FILE, f"{run.path}: no scorer for task '{task}'; known tasks: "
                                   f"{', '.join(makers)}")
    return makers[task]()


def summary_of_longgenbench(scores):
    """Rates over all events of all samples; of events whose block was written, and of all."""
    def total(key):
        return sum(score[key] for score in scores)
    rates = {"completion_rate": mean([score["completion_rate"] for score in scores])}
    for kind in longgenbench.CHECKS:
        for name, count in (("of_written", total(f"events_{kind}_written")),
                            ("of_all", total(f"events_{kind}"))):
            rate = total(f"mention_{kind}") / count if count else None
            rates[f"mention_{kind}_{name}"] = (rate, None)
    return rates


def summary_of(task, scores):
    """{metric: (value, standard error or None)}; lists are of instructions, pooled as lm-eval does."""
    if task == "longgenbench":
        return summary_of_longgenbench(scores)
    pooled = {}
    for key, first in scores[0].items():
        if isinstance(first, list):
            values = [value for score in scores for value in score[key]]
            pooled[key] = (sum(values) / len(values), None)
        else:
            pooled[key] = mean([score[key] for score in scores])
    return pooled


def score_file(path):
    run = read_completions(path)
    score = scorer_of(run)
    scores = [score(sample) for sample in run.samples]
    task = run.settings["task"]
    each = [{"file": run.path, "index": sample["index"],
             "generated_tokens": sample["generated_tokens"],
             "finish_reason": sample["finish_reason"], **values}
            for sample, values in zip(run.samples, scores)]
    return {"file": run.path, "task": task, "policy": run.settings["attention"],
            "samples": len(scores), "limit": run.settings["limit"],
            "scores": {key: value for key, (value, _) in summary_of(task, scores).items()},
            "standard_errors": {key: error for key, (_, error) in summary_of(task, scores).items()},
            "attention": {key: weighted_mean(run.samples, key, weight)
                          for key, weight in ATTENTION.items()}}, each


def percent(value):
    return "–" if value is None else f"{100 * value:.1f} %"


def show(report):
    missing = report["limit"] - report["samples"]
    print(f"{report['file']}: {report['task']}, {report['policy']}, {report['samples']} samples"
          + (f" ({missing} are not finished)" if missing else ""))
    for key, value in report["scores"].items():
        error = report["standard_errors"][key]
        print(f"  {key:<34}{percent(value):>8}" + (f" ± {percent(error)}" if error is not None else ""))
    for key, value in report["attention"].items():
        print(f"  {key:<34}{percent(value):>8}")


def print_scores(arguments):
    results = [score_file(path) for path in arguments.files]
    reports = [report for report, _ in results]
    if arguments.each:
        write_lines(arguments.each, [line for _, each in results for line in each])
    if arguments.json:
        print(json.dumps(reports, indent=2, ensure_ascii=False))
    else:
        for report in reports:
            show(report)


def write_judge_prompts(arguments):
    run = read_completions(arguments.file)
    if run.settings["task"] != "longgenbench":
        raise ScoreError(BAD_ARGUMENT, f"{run.path} is of task '{run.settings['task']}', and only "
                                       "longgenbench has a judge")
    write_lines(arguments.out, longgenbench.judge_prompts(run))


def write_math_examples(arguments):
    write_lines(arguments.out, lm_eval_tasks.math_examples())


def parse_arguments():
    parser = argparse.ArgumentParser(prog="score", description="Scores what `sift eval` wrote.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    scores = commands.add_parser("scores", help="print the scores of completions")
    scores.add_argument("files", nargs="+", metavar="FILE")
    scores.add_argument("--json", action="store_true", help="print JSON")
    scores.add_argument("--each", metavar="OUT", help="write the scores of each sample as JSON lines")
    scores.set_defaults(run=print_scores)
    judge = commands.add_parser("judge-prompts", help="write LongGenBench's questions to its judge")
    judge.add_argument("file", metavar="FILE")
    judge.add_argument("out", metavar="OUT")
    judge.set_defaults(run=write_judge_prompts)
    examples = commands.add_parser("math-examples",
                                   help="write the worked examples of MATH-Hard, from lm-eval")
    examples.add_argument("out", metavar="OUT")
    examples.set_defaults(run=write_math_examples)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        arguments.run(arguments)
    except ScoreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
