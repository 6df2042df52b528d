#!/usr/bin/env python3
"""Tests of how counters and steps are joined, which need no GPU.

The sample was written by hand in ncu's format: its numbers were not measured.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import join_counters  # noqa: E402

LOG = (HERE / "join_counters_sample.csv").read_text(encoding="utf-8")
STEPS = [
    {"cell": "1x1024x4x2x128", "variant": "dense", "sparsity": 0, "union": 1, "must_read": 1048576},
    {"cell": "1x1024x4x2x128", "variant": "sift0.875", "sparsity": 0.875, "union": 0.125,
     "must_read": 589824},
]


class Join(unittest.TestCase):
    def assert_refused(self, log, reason, steps=None):
        with self.assertRaisesRegex(join_counters.NotCounted, reason):
            join_counters.join(log, STEPS if steps is None else steps)

    def test_a_step_has_what_stands_between_its_sweeps(self):
        dense, sift = join_counters.join(LOG, STEPS)
        self.assertEqual(dense, {
            "cell": "1x1024x4x2x128", "variant": "dense", "sparsity": 0, "union": 1,
            "must_read_mb": 1.049, "read_mb": 1.049, "written_mb": 0.012, "written_later_mb": 0.002,
            "ratio": 1.0,
            "kernels": {"dense_kernel": {"read_mb": 1.0, "written_mb": 0.012},
                        "merge_kernel": {"read_mb": 0.049, "written_mb": 0.0}}})
        self.assertEqual((sift["read_mb"], sift["written_later_mb"], sift["ratio"]),
                         (0.6, 0.041, 1.0173))
        self.assertEqual(list(sift["kernels"]), ["scores_kernel", "values_kernel", "merge_kernel"])

    def test_scaled_units_are_bytes_too(self):
        scaled = LOG.replace('"byte","530,000"', '"Kbyte","530.00"').replace(
            '"byte","70,000"', '"Mbyte","0.07"')
        self.assertEqual(join_counters.join(scaled, STEPS), join_counters.join(LOG, STEPS))

    def test_kernels_with_the_same_name_are_added_up(self):
        twice = LOG.replace("void values_kernel<", "void scores_kernel<")
        self.assertEqual(join_counters.join(twice, STEPS)[1]["kernels"]["scores_kernel"],
                         {"read_mb": 0.6, "written_mb": 0.001})

    def test_names_without_namespaces_and_types(self):
        for name in ("sweep_cache", "void sweep_cache<int>(T1 *)",
                     "sift::cuda::(anonymous namespace)::sweep_cache(const uint4 *)"):
            self.assertEqual(join_counters.base_name(name), "sweep_cache")

    def test_refused_counters_are_told(self):
        self.assert_refused("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access "
                            "NVIDIA GPU Performance Counters\n", "refuses its hardware counters")
        self.assert_refused("==ERROR== Profiling is not supported on this device\n",
                            "could not count bytes: Profiling is not supported on this device")

    def test_nothing_stands_in_for_what_was_not_counted(self):
        self.assert_refused(LOG.replace('"byte","70,000"', '"","n/a"'), "gave 'n/a '")
        lines = LOG.splitlines(keepends=True)
        self.assert_refused("".join(lines[:-1]), "did not count all bytes of kernel 10")
        self.assert_refused("".join(lines[:-2]), "saw 3 sweeps")
        self.assert_refused(LOG, "saw 4 sweeps", STEPS[:1])
        self.assert_refused(LOG, "printed no steps", [])
        self.assert_refused("", "saw 0 sweeps")

    def test_passes_over_filled_caches_are_refused(self):
        self.assert_refused(LOG.replace("- 1 pass", "- 2 passes", 1), "ran a kernel 2 times")


class Script(unittest.TestCase):
    """tools/gpu/decode-bytes with programs that stand in for ncu and the GPU."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.write("sift_cuda_bench", "exit 0")
        self.write("nvidia-smi", "echo 'a GPU'")

    def write(self, name, body):
        path = self.folder / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def run_script(self, path):
        return subprocess.run([HERE / "decode-bytes", "1x1024x4x2x128"], capture_output=True, text=True,
                              check=False,
                              env=os.environ | {"SIFT_GPU_PROGRAMS": str(self.folder), "PATH": path})

    def run_with_ncu(self, body):
        self.write("ncu", '[[ $1 != --version ]] || exit 0\n'
                   'while [[ $1 != --log-file ]]; do shift; done; log=$2\n' + body)
        return self.run_script(f"{self.folder}:{os.environ['PATH']}")

    def test_without_ncu_it_says_so(self):
        for name in ("bash", "dirname"):
            (self.folder / name).symlink_to(f"/usr/bin/{name}")
        done = self.run_script(str(self.folder))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("(ncu) is not installed", done.stderr)

    def test_steps_follow_the_machine_and_the_command(self):
        self.write("sift_cuda_bench",
                   "\n".join(f"echo '{json.dumps(step)}'" for step in STEPS))
        done = self.run_with_ncu(f'shift 2; cp "{HERE}/join_counters_sample.csv" "$log"; "$@"')
        self.assertEqual(done.returncode, 0, done.stderr)
        machine, *steps = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual((machine["gpu"], machine["command"]),
                         ("a GPU", "tools/gpu/decode-bytes 1x1024x4x2x128"))
        self.assertEqual(steps, join_counters.join(LOG, STEPS))

    def test_refused_counters_end_it(self):
        done = self.run_with_ncu('echo "==ERROR== ERR_NVGPUCTRPERM - no permission" >"$log"; exit 1')
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("refuses its hardware counters", done.stderr)


if __name__ == "__main__":
    unittest.main()
