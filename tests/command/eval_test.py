"""Tests of `sift eval`: what its files hold, that a run goes on, and what is refused."""

import json
import resource
import signal
import subprocess
import time

from command_case import (ENVIRONMENT, FOLDER, GOOD, MODELS, SIFT, SLOW, SMALL, CommandTest,
                          run_tests, sift)


def write(name, lines):
    path = FOLDER / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


GSM8K = write("gsm8k.jsonl", [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"}
                              for i in range(6)])
IFEVAL = write("ifeval.jsonl", [{"key": 7, "prompt": "Use no commas.", "kwargs": [{}],
                                 "instruction_id_list": ["punctuation:no_comma"]}])
MATH = write("math.jsonl", [{"problem": f"What is {i}?", "level": "Level 5", "type": "Algebra",
                             "solution": f"It is $\\boxed{{{i}}}$."} for i in range(3)])
LONG = FOLDER / "long.json"
LONG.write_text(json.dumps([{"prompt": "Write.\n#*# Week 1:", "type": "Week", "number": 2,
                             "prefix": "#*# Week 1:", "checks_once": {"2": "a party"},
                             "checks_range": {}, "checks_periodic": {}}]))
DATA = {"gsm8k": GSM8K, "ifeval": IFEVAL, "math-hard": MATH, "longgenbench": LONG}


class Eval(CommandTest):
    def setUp(self):
        self.out = FOLDER / "completions.jsonl"
        self.out.unlink(missing_ok=True)

    def command(self, task, *arguments, model=GOOD, tokens=4):
        return ["eval", task, "--data", DATA[task], "--model", model, *SMALL, "--completions",
                self.out, "--max-tokens", tokens, *arguments]

    def samples(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()][1:]

    def settings(self):
        return json.loads(self.out.read_text().splitlines()[0])["settings"]

    def test_every_task(self):
        arguments = {"math-hard": ["--examples", MATH, "--shots", 2, "--limit", 2]}
        for task in DATA:
            with self.subTest(task=task):
                self.out.unlink(missing_ok=True)
                run = sift(*self.command(task, *arguments.get(task, []), "--json"))
                self.expect(run, 0)
                report = json.loads(run.stdout)
                samples = self.samples()
                self.assertEqual(report["samples"], len(samples))
                self.assertEqual(report["generated_tokens"],
                                 sum(sample["generated_tokens"] for sample in samples))
                for sample in samples:
                    self.assertIn("realised_sparsity_after_warmup", sample["attention"])
                    self.assertLessEqual(sample["generated_tokens"], 4)
                self.assertEqual(self.settings()["task"], task)
                self.assertEqual(self.settings(), report["settings"])
        self.assertEqual(self.settings()["format"], "plain")  # longgenbench's own
        self.assertEqual(self.settings()["temperature"], 0.95)
        self.assertEqual(self.samples()[0]["prompt"], "Write.\n#*# Week 1:")

    def test_worked_examples_stand_before_the_question(self):
        self.expect(sift(*self.command("math-hard", "--examples", MATH, "--shots", 1, "--limit", 1)), 0)
        [sample] = self.samples()
        turn = "<|im_start|>{}\n{}<|im_end|>\n".format
        question = "Problem:\n{}\n\nSolution:".format
        self.assertEqual(sample["prompt"],
                         turn("user", question("What is 0?")) + turn("assistant", "It is $\\boxed{0}$.")
                         + turn("user", question(sample["document"]["problem"]))
                         + "<|im_start|>assistant\n")

    def test_plain_prompts(self):
        self.expect(sift(*self.command("gsm8k", "--examples", GSM8K, "--shots", 1, "--limit", 1,
                                       "--format", "plain")), 0)
        [sample] = self.samples()
        self.assertEqual(sample["prompt"], "Question: What is 0 + 1?\nAnswer: #### 1\n\nQuestion: "
                                           f"{sample['document']['question']}\nAnswer:")

    def test_a_model_without_a_template(self):
        model = MODELS / "no_chat_template.gguf"
        self.expect(sift(*self.command("gsm8k", model=model)), 3,
                    "sample . of gsm8k: .*has no tokenizer.chat_template")
        self.assertFalse(self.out.exists())
        self.expect(sift(*self.command("gsm8k", "--format", "plain", model=model)), 0)

    def test_a_run_that_was_killed_goes_on(self):
        command = [SIFT, *map(str, self.command("gsm8k", "--seed", 5, model=SLOW, tokens=40))]
        sift(*command[1:])
        whole = [(sample["index"], sample["token_ids"]) for sample in self.samples()]
        self.assertEqual(sorted(index for index, _ in whole), list(range(6)))
        self.out.unlink()
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL)
        while not self.out.exists() or self.out.read_text().count("\n") < 3:
            time.sleep(0.01)
            self.assertIsNone(process.poll(), "it ended before it could be killed")
        process.kill()
        process.wait()
        part = self.out.read_text()
        self.assertLess(part.count("\n"), 7)
        run = sift(*command[1:])
        self.expect(run, 0, r"completions.jsonl: \d of 6 samples are finished")
        self.assertTrue(self.out.read_text().startswith(part[:part.rindex("\n") + 1]))
        self.assertEqual([(sample["index"], sample["token_ids"]) for sample in self.samples()], whole)

    def test_an_interrupted_run(self):
        process = subprocess.Popen([SIFT, *map(str, self.command("gsm8k", "--json", model=SLOW,
                                                                 tokens=2000))],
                                   env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.readline()  # the model is loaded
        process.stderr.readline()  # the first sample begins
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertRegex(errors.decode(), "interrupted: the same command goes on after the 0 samples")
        self.assertEqual(json.loads(output)["samples"], 0)
        self.assertFalse(self.out.exists())

    def test_a_finished_run_needs_no_model_to_report(self):
        command = self.command("ifeval", "--json")
        first = sift(*command)
        before = self.out.read_bytes()
        second = sift(*command)
        self.expect(second, 0, "1 of 1 samples are finished")
        self.assertEqual(second.stdout, first.stdout)
        self.assertEqual(self.out.read_bytes(), before)
        self.assertNotIn("backend", second.stderr.decode())

    def test_other_settings_are_refused(self):
        self.expect(sift(*self.command("gsm8k", "--limit", 2)), 0)
        before = self.out.read_bytes()
        for arguments, message in (
                (["--attention", "full"], "attention is sift:gate=off there and full here"),
                (["--seed", 1], "seed is 0 there and 1 here"),
                (["--limit", 3], "limit is 2 there and 3 here"),
                (["--cache-type", "f32"], "cache_type is f16 there and f32 here"),
                (["--temperature", 1], "temperature is 0.0 there and 1.0 here"),
                (["--top-p", 0.5], "top_p is 1.0 there and 0.5 here"),
                (["--format", "plain"], "format is chat there and plain here"),
                (["--model", SLOW], "model is good.gguf there and slow.gguf here"),
                (["--examples", GSM8K, "--shots", 1], "data_hash is .*; shots is 0 there and 1 here")):
            with self.subTest(arguments=arguments):
                command = self.command("gsm8k")
                if arguments[0] == "--model":
                    command[command.index("--model") + 1] = arguments[1]
                    arguments = []
                limit = [] if "--limit" in arguments else ["--limit", 2]
                self.expect(sift(*command, *limit, *arguments), 2,
                            f"completions.jsonl holds another run: .*{message}")
        self.assertEqual(self.out.read_bytes(), before)

    def test_what_cannot_be(self):
        bad = FOLDER / "bad.jsonl"
        bad.write_text('{"question": "a", "answer": "b"}\n{"question": \n')
        short = write("short.jsonl", [{"question": "a"}])
        empty = write("empty.jsonl", [])
        gsm8k = ["eval", "gsm8k", "--completions", self.out, "--model", MODELS / "magic.gguf"]
        self.expect_cases(2, [
            (["eval", "mmlu", "--data", GSM8K, "--completions", self.out], "unknown task 'mmlu'; known"),
            (["eval", "gsm8k", "--data", GSM8K], "--completions is required"),
            (["eval", "gsm8k", "--completions", self.out], "--data is required"),
            ([*gsm8k, "--data", GSM8K, "--limit", 7], "7 samples asked for, but the data of gsm8k has 6"),
            ([*gsm8k, "--data", GSM8K, "--limit", -1], "--limit is '-1'"),
            ([*gsm8k, "--data", GSM8K, "--top-p", 0], "--top-p is '0'"),
            ([*gsm8k, "--data", GSM8K, "--attention", "sieve"], "unknown attention policy"),
            ([*gsm8k, "--data", GSM8K, "--shots", 1], "1 worked examples .*, expected a file of them"),
            ([*gsm8k, "--data", GSM8K, "--shots", 7, "--examples", GSM8K],
             "7 worked examples asked for, but .*gsm8k.jsonl has 6"),
        ])
        self.expect_cases(3, [
            ([*gsm8k, "--data", empty], "empty.jsonl: holds no sample"),
            ([*gsm8k, "--data", bad], "bad.jsonl: line 2: not JSON"),
            ([*gsm8k, "--data", short], "short.jsonl: line 1: key 'answer' is missing"),
            ([*gsm8k, "--data", GSM8K], "magic at offset 0"),
        ])
        self.expect(sift(*gsm8k, "--data", FOLDER / "none"), 4, "cannot read .*none")
        self.assertFalse(self.out.exists())

    def test_what_does_not_fit_the_context(self):
        self.expect(sift(*self.command("gsm8k", tokens=500)), 2,
                    "sample . of gsm8k: a prompt of .* tokens and 500 new ones do not fit the context of 512")
        self.expect(sift(*self.command("gsm8k", "--attention", "sift:warmup=512")), 2, "'warmup'")
        self.expect(sift(*self.command("gsm8k", "--attention", "sift:paper,warmup=200")), 2,
                    "warmup is 200, expected at most 128")
        self.assertFalse(self.out.exists())

    def test_a_file_that_cannot_be_written_is_found_first(self):
        # The model is bad, and not even looked at.
        for path, message in ((FOLDER / "no" / "such", "cannot write .*such: No such file"),
                              (FOLDER, "it is there and no file"), ("/dev/full", "no file")):
            with self.subTest(path=path):
                self.expect(sift("eval", "gsm8k", "--data", GSM8K, "--completions", path, "--model",
                                 MODELS / "magic.gguf"), 4, message)
        self.expect(sift(*self.command("gsm8k", "--output", FOLDER / "no" / "such")), 4, "cannot write")
        self.out.write_text("my notes\n")
        self.expect(sift(*self.command("gsm8k")), 3, "so this is no file of completions")
        self.assertEqual(self.out.read_text(), "my notes\n")

    def test_a_write_that_fails_leaves_whole_lines(self):
        sift(*self.command("gsm8k"))
        lines = self.out.read_text().splitlines(keepends=True)
        self.out.unlink()
        room = len("".join(lines[:3])) + 300

        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        run = subprocess.run([SIFT, *map(str, self.command("gsm8k"))], preexec_fn=limited,
                             env=ENVIRONMENT, capture_output=True, check=False)
        self.assertEqual(run.returncode, 4, run.stderr)
        self.assertRegex(run.stderr.decode(), "error: cannot write .*completions.jsonl: File too large")
        indices = [sample["index"] for sample in self.samples()]
        self.assertEqual(indices, [json.loads(line)["index"] for line in lines[1:3]])
        self.assertTrue(self.out.read_text().endswith("\n"))
        self.expect(sift(*self.command("gsm8k")), 0, "2 of 6 samples are finished")
        self.assertEqual(len(self.samples()), 6)


if __name__ == "__main__":
    run_tests()
