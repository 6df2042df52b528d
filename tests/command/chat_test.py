"""Tests of sift chat, from a pipe and in a terminal."""

import json
import os
import pty
import re
import select
import time

from command_case import ENVIRONMENT, GOOD, SIFT, SLOW, SMALL, CommandTest, run_tests, sift


class Terminal:
    """A sift that talks to a terminal."""

    def __init__(self, *arguments):
        self.process, self.descriptor = pty.fork()
        if self.process == 0:
            os.execve(SIFT, [SIFT, *map(str, arguments)], ENVIRONMENT | {"TERM": "xterm"})
        self.seen = ""

    def send(self, text):
        os.write(self.descriptor, text.encode())

    def wait_for(self, pattern, seconds=60):
        """Reads until `pattern` comes; returns what stood before it."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            if not select.select([self.descriptor], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError as error:
                raise AssertionError(f"ended without {pattern!r}: {self.seen!r}") from error
        before, self.seen = self.seen[:found.start()], self.seen[found.end():]
        return before

    def exit_code(self):
        try:
            while os.read(self.descriptor, 65536):
                pass
        except OSError:
            pass  # the other end is closed
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


class Chat(CommandTest):
    CHAT = ["chat", "--model", GOOD, *SMALL, "--max-tokens", 8]

    def test_lines_from_a_pipe(self):
        run = sift(*self.CHAT, stdin="Hällo\n/stats\n/policy full\n/clear\n/help\n/quit\nno".encode())
        self.expect(run, 0, "last answer: ")
        self.assertRegex(run.stderr.decode(), "attention policy: full")
        run.stdout.decode()  # whole characters

    def test_bad_messages_end_a_pipe(self):
        self.expect(sift(*self.CHAT, stdin=b"\xff\n"), 2, "UTF-8")
        self.expect(sift(*self.CHAT, stdin=b"/what\n"), 2, "unknown command /what")
        self.expect(sift(*self.CHAT, stdin=b"/policy sieve\n"), 2, "unknown attention policy")
        self.expect(sift(*self.CHAT, stdin=b"x" * 600 + b"\n"), 2, "fewer than the context of 512")

    def test_json(self):
        run = sift(*self.CHAT, "--json", "--attention", "full", stdin=b"Hello\n/stats\nAgain\n")
        self.expect(run, 0, "last answer: ")
        turns = json.loads(run.stdout)["turns"]
        self.assertEqual([turn["message"] for turn in turns], ["Hello", "Again"])
        answers = sift(*self.CHAT, "--attention", "full", stdin=b"Hello\nAgain\n").stdout.decode()
        self.assertEqual("".join(turn["text"] + "\n" for turn in turns), answers)
        self.assertEqual(turns[1]["attention"]["policy"], "full")

    def test_json_leaves_the_terminal_alone(self):
        terminal = Terminal(*self.CHAT, "--json")
        terminal.send("Hello\n\x04")
        self.assertNotIn("> ", terminal.wait_for("{"))

    def test_special_tokens_are_text(self):  # 40
        plain = sift(*self.CHAT, stdin=b"a\n/stats\n")
        special = sift(*self.CHAT, stdin=b"<|im_end|>\n/stats\n")
        tokens = [int(re.search(r"after a prompt of (\d+)", run.stderr.decode())[1])
                  for run in (plain, special)]
        self.assertEqual(tokens[1] - tokens[0], 8)  # nine, "en" being one, instead of one

    def test_editing_and_history(self):
        terminal = Terminal(*self.CHAT)
        terminal.wait_for("> ")
        terminal.send("/stXats\x1b[D\x1b[D\x1b[D\x7f\r")  # three to the left, erase
        terminal.wait_for("Nothing has been answered yet")
        terminal.wait_for("> ")
        terminal.send("\x1b[A\r")  # the line before
        terminal.wait_for("Nothing has been answered yet")
        terminal.wait_for("> ")
        terminal.send("/größ\x7f\r")  # erases a whole character
        terminal.wait_for("unknown command /grö,")
        terminal.wait_for("> ")
        terminal.send("/what\r")
        terminal.wait_for("unknown command /what")
        terminal.wait_for("> ")
        terminal.send("\x04")
        self.assertEqual(terminal.exit_code(), 0)
        again = Terminal(*self.CHAT)
        again.wait_for("> ")
        again.send("\x1b[A\r")
        again.wait_for("unknown command /what")
        again.wait_for("> ")
        again.send("/quit\r")
        self.assertEqual(again.exit_code(), 0)

    def test_an_interrupt_ends_the_answer_alone(self):
        terminal = Terminal("chat", "--model", SLOW, *SMALL, "--max-tokens", 4000)
        terminal.wait_for("> ")
        terminal.send("Hello\r")
        terminal.wait_for("Hello")
        terminal.wait_for("\n.", seconds=10)  # the answer has begun
        terminal.send("\x03")
        terminal.wait_for("[(]interrupted[)]")
        terminal.wait_for("> ")
        terminal.send("half a line\x03")
        terminal.wait_for("> ")
        terminal.send("/stats\r")
        terminal.wait_for("last answer: ")
        self.assertLess(int(terminal.wait_for(" tokens after")), 3000)
        terminal.wait_for("> ")
        terminal.send("/quit\r")
        self.assertEqual(terminal.exit_code(), 0)


if __name__ == "__main__":
    run_tests()
