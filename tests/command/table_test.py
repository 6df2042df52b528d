"""Tests of what comes out of the table of options, and of the list of policies."""

import json
import re
import subprocess

from command_case import CommandTest, commands, run_tests, sift


class Table(CommandTest):
    """Help, manual and completion come from one table: what --help shows is in all of them."""

    def test_every_option_is_in_manual_and_completion(self):
        manual = sift("manual").stdout.decode().replace("\\-", "-")
        scripts = {shell: sift("completion", shell).stdout.decode()
                   for shell in ("bash", "zsh", "fish")}
        self.assertGreater(len(commands()), 12)
        for command in commands():
            text = sift(*command.split(), "--help").stdout.decode()
            options = re.findall(r"^  (?:-\w,)?(--[a-z-]+)", text, re.MULTILINE)
            self.assertIn("--help", options)
            section = manual.split(f".SS sift {command}\n")[1].split(".SS")[0]
            for option in options:
                with self.subTest(command=command, option=option):
                    self.assertIn(f"\\fB{option}\\fR", section)
                    if option != "--help":
                        self.assertTrue(self.bash_completes(scripts["bash"], command, option))
                    self.assertIn(option, scripts["zsh"])
                    self.assertIn(f"-l {option[2:]}", scripts["fish"])

    @staticmethod
    def bash_completes(script, command, prefix):
        words = ["sift", *command.split(), prefix]
        line = " ".join(f"'{word}'" for word in words)
        program = (f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _sift; "
                   "printf '%s\\n' \"${COMPREPLY[@]}\"")
        found = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        return prefix in found.stdout.split("\n")

    def test_bash_completes_values(self):
        script = sift("completion", "bash").stdout.decode()
        self.assertTrue(self.bash_completes(script, "generate --backend", "reference"))
        self.assertTrue(self.bash_completes(script, "chat --attention", "sift"))
        self.assertTrue(self.bash_completes(script, "", "generate"))

    def test_the_manual_is_roff_without_warnings(self):
        manual = sift("manual").stdout
        try:
            run = subprocess.run(["groff", "-man", "-ww", "-z"], input=manual, capture_output=True,
                                 check=True)
        except FileNotFoundError:
            self.skipTest("groff is not installed")
        self.assertEqual(run.stderr, b"")


class Policies(CommandTest):
    def test_policies(self):
        report = json.loads(sift("policies", "--json").stdout)
        self.assertIn("sift", [policy["name"] for policy in report["policies"]])
        self.assertIn("tau", [option["name"] for option in report["options"]])


if __name__ == "__main__":
    run_tests()
