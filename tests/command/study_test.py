"""Tests of the commands that analyse and study: what they write, that a killed run goes on, and
what they refuse."""

import importlib.util
import json
import pathlib
import random
import shutil
import signal
import subprocess
import time

from command_case import ENVIRONMENT, FOLDER, GOOD, SIFT, CommandTest, run_tests, sift

MODEL = ["--model", GOOD, "--threads", 1, "--compute", "f32"]
PLOT = pathlib.Path(__file__).resolve().parent.parent.parent / "tools" / "plot"
TIMED = ("attention_speed", "decode_speed")


def untimed(path):
    """The settings and results of a study, without those that hold times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [lines[0]["settings"],
            *[line for line in lines[1:] if line["cell"]["kind"] not in TIMED]]


class Study(CommandTest):
    TEXT = FOLDER / "text.txt"
    C4 = FOLDER / "c4.jsonl"

    @classmethod
    def setUpClass(cls):
        cls.TEXT.write_text("the rain in another town is on the hen " * 40)
        document = {"prefix": "the rain in ano", "gold_completion": "ther town " * 20}
        cls.C4.write_text((json.dumps(document) + "\n") * 6)

    def command(self, folder, *options, context=256):
        return ["study", "paper", *MODEL, "--out", folder, "--wikitext", self.TEXT, "--c4", self.C4,
                "--context", context, "--quick", *options]

    def test_power_law(self):
        fits = FOLDER / "fits.jsonl"
        command = ["analyze", "powerlaw", *MODEL, "--context", 100, "--json", "--fits", fits]
        run = sift(*command, "--text", self.TEXT, "--windows", 2)
        self.expect(run, 0)
        report = json.loads(run.stdout)
        self.assertEqual(report["requests"], 2)
        kinds = {(s["level"], s["fitted_rows"]) for s in report["summaries"]}
        self.assertEqual(kinds, {(level, rows) for level in (0.5, 0.75, 0.875)
                                 for rows in ("all", 64)})
        lines = fits.read_text().splitlines()
        self.assertEqual(len(lines), 3)
        fit = json.loads(lines[1])["fits"][0]
        self.assertEqual(set(fit), {"layer", "head", "level", "fitted_rows", "all_rows", "alpha",
                                    "beta", "r_squared"})
        fits.write_text(lines[0] + "\n" + lines[1] + "\n" + lines[2][:50])  # as a kill leaves it
        again = sift(*command, "--text", self.TEXT, "--windows", 2)
        self.expect(again, 0)
        self.assertEqual(fits.read_text().splitlines(), lines)
        self.assertEqual(json.loads(again.stdout)["summaries"], report["summaries"])
        self.expect(sift(*command, "--text", self.C4, "--windows", 2), 2,
                    "holds results of another run: there text is")

    def test_power_law_of_completions(self):
        path = FOLDER / "completions.jsonl"
        path.write_text('{"settings": {}}\n' + json.dumps({
            "prompt": "the rain in", "completion": " another town" * 12}) + "\n")
        run = sift("analyze", "powerlaw", *MODEL, "--completions", path, "--json")
        self.expect(run, 0)
        self.assertEqual(json.loads(run.stdout)["requests"], 1)
        path.write_text('{"prompt": 1}\n')
        self.expect(sift("analyze", "powerlaw", *MODEL, "--completions", path), 3,
                    "completions.jsonl: line 1: expected a JSON object")

    def test_power_law_that_cannot_be(self):
        command = ["analyze", "powerlaw", *MODEL]
        empty = FOLDER / "empty.txt"
        empty.write_text("")
        self.expect_cases(2, [
            (command, "expected one of --text and --completions"),
            ([*command, "--text", self.TEXT, "--completions", self.TEXT], "expected one of"),
            ([*command, "--text", self.TEXT, "--context", 513], "--context is 513.* has 512"),
            ([*command, "--text", self.TEXT, "--context", 100, "--windows", 999], "999 windows"),
            ([*command, "--text", empty, "--context", 100], "empty.txt is empty"),
        ])
        self.expect(sift(*command, "--text", self.TEXT, "--context", 100, "--fits", "/no/such"), 4,
                    "cannot write /no/such")

    def test_documents_are_a_text(self):
        run = sift("perplexity", *MODEL, "--text", self.C4, "--context", 64, "--json")
        self.expect(run, 0)
        broken = FOLDER / "broken.jsonl"
        broken.write_text('{"prefix": "a"}\n')
        self.expect(sift("perplexity", *MODEL, "--text", broken, "--context", 64), 3,
                    "broken.jsonl: line 1: expected a JSON object with \"text\"")

    def test_bench_attention(self):
        command = ["bench", "attention", "--context", 256, "--repeat", 3, "--threads", 1, "--json"]
        run = sift(*command, "--attention", "sift:paper,tau=0.5", "--batch", 2)
        self.expect(run, 0)
        report = json.loads(run.stdout)
        self.assertEqual(report["dense_bytes"], 2 * 2 * 256 * 3 * 64 * 2)
        self.assertGreaterEqual(report["copies"] * report["dense_bytes"],
                                4 * report["last_level_cache_bytes"])
        self.assertEqual(len(report["term_seconds"]), 6)
        self.expect_cases(2, [
            ([*command, "--backend", "cuda"], "bench/gpu/run times the CUDA kernels"),
            ([*command, "--heads", 10], "10 heads, 3 key-value heads"),
            (["bench", "attention", "--context", 1], "--context is '1'"),
        ])

    def test_study_survives_kills(self):
        whole = FOLDER / "whole"
        self.expect(sift(*self.command(whole)), 0, "h2o:keep=0.5 is left out|^")
        cells = [json.loads(line) for line in (whole / "cells.jsonl").read_text().splitlines()]
        self.assertEqual({cell["cell"]["kind"] for cell in cells[1:]},
                         {"powerlaw", "perplexity", "mask", "generation", *TIMED})
        killed = FOLDER / "killed"
        random.seed(4)
        for _ in range(4):
            process = subprocess.Popen([SIFT, *map(str, self.command(killed))], env=ENVIRONMENT,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(random.uniform(0.05, 0.6))
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.expect(sift(*self.command(killed)), 0)
        self.assertEqual(untimed(killed / "cells.jsonl"), untimed(whole / "cells.jsonl"))
        kept = (whole / "cells.jsonl").read_bytes()
        self.expect(sift(*self.command(whole)), 0)
        self.assertEqual((whole / "cells.jsonl").read_bytes(), kept)
        self.plot(whole)
        broken = FOLDER / "with_nan"
        shutil.copytree(whole, broken)
        path = broken / "cells.jsonl"
        path.write_text(path.read_text().replace('"perplexity":', '"perplexity":NaN,"was":', 1))
        self.expect(sift(*self.command(broken)), 3, "with_nan/cells.jsonl: line .*not JSON")
        self.expect(sift(*self.command(whole, "--windows", 1)), 2, "there windows is 2, here 1")

    def plot(self, folder):
        """Every figure of a study can be drawn, where there is matplotlib."""
        if importlib.util.find_spec("matplotlib") is None:
            return
        run = subprocess.run([PLOT, folder], capture_output=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        figures = folder / "figures"
        names = {path.stem for path in figures.glob("*.svg")}
        self.assertEqual(names, {path.stem for path in figures.glob("*.png")})
        for name in ("power_law_samples_wikitext2", "r_squared_c4", "intended_sparsity",
                     "perplexity_wikitext2", "compensation_c4", "masks", "latency", "cost_terms",
                     "frontier"):
            self.assertIn(name, names)
        page = (figures / "report.html").read_text()
        self.assertEqual(page.count("<img "), len(names))
        self.assertNotRegex(page, r'(src|href)="(?!data:|#)')

    def test_study_that_cannot_be(self):
        # The model is not there, and not even looked for before the folder.
        missing = ["--wikitext", FOLDER / "none.txt"]
        self.expect(sift("study", "paper", *MODEL, "--out", FOLDER / "a", *missing, "--c4", self.C4),
                    4, "cannot read .*none.txt")
        file = FOLDER / "file"
        file.write_text("notes")
        self.expect(sift(*self.command(file / "inside")), 4, "cannot make the folder .*file/inside")
        self.expect(sift(*self.command(FOLDER / "b", context=600)), 2,
                    "600 tokens asked for, but the model has a context of 512")
        self.expect(sift(*self.command(FOLDER / "c", "--windows", 99)), 2,
                    "wikitext2: 99 windows of 256 tokens")


if __name__ == "__main__":
    run_tests()
