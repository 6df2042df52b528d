"""Tests of what tools/score does without lm-eval: LongGenBench, reading, refusals. Its scores of the
other tasks are held to lm-eval's in tests/command/lm_eval_test.py."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCORE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SCORE))
import longgenbench  # noqa: E402

DOCUMENT = {"type": "Week", "number": 4, "prefix": "#*# Week 1 (January 1st):", "prompt": "…",
            "checks_once": {"2": "my wife birthday", "4": "husband (yourself) birthday"},
            "checks_range": {"3": "Attending a fashion week in Paris"},
            "checks_periodic": {"1": "Attend a parenting workshop", "3": "Attend a parenting workshop"}}
ANSWER = (" We attended the Parenting Workshops.\n#*# Week 2: It was my wife's birthday!\n"
          "#*# Weak 3: nothing\n#*# Week 3: In Paris I attended the fashion week. No workshop.\n"
          "#*# Week 3: We attend a parenting workshop.\n#*# Week 9: too many")


def sample(completion=ANSWER, document=None, **changes):
    return {"index": 5, "prompt": "…", "completion": completion, "finish_reason": "stop",
            "generated_tokens": 9, "rows": 80, "rows_after_warmup": 40,
            "attention": {"realised_sparsity": 0.5}, "document": document or DOCUMENT} | changes


class LongGenBench(unittest.TestCase):
    def test_blocks(self):
        blocks = longgenbench.blocks_of(sample(), "plain")
        self.assertEqual(sorted(blocks), [1, 2, 3, 9])
        self.assertIn("No workshop", blocks[3])  # the first of two
        self.assertIn("January", blocks[1])  # the heading that the prompt ends with
        self.assertNotIn(1, longgenbench.blocks_of(sample(), "chat"))
        self.assertEqual(longgenbench.completion_rate(blocks, 4), 0.75)
        self.assertEqual(longgenbench.completion_rate({}, 4), 0)

    def test_mentions(self):
        for block, event, expected in (
                ("We attended parenting workshops.", "Attend a parenting workshop", True),
                ("We attended the workshop.", "Attend a parenting workshop", False),
                ("The parent attended.", "Attend a parenting workshop", False),
                ("HAPPY BIRTHDAY, husband!", "husband (yourself) birthday", True),
                ("Happy birthday!", "husband (yourself) birthday", False),
                ("Participated in a school of sailing", "Participating in a sailing school", True),
                ("a coffee shopkeeper", "coffee shop", False),
                ("", "restaurant", False)):
            with self.subTest(block=block, event=event):
                self.assertEqual(longgenbench.mentions(block, event), expected)

    def test_scores(self):
        self.assertEqual(longgenbench.scorer("plain")(sample()), {
            "completion_rate": 0.75,
            "events_once": 2, "events_once_written": 1, "mention_once": 1,
            "events_range": 1, "events_range_written": 1, "mention_range": 1,
            "events_periodic": 2, "events_periodic_written": 2, "mention_periodic": 1})


class Program(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def write(self, *samples, task="longgenbench", **settings):
        header = {"settings": {"task": task, "attention": "sift", "format": "plain",
                               "limit": len(samples)} | settings}
        path = self.folder / "completions.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in (header, *samples)))
        return path

    def score(self, *arguments):
        # Without the packages of any installation.
        return subprocess.run([sys.executable, "-S", SCORE, *map(str, arguments)],
                              capture_output=True, text=True, check=False)

    def expect_refused(self, run, code, message):
        self.assertEqual((run.returncode, run.stdout), (code, ""), run.stderr)
        self.assertRegex(run.stderr, f"^error: .*{message}")
        self.assertEqual(run.stderr.count("\n"), 1)

    def test_scores_of_a_file(self):
        path = self.write(sample(), sample(completion="", index=6, rows=20,
                                           attention={"realised_sparsity": 1.0}))
        each = self.folder / "each.jsonl"
        [report] = json.loads(self.score("scores", path, "--json", "--each", each).stdout)
        scores = report["scores"]
        self.assertEqual(scores["completion_rate"], (0.75 + 0.25) / 2)
        self.assertEqual(report["standard_errors"]["completion_rate"], 0.25)
        self.assertEqual(scores["mention_once_of_written"], 1)
        self.assertEqual(scores["mention_once_of_all"], 1 / 4)
        self.assertEqual(scores["mention_periodic_of_written"], 1 / 3)
        self.assertAlmostEqual(report["attention"]["realised_sparsity"], 0.6)
        self.assertIsNone(report["attention"]["kept_mass"])
        lines = [json.loads(line) for line in each.read_text().splitlines()]
        self.assertEqual([line["index"] for line in lines], [5, 6])
        self.assertEqual(lines[0]["generated_tokens"], 9)
        text = self.score("scores", path).stdout
        self.assertRegex(text, r"longgenbench, sift, 2 samples\n  completion_rate +50.0 % ± 25.0 %\n")

    def test_an_unfinished_run_says_so(self):
        self.assertIn("1 samples (2 are not finished)",
                      self.score("scores", self.write(sample(), limit=3)).stdout)

    def test_judge_prompts(self):
        out = self.folder / "judge.jsonl"
        self.assertEqual(self.score("judge-prompts", self.write(sample()), out).returncode, 0)
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        self.assertEqual([(line["check"], line["block"]) for line in lines],
                         [("once", 2), ("range", 3), ("periodic", 1), ("periodic", 3)])
        self.assertEqual(lines[0]["prompt"],
                         "Context:  Week 2: It was my wife's birthday!\n### Instruction: Does this "
                         "context include the my wife birthday? Please answer with 'yes' or 'no' only.")

    def test_a_missing_package_is_named(self):
        for task in ("gsm8k", "math-hard", "ifeval"):
            with self.subTest(task=task):
                self.expect_refused(self.score("scores", self.write(sample(), task=task)), 4,
                                    "the Python package (lm_eval|nltk) is missing: .*requirements.txt")
        self.expect_refused(self.score("math-examples", self.folder / "x"), 4, "lm_eval is missing")

    def test_what_cannot_be(self):
        path = self.folder / "bad.jsonl"
        header = self.write().read_text()
        for text, message in (("", "no whole line"), ("notes\n", "line 1: not JSON"),
                              ("3\n", "line 1: expected a JSON object"),
                              ('{"question": "a"}\n', "line 1: key 'settings' is missing"),
                              (header, "holds no finished sample"),
                              (header + '{"index": 1}\n', "line 2: key 'prompt' is missing"),
                              (header + '{"index": 1\n', "line 2: not JSON")):
            with self.subTest(text=text):
                path.write_text(text)
                self.expect_refused(self.score("scores", path), 3, f"bad.jsonl: {message}")
        path.write_bytes(b"\xff\n")
        self.expect_refused(self.score("scores", path), 3, "not UTF-8")
        self.expect_refused(self.score("scores", self.folder / "none"), 4, "cannot read .*none")
        self.expect_refused(self.score("scores", self.write(sample(), task="mmlu")), 3,
                            "no scorer for task 'mmlu'")
        self.expect_refused(self.score("scores", self.write(sample(document={"type": 3}))), 3,
                            "sample 5 has no 'type'")
        self.expect_refused(self.score("judge-prompts", self.write(sample(), task="gsm8k"), "x"), 2,
                            "only longgenbench has a judge")
        self.expect_refused(self.score("judge-prompts", self.write(sample()),
                                       self.folder / "no" / "such"), 4, "cannot write .*such")
        self.assertEqual(self.score("scores").returncode, 2)

    def test_a_last_line_that_was_cut_off_is_left_out(self):
        path = self.write(sample(), sample())
        path.write_text(path.read_text()[:-10])
        self.assertIn("1 samples (1 are not finished)", self.score("scores", path).stdout)


if __name__ == "__main__":
    unittest.main()
