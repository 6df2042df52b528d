"""What the tests of the sift command share: they run it as a person does, on small models, and
look at exit codes and messages.

    NAME_test.py SIFT MODELS [unittest arguments]

MODELS is the folder that sift_test_models filled. Numbers behind cases are those of the project's
list of bad inputs.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SIFT = sys.argv[1]
MODELS = pathlib.Path(sys.argv[2])
SCRATCH = tempfile.TemporaryDirectory()
FOLDER = pathlib.Path(SCRATCH.name)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
                            "SIFT_HOME": str(FOLDER / "home"), "LC_ALL": "C.UTF-8"}
GOOD = MODELS / "good.gguf"
SLOW = MODELS / "slow.gguf"
SMALL = ["--backend", "reference", "--threads", "1"]


def sift(*arguments, stdin=b"", stdout=subprocess.PIPE, **environment):
    return subprocess.run([SIFT, *map(str, arguments)], input=stdin, stdout=stdout,
                          stderr=subprocess.PIPE, env=ENVIRONMENT | environment, timeout=300,
                          check=False)


def generate(*arguments, prompt="Hello there", model=GOOD, **options):
    return sift("generate", "--model", model, *SMALL, "--prompt", prompt, "--max-tokens", 4,
                *arguments, **options)


class CommandTest(unittest.TestCase):
    def expect(self, run, code, message="^"):
        errors = run.stderr.decode()
        self.assertEqual(run.returncode, code, errors)
        self.assertRegex(errors, message)
        if code not in (0, 130):
            self.assertEqual(len(re.findall(r"^error: ", errors, re.MULTILINE)), 1, errors)

    def expect_cases(self, code, cases):
        for arguments, message in cases:
            with self.subTest(arguments=arguments):
                self.expect(sift(*arguments), code, message)


def commands():
    """All commands, from the manual."""
    text = sift("manual").stdout.decode()
    return [name.replace("\\-", "-") for name in re.findall(r"^\.SS sift (.*)$", text, re.MULTILINE)]


def run_tests():
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
