"""Tests of sift generate."""

import json
import signal
import subprocess

from command_case import (ENVIRONMENT, FOLDER, GOOD, SIFT, SLOW, SMALL, CommandTest, generate,
                          run_tests, sift)


class Prompts(CommandTest):
    def test_empty(self):  # 37
        self.expect(generate(prompt=""), 2, "expected one prompt")
        self.expect(self.from_stdin(b""), 2, "empty")
        self.expect(sift("generate", "--model", GOOD), 2, "expected one prompt")
        self.expect(generate("--prompt-file", "x"), 2, "expected one prompt")

    @staticmethod
    def from_stdin(text, *arguments):
        return sift("generate", "--model", GOOD, *SMALL, "--max-tokens", 2, "-", *arguments,
                    stdin=text)

    def test_invalid_utf8(self):  # 38
        for text in (b"\xff", b"caf\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
            with self.subTest(text=text):
                self.expect(self.from_stdin(b"text " + text), 2, "UTF-8")

    def test_longer_than_the_context(self):  # 39
        self.expect(self.from_stdin(b"z" * 600), 2, "600 tokens, expected fewer than the context "
                                                    "of 512")
        self.expect(self.from_stdin(b"z" * 40, "--context", 32, "--attention", "full"), 2,
                    "40 tokens, expected fewer than the context of 32")

    def test_nul(self):  # 41
        self.expect(self.from_stdin(b"a\0b"), 0)

    def test_a_file_that_cannot_be_read(self):
        for path in (FOLDER / "absent", FOLDER):
            run = sift("generate", "--model", GOOD, "--prompt-file", path)
            self.expect(run, 4, f"cannot read {path}")


class Generation(CommandTest):
    def test_json_alone_is_on_standard_output(self):
        run = generate("--json")
        self.expect(run, 0)
        report = json.loads(run.stdout)
        for key in ("text", "token_ids", "finish_reason", "prompt_tokens", "generated_tokens",
                    "prefill_seconds", "decode_seconds", "notice"):
            self.assertIn(key, report)
        for key in ("policy", "realised_sparsity", "realised_sparsity_after_warmup",
                    "union_density", "kept_mass", "candidate_density", "missed_keys", "output_error",
                    "k_bytes_read", "k_bytes_dense", "v_bytes_read", "v_bytes_dense", "sparse_steps",
                    "dense_steps", "degenerate_fits", "ill_determined", "empty_steps"):
            self.assertIn(key, report["attention"])

    def test_policies_that_evict(self):
        for policy in ("h2o:budget=6", "window:sink=2,recent=4"):
            with self.subTest(policy=policy):
                run = generate("--json", "--attention", policy, prompt="z" * 40)
                self.expect(run, 0)
                report = json.loads(run.stdout)
                self.assertEqual(report["generated_tokens"], 4)
                attention = report["attention"]
                self.assertEqual(attention["policy"], policy)
                self.assertIsNone(attention["kept_mass"])
                # Three of the tokens run, each over six rows and its own.
                self.assertAlmostEqual(attention["realised_sparsity"],
                                       sum(1 - 7 / rows for rows in (41, 42, 43)) / 3)
                self.assertEqual(attention["k_bytes_read"] * (41 + 42 + 43),
                                 attention["k_bytes_dense"] * 3 * 7)
        self.expect(generate("--attention", "h2o:compensate=mean"), 2,
                    "'h2o:compensate=mean' evicts keys")

    def test_what_ran_dense_is_said(self):  # 63
        report = json.loads(generate("--json", "--attention", "sift:paper,warmup=64").stdout)
        self.assertEqual(report["attention"]["sparse_steps"], 0)
        self.assertRegex(report["notice"], "the warm-up takes the first 64 generated tokens, and 3")
        report = json.loads(generate("--json", "--attention", "sift:paper,warmup=2").stdout)
        self.assertGreater(report["attention"]["sparse_steps"], 0)
        self.assertEqual(report["notice"], "")

    def test_the_same_seed_gives_the_same_text(self):
        texts = {json.loads(generate("--json", "--temperature", 1, "--seed", seed).stdout)["text"]
                 for seed in (7, 7, 7)}
        self.assertEqual(len(texts), 1)

    def test_interrupting_keeps_what_is_there(self):
        process = subprocess.Popen(
            [SIFT, "generate", "--model", SLOW, *SMALL, "--prompt", "a", "--max-tokens", "4000",
             "--json", "--output", FOLDER / "report.json"], env=ENVIRONMENT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        process.stdout.read(1)  # it has begun
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        output = (FOLDER / "report.json").read_text()
        self.assertEqual(process.returncode, 130)
        self.assertEqual(json.loads(output)["finish_reason"], "interrupted")


if __name__ == "__main__":
    run_tests()
