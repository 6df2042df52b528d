"""Tests of where results go: files, pipes, a full disk."""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import time

from command_case import (ENVIRONMENT, FOLDER, GOOD, MODELS, SIFT, SLOW, SMALL, CommandTest,
                          generate, run_tests, sift)


class Output(CommandTest):
    def test_a_full_disk(self):
        with open("/dev/full", "wb") as full:
            for arguments in (["policies"], ["--version"], ["--help"], ["manual"],
                              ["completion", "bash"], ["inspect", GOOD],
                              ["tokenize", "--model", GOOD, "--text", "a"],
                              ["generate", "--model", GOOD, *SMALL, "--prompt", "a", "--json"]):
                with self.subTest(arguments=arguments):
                    self.expect(sift(*arguments, stdout=full), 4,
                                "writing to standard output failed")
        self.expect(generate("--output", "/dev/full"), 4, "writing to /dev/full failed")

    def test_an_unwritable_file_is_found_before_loading(self):  # 57
        # The model is bad, and not even looked at.
        self.expect(generate("--output", FOLDER / "no" / "such", model=MODELS / "magic.gguf"), 4,
                    "cannot write .*/no/such")

    def test_a_run_that_fails_leaves_an_older_file(self):
        output = FOLDER / "older.json"
        output.write_text("older")
        for model, code in ((MODELS / "magic.gguf", 3), (GOOD, 0)):
            self.assertEqual(output.read_text(), "older")
            self.expect(generate("--output", output, model=model), code)
            self.assertEqual(list(FOLDER.glob("older.json*")), [output])
        self.assertIn("token_ids", json.loads(output.read_text()))

    def test_an_output_that_is_a_link_or_no_file(self):
        link = FOLDER / "link.json"
        link.symlink_to("linked.json")
        self.expect(generate("--output", link), 0)
        self.assertTrue(link.is_symlink())
        self.assertIn("token_ids", json.loads((FOLDER / "linked.json").read_text()))
        self.expect(generate("--output", "/dev/null"), 0)
        self.assertTrue(pathlib.Path("/dev/null").is_char_device())
        self.expect(generate("--output", FOLDER), 4, "cannot write")

    def test_an_output_that_cannot_be_renamed(self):
        output = FOLDER / "renamed.json"
        process = subprocess.Popen([SIFT, "generate", "--model", SLOW, *SMALL, "--prompt", "a",
                                    "--max-tokens", "4000", "--output", output], env=ENVIRONMENT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)  # it has begun
        output.mkdir()
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1].decode()
        self.assertEqual(process.returncode, 4, errors)
        self.assertRegex(errors, "error: cannot rename .*renamed.json.part to .*: Is a directory")
        self.assertFalse((FOLDER / "renamed.json.part").exists())

    def test_messages_that_cannot_be_written_end_nothing(self):
        for redirection in ("2>/dev/full", "2>&-"):
            for arguments, code in ((["tokenize", "--model", GOOD, "--text", "a"], 0),
                                    (["inspect", "no-such-model"], 3),
                                    (["generate", "--model", GOOD, *SMALL, "--prompt", "a",
                                      "--max-tokens", 2, "--output", FOLDER / "quiet.json"], 0)):
                with self.subTest(redirection=redirection, arguments=arguments):
                    run = subprocess.run(["sh", "-c", f'"$@" {redirection}', "sh", SIFT,
                                          *map(str, arguments)], env=ENVIRONMENT, timeout=60,
                                         stdout=subprocess.DEVNULL, check=False)
                    self.assertEqual(run.returncode, code)
            json.loads((FOLDER / "quiet.json").read_text())  # no message went into it

    def test_an_interrupt_while_a_pipe_is_full_loses_nothing(self):
        reader, writer = os.pipe()
        filling = b"." * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writer, filling)
        process = subprocess.Popen(
            [SIFT, "generate", "--model", SLOW, *SMALL, "--prompt", "a", "--max-tokens", "4000",
             "--output", FOLDER / "whole.json"], env=ENVIRONMENT, stdout=writer,
            stderr=subprocess.PIPE)
        os.close(writer)
        process.stderr.readline()  # the model is loaded
        time.sleep(1)  # the first token waits for room in the pipe
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        with open(reader, "rb") as pipe:
            text = pipe.read()[len(filling):].decode()
        errors = process.communicate(timeout=60)[1].decode()
        self.assertEqual(process.returncode, 130, errors)
        self.assertEqual(text, json.loads((FOLDER / "whole.json").read_text())["text"] + "\n")


if __name__ == "__main__":
    run_tests()
