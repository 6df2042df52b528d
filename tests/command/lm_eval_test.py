"""Prompts of `sift eval` and scores of tools/score against lm-eval's own tasks, built here on a few
documents. Skipped (77) without the packages of tools/score/requirements.txt; SIFT_SCORE_PYTHON can
name a Python that has them.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

PYTHON = os.environ.get("SIFT_SCORE_PYTHON", sys.executable)
if PYTHON != sys.executable:
    os.execv(PYTHON, [PYTHON, *sys.argv])
if importlib.util.find_spec("lm_eval") is None:
    print("lm_eval is not there: SIFT_SCORE_PYTHON can name a Python that has the packages of "
          "tools/score/requirements.txt")
    sys.exit(77)

from command_case import FOLDER, SLOW, CommandTest, run_tests, sift  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(FOLDER / "hugging_face")

import jinja2  # noqa: E402
import lm_eval.tasks  # noqa: E402
import nltk  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.tasks.leaderboard.math.utils import list_fewshot_samples  # noqa: E402
from lm_eval.tasks._yaml_loader import load_yaml  # noqa: E402

try:
    nltk.data.find("tokenizers/punkt_tab")
except LookupError:
    print("NLTK's punkt_tab is not there: NLTK_DATA can name a folder that has tokenizers/punkt_tab")
    sys.exit(77)

SCORE = pathlib.Path(__file__).resolve().parents[2] / "tools/score"
YAML = {"gsm8k": "gsm8k/gsm8k.yaml", "ifeval": "leaderboard/ifeval/ifeval.yaml",
        "math-hard": "leaderboard/math/math_algebra.yaml"}

GSM8K = [{"question": "How many are 2 and 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"},
         {"question": "What costs a car?", "answer": "It costs $1,200.\n#### 1,200"}]
GSM8K_ANSWERS = {"right": "So it is 2 + 3 = 5.\n#### 5", "right without the mark": "The answer is 5.",
                 "wrong": "#### 6", "the last number counts": "It is 5, not 7", "no number": "five",
                 "empty": "", "with a dollar": "#### $5", "a thousand": "It costs 1,200.\n#### 1,200",
                 "a decimal": "#### 5.0", "a full stop": "#### 5."}

MATH = [{"problem": "What is a half of one?", "level": "Level 5", "type": "Algebra",
         "solution": "It is $\\boxed{\\frac{1}{2}}$."},
        {"problem": "Where is it defined?", "level": "Level 5", "type": "Algebra",
         "solution": "On $\\boxed{[2,5)}$."}]
MATH_ANSWERS = {"right": "Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.",
                "right, another form": "Final Answer: The final answer is $0.5$. I hope it is correct.",
                "boxed": "So it is $\\boxed{\\frac12}$.", "unmarked": "It is one half.",
                "wrong": "Final Answer: The final answer is $\\frac{1}{3}$. I hope it is correct.",
                "empty": "", "broken": "$\\boxed{\\frac{1}{$",
                "an interval": "Final Answer: The final answer is $[2,5)$. I hope it is correct."}

IFEVAL = [{"key": 1, "prompt": "No commas and a title.", "kwargs": [{}, {}],
           "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"]},
          {"key": 2, "prompt": "In German, in three sentences at most.",
           "instruction_id_list": ["language:response_language",
                                   "length_constraints:number_sentences"],
           "kwargs": [{"language": "de"}, {"relation": "less than", "num_sentences": 4}]},
          {"key": 3, "prompt": "Shout, with two capital words.", "kwargs": [
              {}, {"capital_relation": "at least", "capital_frequency": 2}],
           "instruction_id_list": ["change_case:english_capital",
                                   "change_case:capital_word_frequency"]}]
IFEVAL_ANSWERS = {"both": "<<Rain>>\nIt rains", "a comma": "<<Rain>>\nIt rains, often", "empty": "",
                  "loosely": "Sure, here it is:\n<<Rain>>\nIt rains",
                  "German": "Das ist ein guter Tag. Wir gehen in den Wald.",
                  "long German": "Das ist gut. Es regnet. Wir gehen. Der Wald ist nass. Das ist schade.",
                  "loud": "THIS IS A SENTENCE THAT IS WRITTEN IN CAPITAL LETTERS"}

CASES = {"gsm8k": (GSM8K, GSM8K_ANSWERS), "math-hard": (MATH, MATH_ANSWERS),
         "ifeval": (IFEVAL, IFEVAL_ANSWERS)}


def write_lines(name, values):
    path = FOLDER / name
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def lm_eval_task(name, documents):
    """lm-eval's task, whole, but for where its documents come from."""
    folder = pathlib.Path(lm_eval.tasks.__file__).parent
    config = load_yaml(folder / YAML[name])
    config.pop("dataset_name", None)
    data = str(write_lines(f"{name}-documents.jsonl", documents))
    return ConfigurableTask(config=config | {
        "dataset_path": "json", "dataset_kwargs": {"data_files": {"train": data, "test": data}}})


TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
            "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


class LmEval(CommandTest):
    def prompts(self, name, documents, prompt_format, examples, model=SLOW):
        out = FOLDER / "completions.jsonl"
        out.unlink(missing_ok=True)
        shots = ["--examples", write_lines("examples.jsonl", examples)] if examples else []
        self.expect(sift("eval", name, "--data", write_lines("data.jsonl", documents), "--model",
                         model, "--threads", 1, "--completions", out, "--max-tokens", 1, "--shots",
                         len(examples), "--attention", "full", "--format", prompt_format, *shots), 0)
        lines = [json.loads(line) for line in out.read_text().splitlines()[1:]]
        return {line["index"]: line["prompt"] for line in lines}

    def test_prompts(self):
        examples = {"math-hard": list_fewshot_samples(), "gsm8k": [], "ifeval": []}
        render = jinja2.Environment().from_string(TEMPLATE).render
        for name, (documents, _) in CASES.items():
            task = lm_eval_task(name, documents)
            for prompt_format, chat in (("chat", True), ("plain", False)):
                with self.subTest(task=name, format=prompt_format):
                    ours = self.prompts(name, documents, prompt_format, examples[name])
                    for index, document in enumerate(task.test_docs()):
                        theirs = task.fewshot_context(
                            document, len(examples[name]), apply_chat_template=chat,
                            fewshot_as_multiturn=chat,
                            chat_template=lambda messages, add_generation_prompt: render(
                                messages=messages, add_generation_prompt=add_generation_prompt))
                        self.assertEqual(ours[index], theirs)

    def test_scores(self):
        for name, (documents, answers) in CASES.items():
            samples = [{"index": len(answers) * i + j, "prompt": "", "completion": answer,
                        "finish_reason": "stop", "generated_tokens": 1, "rows": 0,
                        "rows_after_warmup": 0, "attention": {}, "document": document}
                       for i, document in enumerate(documents)
                       for j, answer in enumerate(answers.values())]
            settings = {"task": name, "attention": "full", "format": "chat", "limit": len(samples)}
            file = write_lines("scored.jsonl", [{"settings": settings}, *samples])
            run = subprocess.run([sys.executable, SCORE, "scores", file, "--json", "--each",
                                  FOLDER / "each.jsonl"], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 0, run.stderr)
            each = [json.loads(line) for line in (FOLDER / "each.jsonl").read_text().splitlines()]
            task = lm_eval_task(name, documents)
            theirs = [self.lm_eval_scores(task, document, answer)
                      for document in task.test_docs() for answer in answers.values()]
            self.assertEqual(len(each), len(theirs))
            for ours, right, sample in zip(each, theirs, samples):
                with self.subTest(task=name, answer=sample["completion"]):
                    self.assertEqual({key: ours[key] for key in right}, right)
            [report] = json.loads(run.stdout)
            for metric, value in report["scores"].items():
                values = [right[metric] for right in theirs]
                pooled = task.aggregation()[metric.split(",")[0]](values)
                self.assertAlmostEqual(value, pooled, msg=metric)
                self.assertGreater(value, 0, f"no answer is right for {metric}")
                self.assertLess(value, 1, f"no answer is wrong for {metric}")

    @staticmethod
    def lm_eval_scores(task, document, answer):
        """By the task's filters and metrics, as lm-eval's evaluator goes through them."""
        if not hasattr(task, "_filters") or len(task._filters) == 1:
            return task.process_results(document, [answer])
        scores = {}
        for pipeline in task._filters:
            values = [[answer]]
            for step in pipeline.filters:
                values = list(step().apply(values, [document]))
            for key, value in task.process_results(document, values).items():
                scores[f"{key},{pipeline.name}"] = value
        return scores


if __name__ == "__main__":
    run_tests()
