#!/usr/bin/env python3
"""Tests of `run` with programs that print fixed numbers instead of measuring."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run")

# llama.cpp generates 10 tokens/s without and 20 with flash attention, and reads prompts at 100.
PEER = """
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
rate = 100 if options["-n"] == "0" else 10 * (1 + int(options["-fa"]))
print(json.dumps([{"samples_ts": [rate] * int(options["-r"])}]))
"""
# sift generates 50 tokens/s with full attention, 80 with sift, and reads prompts at 30.
SIFT = """
import json, sys
if sys.argv[1] == "--version":
    sys.exit(print("sift 0"))
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
rate = 30 if sys.argv[2] == "prefill" else {"full": 50, "sift": 80}[options["--attention"]]
row = {"name": sys.argv[2],
       "depth": int(options["--depth"]) if sys.argv[2] == "decode" else 0,
       "tokens": int(options["--tokens" if sys.argv[2] == "decode" else "--depth"]) + EXTRA,
       "median_tokens_per_second": rate, "minimum": rate, "maximum": rate, "compute": "q8",
       "attention": options["--attention"]}
print(json.dumps({"results": [row]}))
"""


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def number(key, value):
    return string(f"llama.{key}") + struct.pack("<II", 4, value)


def small_model():
    """One layer, two heads of width 4, an F32 matrix of 8 x 8, a tied F16 embedding of 4 x 8."""
    metadata = string("general.architecture") + struct.pack("<I", 8) + string("llama")
    metadata += number("block_count", 1) + number("attention.head_count", 2)
    metadata += number("embedding_length", 8)
    tensors = string("token_embd.weight") + struct.pack("<IQQIQ", 2, 8, 4, 1, 0)
    tensors += string("blk.0.attn_k.weight") + struct.pack("<IQQIQ", 2, 8, 8, 0, 64)
    return b"GGUF" + struct.pack("<IQQ", 3, 2, 4) + metadata + tensors


class RunTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.mkdir(f"{self.folder}/bin")
        self.write_program("bin/llama-bench", PEER)
        self.write_program("sift", SIFT.replace("EXTRA", "0"))
        with open(f"{self.folder}/build.json", "w") as file:
            json.dump({"package": "peer 1", "models": self.folder}, file)
        with open(f"{self.folder}/M.Q4_1.gguf", "wb") as file:
            file.write(small_model())

    def write_program(self, name, source):
        path = f"{self.folder}/{name}"
        with open(path, "w") as file:
            file.write(f"#!{sys.executable}\n{source}")
        os.chmod(path, 0o755)

    def run_it(self, *options):
        return subprocess.run(
            [sys.executable, RUN, "--peer", self.folder, "--sift", f"{self.folder}/sift"]
            + [
                "--name",
                "M",
                "--text",
                "T",
                "--types",
                "Q4_1",
                "--output",
                f"{self.folder}/out.json",
                *options,
            ],
            capture_output=True,
            text=True,
        )

    def report(self, *options):
        result = self.run_it("--force", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(f"{self.folder}/out.json") as file:
            return json.load(file), result.stdout

    def test_ratio_is_to_the_better_flash_attention(self):
        report, output = self.report("--depths", "16")
        prefill, decode = report["rows"]
        self.assertEqual(decode["best_of_llama_cpp"], "llama.cpp fa=1")
        self.assertEqual(decode["ratios"]["sift full"]["median"], 2.5)
        self.assertEqual(decode["ratios"]["sift sift"]["median"], 4.0)
        self.assertEqual(prefill["ratios"]["sift full"]["median"], 0.3)
        self.assertIn("lowest ratio: 0.30 (Q4_1 prefill at 0, sift full)", output)

    def test_bytes_are_weights_and_cache(self):
        report, _ = self.report("--depths", "16", "--generate", "8")
        weights, cache = 8 * 4 * 2 + 8 * 8 * 4, 2 * 1 * 2 * 4 * 2
        rates = report["rows"][1]["gigabytes_per_second"]
        self.assertAlmostEqual(rates["sift full"], 50 * (weights + 20 * cache) / 1e9, places=12)
        self.assertNotIn("sift sift", rates)

    def test_programs_alternate_and_begin_in_turn(self):
        report, _ = self.report("--depths", "16", "--rounds", "2")
        decodes = [
            line for line in report["commands"] if " -n 48" in line or "bench decode" in line
        ]
        self.assertEqual(len(decodes), 8)
        self.assertIn("-fa 0", decodes[0])
        self.assertIn("-fa 1", decodes[4])

    def test_results_name_no_folder(self):
        report, _ = self.report("--depths", "0")
        self.assertNotIn(self.folder, json.dumps(report))

    def test_peer_alone(self):
        report, output = self.report("--peer-only", "--depths", "0")
        self.assertEqual(report["rows"][0]["ratios"], {})
        self.assertNotIn("lowest ratio", output)

    def test_another_number_of_tokens_is_an_error(self):
        self.write_program("sift", SIFT.replace("EXTRA", "1"))
        result = self.run_it("--force")
        self.assertEqual(result.returncode, 5)
        self.assertIn("sift bench measured 513 tokens", result.stderr)

    def test_failing_program_is_an_error(self):
        self.write_program("bin/llama-bench", "import sys\nsys.exit('no such model')")
        result = self.run_it("--force")
        self.assertEqual(result.returncode, 5)
        self.assertIn("no such model", result.stderr)

    def test_missing_files_are_errors(self):
        os.remove(f"{self.folder}/M.Q4_1.gguf")
        self.assertEqual(self.run_it("--force").returncode, 3)
        os.remove(f"{self.folder}/build.json")
        self.assertEqual(self.run_it("--force").returncode, 3)

    def test_load_is_refused_unless_forced(self):
        refused = self.run_it("--depths", "0", "--largest-load", "-1")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("load average", refused.stderr)
        forced = self.run_it("--depths", "0", "--largest-load", "-1", "--force")
        self.assertEqual(forced.returncode, 0, forced.stderr)


if __name__ == "__main__":
    unittest.main()
