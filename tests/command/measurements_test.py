"""Tests of the commands that measure: that they run, and what their reports hold."""

import json
import signal
import subprocess

from command_case import (ENVIRONMENT, FOLDER, GOOD, SIFT, SLOW, SMALL, CommandTest, run_tests,
                          sift)


class Measurements(CommandTest):
    TEXT = FOLDER / "text.txt"

    @classmethod
    def setUpClass(cls):
        cls.TEXT.write_text("the rain in another town is on the hen " * 10)

    def measure(self, *arguments):
        run = sift(*arguments, "--model", GOOD, *SMALL, "--json")
        self.expect(run, 0)
        return json.loads(run.stdout)

    def test_perplexity(self):
        text = ["perplexity", "--text", self.TEXT, "--context", 64, "--windows", 2]
        reports = [self.measure(*text, "--path", path, "--attention", "sift:paper,warmup=16")
                   for path in ("prefill", "decode")]
        for report in reports:
            for key in ("perplexity", "standard_error", "scored_tokens", "seconds", "compute"):
                self.assertIn(key, report)
            self.assertEqual(report["scored_tokens"], 2 * 63)
            self.assertGreater(report["attention"]["sparse_steps"], 0)
        self.assertAlmostEqual(reports[0]["perplexity"], reports[1]["perplexity"], places=3)

    def test_perplexity_that_cannot_be(self):
        text = ["perplexity", "--model", GOOD, *SMALL, "--text", self.TEXT]
        self.expect_cases(2, [
            ([*text, "--context", 513], "context is 513, expected 2 to 512"),
            ([*text, "--context", 64, "--windows", 99], "99 windows of 64 tokens asked for"),
            ([*text, "--context", 64, "--attention", "sift:paper,warmup=64"],
             "warmup is 64, expected less than the 64 rows"),  # 54
            ([*text, "--context", 64, "--prompt-tokens", 63], "prompt tokens is 63"),
        ])

    def test_interrupting_perplexity_inside_a_window(self):
        text = FOLDER / "long.txt"
        text.write_text("the rain in another town is on the hen " * 1000)
        process = subprocess.Popen(
            [SIFT, "perplexity", "--model", SLOW, *SMALL, "--text", text, "--context", "4000",
             "--windows", "1", "--path", "decode", "--json"], env=ENVIRONMENT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.readline()  # the model is loaded
        self.assertRegex(process.stderr.readline().decode(), "perplexity 1/4000 tokens")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertRegex(errors.decode(), "interrupted inside the first window")
        report = json.loads(output)
        self.assertEqual((report["windows"], report["scored_tokens"]), (0, 0))
        self.assertIsNone(report["perplexity"])

    def test_compare(self):
        report = self.measure("compare", "--prompt", "a", "--max-tokens", 3, "--attention", "full",
                              "--attention", "sift:paper,warmup=2")
        self.assertEqual([result["attention"]["policy"] for result in report["results"]],
                         ["full", "sift:paper,warmup=2"])
        self.assertIsNone(report["results"][0]["attention"]["realised_sparsity"])

    def test_bench(self):
        report = self.measure("bench", "decode", "--depth", "4,8", "--tokens", 2, "--repeat", 2)
        self.assertEqual([result["depth"] for result in report["results"]], [4, 8])
        report = self.measure("bench", "prefill", "--depth", 8, "--repeat", 3)
        self.assertEqual(len(report["results"][0]["repetitions"]), 3)

    def test_bench_that_cannot_be(self):
        bench = ["--model", GOOD, *SMALL, "--repeat", 1, "--json", "--depth"]
        self.expect(sift("bench", "prefill", *bench, 0), 2, "--depth is '0', expected an integer "
                                                            "from 1")
        run = sift("bench", "prefill", *bench, "8,9999")
        self.expect(run, 2, "9999 tokens are needed")
        self.assertEqual([result["tokens"] for result in json.loads(run.stdout)["results"]], [8])


if __name__ == "__main__":
    run_tests()
