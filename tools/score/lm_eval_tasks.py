"""Scores of IFEval, MATH-Hard and GSM8K, by the checkers of lm-eval itself."""

import importlib
import pathlib

from completions import BAD_FILE, INPUT_OUTPUT, ScoreError

MISSING = ("{what} is missing: `python3 -m venv .score && .score/bin/pip install -r "
           "tools/score/requirements.txt`, and run this program with .score/bin/python")


def load(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"the Python package {error.name or error}"
        raise ScoreError(INPUT_OUTPUT, MISSING.format(what=what)) from None


def document_keys(sample, *keys):
    """The document of a sample. lm-eval's checkers are not asked to explain what it lacks."""
    for key in keys:
        if key not in sample["document"]:
            raise ScoreError(BAD_FILE, f"the document of sample {sample['index']} has no '{key}'")
    return sample["document"]


def ifeval_scorer():
    nltk = load("nltk")
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        raise ScoreError(INPUT_OUTPUT, "NLTK's data punkt_tab is missing: `python -m nltk.downloader "
                                       "punkt_tab`, or set NLTK_DATA to a folder that has "
                                       "tokenizers/punkt_tab") from None
    load("langdetect").DetectorFactory.seed = 0  # it guesses at random otherwise
    checkers = load("lm_eval.tasks.ifeval.utils")
    known = load("lm_eval.tasks.ifeval.instructions_registry").INSTRUCTION_DICT

    def score(sample):
        document = document_keys(sample, "key", "prompt", "instruction_id_list", "kwargs")
        for instruction in document["instruction_id_list"]:
            if instruction not in known:
                raise ScoreError(BAD_FILE, f"sample {sample['index']} asks for '{instruction}', an "
                                           "instruction that lm-eval does not know")
        return checkers.process_results(document, [sample["completion"]])
    return score


def math_hard_scorer():
    math = load("lm_eval.tasks.leaderboard.math.utils")

    def score(sample):
        document = document_keys(sample, "problem", "solution")
        boxed = math.last_boxed_only_string(document["solution"])
        return math.process_results(document | {"answer": math.remove_boxed(boxed)},
                                    [sample["completion"]])
    return score


def gsm8k_scorer():
    """By the filters and the metric that lm-eval's gsm8k.yaml names."""
    filters = load("lm_eval.filters")
    yaml = load("yaml")
    metric = load("lm_eval.api.metrics").exact_match_fn
    folder = pathlib.Path(load("lm_eval.tasks.gsm8k").__path__[0])
    task = yaml.safe_load((folder / "gsm8k.yaml").read_text(encoding="utf-8"))
    described = {"metric", "aggregation", "higher_is_better"}
    options = {key: value for key, value in task["metric_list"][0].items() if key not in described}
    extractions = {
        pipeline["name"]: [filters.get_filter(step["function"])(
            **{key: value for key, value in step.items() if key != "function"})
            for step in pipeline["filter"]]
        for pipeline in task["filter_list"]}

    def extract(steps, completion):
        values = [[completion]]
        for step in steps:
            values = list(step.apply(values, [{}]))
        return values[0]

    def score(sample):
        answer = document_keys(sample, "answer")["answer"]
        return {f"exact_match,{name}": int(metric(predictions=[extract(steps, sample["completion"])],
                                                  references=[answer], **options)["exact_match"])
                for name, steps in extractions.items()}
    return score


def math_examples():
    """The four worked examples that lm-eval shows before each problem of MATH-Hard."""
    samples = load("lm_eval.tasks.leaderboard.math.utils").list_fewshot_samples()
    return [{key: sample[key] for key in ("problem", "solution")} for sample in samples]
