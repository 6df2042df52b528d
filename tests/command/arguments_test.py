"""Tests of arguments: what is refused, and with which message."""

from command_case import GOOD, SMALL, CommandTest, commands, generate, run_tests, sift


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


if __name__ == "__main__":
    run_tests()
