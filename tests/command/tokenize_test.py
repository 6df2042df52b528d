"""Tests of sift tokenize and sift detokenize."""

import json
import time

from command_case import FOLDER, GOOD, CommandTest, run_tests, sift


class Tokens(CommandTest):
    def test_tokens_there_and_back(self):
        text = "the <|im_end|> «ünïcödé»"
        ids = json.loads(sift("tokenize", "--model", GOOD, "--text", text, "--json").stdout)
        back = sift("detokenize", "--model", GOOD, "--json", *ids["token_ids"])
        self.assertEqual(json.loads(back.stdout)["text"], text)

    def test_token_ids(self):
        self.expect(sift("detokenize", "--model", GOOD, "99999999"), 2, "99999999")
        self.expect(sift("detokenize", "--model", GOOD, "1.5"), 2, "token id is '1.5'")

    def test_megabytes_of_spaces(self):  # 41
        (FOLDER / "spaces").write_bytes(b" " * 2_000_000)
        start = time.monotonic()
        run = sift("tokenize", "--model", GOOD, "--text-file", FOLDER / "spaces", "--json")
        self.expect(run, 0)
        self.assertLess(time.monotonic() - start, 30)


if __name__ == "__main__":
    run_tests()
