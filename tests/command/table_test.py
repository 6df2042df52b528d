"""Tests of what comes out of the table of options, and of the list of policies."""

import json
import re
import subprocess

from command_case import GOOD, CommandTest, commands, run_tests, sift


class Table(CommandTest):
    """Help, manual and completion come from one table: what --help shows is in all of them."""

    def test_every_option_is_in_manual_and_completion(self):
        manual = sift("manual").stdout.decode().replace("\\-", "-")
        scripts = {shell: sift("completion", shell).stdout.decode()
                   for shell in ("bash", "zsh", "fish")}
        self.assertGreater(len(commands()), 12)
        for command in commands():
            text = sift(*command.split(), "--help").stdout.decode()
            options = re.findall(r"^  (?:-\w,)?(--[a-z0-9-]+)", text, re.MULTILINE)
            self.assertIn("--help", options)
            section = manual.split(f".SS sift {command}\n")[1].split(".SS")[0]
            for option in options:
                with self.subTest(command=command, option=option):
                    self.assertIn(f"\\fB{option}\\fR", section)
                    if option != "--help":
                        self.assertTrue(self.bash_completes(scripts["bash"], command, option))
                    self.assertIn(option, scripts["zsh"])
                    self.assertIn(f"-l {option[2:]}", scripts["fish"])

    def test_every_command_takes_the_common_options(self):
        for command in commands():
            if command in ("analyze", "bench", "study"):
                continue  # its commands do
            text = sift(*command.split(), "--help").stdout.decode()
            for option in ("--model", "--threads", "--affinity", "--attention", "--log-level",
                           "--json", "--output"):
                with self.subTest(command=command, option=option):
                    self.assertRegex(text, rf"\n  {option}\b")

    def test_options_without_a_use_are_checked(self):
        common = {"--model": GOOD, "--threads": 1, "--affinity": 0, "--attention": "full"}
        refused = {"--model": ("no-such-model", 3, "no model file at no-such-model"),
                   "--threads": ("0", 2, "--threads is '0', expected an integer from 1 to 1024"),
                   "--affinity": ("x", 2, "processor list 'x'"),
                   "--attention": ("sieve", 2, "unknown attention policy 'sieve'")}
        without_a_use = {"manual": list(common), "completion bash": list(common),
                         "policies": ["--model", "--threads", "--affinity"],
                         "pull": ["--threads", "--affinity", "--attention"],
                         "tokenize --text a": ["--threads", "--affinity", "--attention"],
                         "detokenize 1": ["--threads", "--affinity", "--attention"],
                         "inspect": ["--affinity"]}
        for command, options in without_a_use.items():
            model = [] if "--model" in options or command == "pull" else ["--model", GOOD]
            help_text = sift(*command.split(), "--help").stdout.decode()
            for option in options:
                with self.subTest(command=command, option=option):
                    self.assertRegex(help_text, rf"{option} .*checked, but changes nothing here")
                    self.expect(sift(*command.split(), *model, option, common[option]), 0)
                    value, code, message = refused[option]
                    self.expect(sift(*command.split(), *model, option, value), code, message)

    def test_manual_and_completion_as_json(self):
        for command, member in ((["manual"], "manual"), (["completion", "fish"], "script")):
            report = json.loads(sift(*command, "--json").stdout)
            self.assertEqual(report, {member: sift(*command).stdout.decode()})

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

    def test_what_one_policy_is_set_to(self):
        policy = ["policies", "--attention", "sift:paper,tau=0.9"]
        report = json.loads(sift(*policy, "--json").stdout)
        self.assertEqual(report["policy"], "sift:paper,tau=0.9")
        self.assertEqual(report["options"]["tau"], "0.9")
        self.assertEqual(report["options"]["warmup"], "128")
        self.assertRegex(sift(*policy).stdout.decode(), r"\n  tau +0.9\n")
        self.expect(sift("policies", "--attention", "sieve"), 2, "unknown attention policy")


if __name__ == "__main__":
    run_tests()
